import os
import struct
import time

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.ros.graph import spinning_node
from tpf_tracker_ros.ros.replay.player import header_stamp, Player

RGB, THERMAL = '/rgb/image_raw', '/thermal/image_raw'
PERIOD = 33_333_333
START = 1_700_000_000_000_000_000


def image(stamp: int, size: int = 20_000) -> bytes:
    message = Image(height=1, width=size, step=size, encoding='mono8', data=os.urandom(size))
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    return serialize_message(message)


def recording(frames: int) -> list[tuple[str, int, bytes]]:
    times = [START + number * PERIOD for number in range(frames)]
    return [(topic, at, image(at - 5_000_000)) for at in times for topic in (RGB, THERMAL)]


def subscribe(node, received: dict) -> None:
    qos = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
    for topic in (RGB, THERMAL):
        received[topic] = []
        node.create_subscription(Image, topic, received[topic].append, qos, raw=True)


@pytest.mark.parametrize('reliable', [False, True])
def test_every_byte_arrives_at_the_recorded_pace(reliable):
    messages, received = recording(30), {}
    with spinning_node('test_player') as (node, _):
        subscribe(node, received)
        clocks = []
        node.create_subscription(Clock, '/clock', clocks.append, 100)
        topics = {RGB: Image, THERMAL: Image}
        player = Player(node, topics, reliable=reliable, clock=True)
        player.wait_for_subscribers(10)
        begin = time.perf_counter()
        played = player.play(iter(messages), rate=2)
        seconds = time.perf_counter() - begin
        time.sleep(0.2)
    for topic in topics:
        assert received[topic] == [data for name, _, data in messages if name == topic]
    assert seconds == pytest.approx(29 * PERIOD / 1e9 / 2, abs=0.2)
    assert played.lateness_ms(50) < 10
    assert played.times.keys() == {(topic, at - 5_000_000) for topic, at, _ in messages}
    assert clocks[-1].clock.sec * 10**9 + clocks[-1].clock.nanosec == messages[-1][1]


def test_a_recording_that_breaks_off_is_played_up_to_there():
    def broken():
        yield from recording(3)
        raise TpfError('the bag ends here')

    received = {}
    with spinning_node('test_player') as (node, _):
        subscribe(node, received)
        player = Player(node, {RGB: Image, THERMAL: Image})
        player.wait_for_subscribers(10)
        with pytest.raises(TpfError, match='ends here'):
            player.play(broken())
        time.sleep(0.2)
    assert len(received[RGB]) == 3


def test_nobody_listening_is_told():
    with spinning_node('test_player') as (node, _):
        player = Player(node, {RGB: Image})
        with pytest.raises(TpfError, match='nobody subscribed to /rgb/image_raw'):
            player.wait_for_subscribers(0.2)


@pytest.mark.parametrize('order', '<>')
def test_stamps_are_read_in_either_byte_order(order):
    data = bytes([0, order == '<', 0, 0]) + struct.pack(f'{order}iI', 12, 34)
    assert header_stamp(data) == 12_000_000_034
