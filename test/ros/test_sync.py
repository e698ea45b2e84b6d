"""Pairing of messages by message_filters."""

import importlib.util

import pytest
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.ros.conversion import Frame, nanoseconds
from tpf_tracker_ros.ros.sync import UpstreamPairer

PERIOD = 33_333_333
upstream = pytest.mark.skipif(
    importlib.util.find_spec('message_filters') is None,
    reason='message_filters is not installed (it comes with a ROS 2 installation)',
)


def message(index, skew=0):
    return Image(header=Header(stamp=Time(nanoseconds=10**18 + index * PERIOD + skew).to_msg()))


@upstream
def test_upstream_pairs_and_survives_a_loop():
    pairer = UpstreamPairer(slop_ns=15_000_000)
    pairs = []
    for _ in range(2):
        for index in range(20):
            for stream, skew in (('rgb', 0), ('thermal', 500)):
                frame = Frame(message(index, skew), 0.0)
                pairs += pairer.add(stream, nanoseconds(frame.header.stamp), frame)
    assert [round((pair.stamp - 10**18) / PERIOD) for pair in pairs] == [*range(20)] * 2
    assert {pair.skew for pair in pairs} == {500}
    assert [pair.epoch for pair in pairs][19:21] == [0, 1] and pairer.paired == 40
    with pytest.raises(TpfError, match='no offsets'):
        UpstreamPairer(rgb_offset_ns=5)


@pytest.mark.skipif(not upstream.args[0], reason='message_filters is installed')
def test_upstream_is_refused_where_it_is_not_installed():
    with pytest.raises(TpfError, match='set sync to nearest'):
        UpstreamPairer()
