"""What a page is told of a tracker, over a real graph."""

import os
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from tpf_tracker_ros.ros.dds import loopback_environment

pytest.importorskip('rclpy', reason="needs ROS 2 (pip install 'tpf_tracker_ros[ros]')")
pytest.importorskip('aiohttp', reason="needs pip install 'tpf_tracker_ros[console]'")


@pytest.fixture
def live(monkeypatch):
    """Give a node, a LiveTracker on it, and what publishes statuses until the page is told so."""
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
    from tpf_tracker_ros.console.live import LiveTracker
    from tpf_tracker_ros.ros.graph import spinning_node

    for name, value in loopback_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('ROS_DOMAIN_ID', str(160 + os.getpid() % 40))
    with spinning_node('views') as (node, _):
        tracker = LiveTracker(node)
        publishers = {
            topic: node.create_publisher(DiagnosticArray, topic, 1)
            for topic in ('/tpf_tracker/status', '/diagnostics')
        }

        def until(condition, topic, **statuses):
            array = DiagnosticArray()
            for name, values in statuses.items():
                pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
                array.status.append(DiagnosticStatus(
                    name=f'tpf_tracker: {name}', values=pairs, level=DiagnosticStatus.OK
                ))  # fmt: skip
            deadline = time.monotonic() + 10
            while not condition():
                assert time.monotonic() < deadline, tracker.status()
                publishers[topic].publish(array)
                time.sleep(0.05)

        yield node, tracker, until


def cameras(**gives):
    return {name: {'topic': f'/{name}/image_raw', 'gives': each} for name, each in gives.items()}


def test_the_fused_image_is_not_offered_before_the_cameras(live):
    """A page shows what it hears of first; the fused image costs the tracker something."""
    from sensor_msgs.msg import Image

    node, tracker, until = live
    node.create_publisher(Image, '/tpf_tracker/fused_image', 1)
    until(lambda: tracker.status()['alive'], '/tpf_tracker/status', tracker={})
    assert tracker.status()['views'] == []
    both = cameras(rgb='rgb', thermal='thermal')
    until(lambda: tracker.status()['views'], '/diagnostics', **both)
    assert tracker.status()['views'] == ['rgb', 'thermal', 'fused']


def test_event_images_are_shown_in_their_colours_and_thermal_ones_grey(live):
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header
    from tpf_tracker_ros.ros.conversion import to_image_message

    node, tracker, until = live
    publisher = node.create_publisher(Image, '/thermal/image_raw', 1)
    image = to_image_message(np.full((48, 64, 3), (250, 10, 10), np.uint8), Header())
    tracker.watch({'thermal'})

    def looks(*colour):
        publisher.publish(image)
        if 'thermal' not in tracker.shots:
            return False
        packet = tracker.shots['thermal'].packet
        start = 4 + int.from_bytes(packet[:4], 'big')
        shown = cv2.imdecode(np.frombuffer(packet[start:], np.uint8), cv2.IMREAD_COLOR)
        return np.abs(shown[20, 30, ::-1].astype(int) - colour).max() < 8

    until(lambda: looks(250, 10, 10), '/diagnostics', **cameras(thermal='events'))
    until(lambda: looks(82, 82, 82), '/diagnostics', **cameras(thermal='thermal'))


@pytest.mark.parametrize(
    ('arguments', 'domain', 'words'),
    [
        (['-p', 'prt:=1'], '0', "unknown parameter 'prt'; did you mean 'port'?"),
        (['-p', 'port:=x'], '0', "port is 'x'; it must be a whole number"),
        ([], 'x', 'ROS_DOMAIN_ID is not an integral number'),
    ],
)
def test_what_cannot_start_exits_with_one_line(arguments, domain, words):
    done = subprocess.run(
        [sys.executable, '-m', 'tpf_tracker_ros.console', '--ros-args', *arguments],
        env={**os.environ, 'ROS_DOMAIN_ID': domain}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith('error: ') and words in line
