"""What a page is told of a tracker, over a real graph."""

import os
import subprocess
import sys
import time

import pytest
from tpf_tracker_ros.ros.dds import loopback_environment

pytest.importorskip('rclpy', reason="needs ROS 2 (pip install 'tpf_tracker_ros[ros]')")
pytest.importorskip('aiohttp', reason="needs pip install 'tpf_tracker_ros[console]'")


def test_the_fused_image_is_not_offered_before_the_cameras(monkeypatch):
    """A page shows what it hears of first; the fused image costs the tracker something."""
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
    from sensor_msgs.msg import Image
    from tpf_tracker_ros.console.live import LiveTracker
    from tpf_tracker_ros.ros.graph import spinning_node

    for name, value in loopback_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('ROS_DOMAIN_ID', str(160 + os.getpid() % 40))

    def status(name, **values):
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        return DiagnosticStatus(name=name, values=pairs, level=DiagnosticStatus.OK)

    with spinning_node('views') as (node, _):
        tracker = LiveTracker(node)
        node.create_publisher(Image, '/tpf_tracker/fused_image', 1)
        told = node.create_publisher(DiagnosticArray, '/tpf_tracker/status', 1)
        diagnosed = node.create_publisher(DiagnosticArray, '/diagnostics', 1)

        def until(condition, publisher, *statuses):
            deadline = time.monotonic() + 10
            while not condition(tracker.status()):
                assert time.monotonic() < deadline, tracker.status()
                publisher.publish(DiagnosticArray(status=list(statuses)))
                time.sleep(0.05)

        until(lambda told: told['alive'], told, status('tpf_tracker'))
        assert tracker.status()['views'] == []
        cameras = [
            status(f'tpf_tracker: {name}', topic=f'/{name}/image_raw')
            for name in ('rgb', 'thermal')
        ]
        until(lambda told: told['views'], diagnosed, *cameras)
        assert tracker.status()['views'] == ['rgb', 'thermal', 'fused']


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
