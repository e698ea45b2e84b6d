"""
Plays recorded messages into a live graph at the pace at which they were recorded.

Messages go out serialised, exactly as they lie in the bag: stamps, padding and all, and nothing
is decoded on the way (measured: publishing a 1 MB image costs 0.25 ms, as much as a message whose
`data` is a pre-filled array.array, without the decoding before it). A thread reads ahead, so that
the disk and the decompression of a chunk do not disturb the timing.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
import struct
import time

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from tpf_tracker_ros.ros.graph import wait_until

DEPTH = 10
READ_AHEAD = 32  # messages: half a second of two cameras, about 30 MB


def header_stamp(data: bytes) -> int:
    """
    Return the stamp in ns of a serialised message that begins with a std_msgs/Header.

    data: CDR with its 4 bytes of encapsulation, of which the second tells the byte order.
    """
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return seconds * 1_000_000_000 + nanoseconds


@dataclass
class Played:
    """
    What went out.

    times: (topic, header stamp in ns) -> moment of publishing, time.perf_counter() seconds.
    lateness: seconds behind the schedule, one for each message.
    """

    times: dict[tuple[str, int], float] = field(default_factory=dict)
    lateness: list[float] = field(default_factory=list)

    def lateness_ms(self, percent: float) -> float:
        """Percentile of the lateness in ms."""
        return 1e3 * float(np.percentile(self.lateness, percent)) if self.lateness else 0.0


class Player:
    """
    Publishes recorded messages on the topics they were recorded on.

    topics: name -> message class. All messages must begin with a header.
    reliable: best effort otherwise, as cameras publish.
    clock: publish the time of each message on /clock before it.
    """

    def __init__(
        self,
        node: Node,
        topics: Mapping[str, type],
        *,
        reliable: bool = False,
        clock: bool = False,
    ) -> None:
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=DEPTH, reliability=reliability)
        self.topics = tuple(topics)
        self._reliable = reliable
        self._publishers = {
            name: node.create_publisher(message, name, qos) for name, message in topics.items()
        }
        self._clock = node.create_publisher(Clock, '/clock', DEPTH) if clock else None

    def wait_for_subscribers(
        self, timeout: float, *, check: Callable[[], None] = lambda: None
    ) -> None:
        """
        Wait until each topic has a subscriber; check is called meanwhile and may raise.

        Raises TpfError after timeout seconds.
        """
        names = ', '.join(self._publishers)
        wait_until(
            lambda: all(each.get_subscription_count() for each in self._publishers.values()),
            timeout,
            f'nobody subscribed to {names} within {timeout:g} s; is the subscriber running, with '
            'the same ROS_DOMAIN_ID and these topic names?',
            check=check,
        )

    def play(
        self,
        messages: Iterable[tuple[str, int, bytes]],
        *,
        rate: float = 1.0,
        progress: Callable[[], object] = lambda: None,
    ) -> Played:
        """
        Publish (topic, time in ns, serialised message) in time order, rate times as fast.

        progress is called after each message.
        """
        played = Played()
        first = start = None
        for topic, recorded, data in _read_ahead(messages):
            if first is None:
                first, start = recorded, time.perf_counter()
            due = start + (recorded - first) / 1e9 / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            if self._clock:
                self._clock.publish(Clock(clock=Time(nanoseconds=recorded).to_msg()))
            now = time.perf_counter()
            self._publishers[topic].publish(data)
            played.times[topic, header_stamp(data)] = now
            played.lateness.append(now - due)
            progress()
        if self._reliable:
            for publisher in self._publishers.values():
                publisher.wait_for_all_acked(Duration(seconds=5))
        return played


def _read_ahead(items: Iterable) -> Iterator:
    """Return the same items, fetched by a thread of their own; its exceptions are raised here."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as reader:
        fetched = deque(reader.submit(next, iterator, end) for _ in range(READ_AHEAD))
        while (item := fetched.popleft().result()) is not end:
            fetched.append(reader.submit(next, iterator, end))
            yield item
