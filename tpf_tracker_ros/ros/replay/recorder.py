"""Collects what a node publishes, as it came over the wire, with the moment of its arrival."""

from collections.abc import Mapping
from functools import partial
import time
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from tpf_tracker_ros.bags.writer import BagWriter
from tpf_tracker_ros.ros.replay.player import header_stamp

DEPTH = 100


class Arrival(NamedTuple):
    """One message: its header stamp in ns and its arrival, time.perf_counter() seconds."""

    stamp: int
    time: float
    data: bytes


class Recorder:
    """
    Subscribes to topics, keeps their messages, and writes them to a bag.

    topics: full name -> message class; all messages must begin with a header.
    bag: an open BagWriter, or None. Its time is the header's stamp, so that what was recorded
        lines up with the images it was computed from. Images go there alone: 30 a second would
        soon fill the memory. Diagnostics are kept alone: they are stamped with today's time,
        and a bag that lasts from the recording until today cannot be played.

    The messages arrive in whatever thread spins the node.
    """

    def __init__(self, node: Node, topics: Mapping[str, type], *, bag: BagWriter | None) -> None:
        self._node, self._topics, self._bag = node, topics, bag
        self._subscriptions = []
        self.arrivals: dict[str, list[Arrival]] = {name: [] for name in topics}
        for name, kind in topics.items():
            # Best effort hears both kinds of publisher, but only boxes must not be lost.
            reliability = (
                ReliabilityPolicy.BEST_EFFORT if kind is Image else ReliabilityPolicy.RELIABLE
            )
            qos = QoSProfile(depth=DEPTH, reliability=reliability)
            arrived = partial(self._arrived, name)
            self._subscriptions.append(
                node.create_subscription(kind, name, arrived, qos, raw=True)
            )

    def close(self) -> None:
        """Listen no more; what came stays."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _arrived(self, name: str, data: bytes) -> None:
        kind = self._topics[name]
        arrival = Arrival(header_stamp(data), time.perf_counter(), data)
        if self._bag and kind is not DiagnosticArray:
            type_name = f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
            self._bag.write_serialized(name, type_name, data, arrival.stamp)
        self.arrivals[name].append(arrival._replace(data=b'') if kind is Image else arrival)

    def messages(self, name: str) -> list:
        """Get the messages of a topic (not of an image topic), in the order in which they came."""
        return [deserialize_message(each.data, self._topics[name]) for each in self.arrivals[name]]
