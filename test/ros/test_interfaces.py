"""The compiled vision_msgs: built by real processes into a cache of their own, used over DDS."""

import importlib.util
import os
from pathlib import Path
import subprocess
import sys

import pytest
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from tpf_tracker_ros.bags.vision_msgs import DEFINITIONS

on_wheels = pytest.mark.skipif(
    'ROS_DISTRO' in os.environ or not importlib.util.find_spec('rosidl_generator_py'),
    reason='vision_msgs is compiled only with the ROS wheels and without a sourced ROS 2',
)
BUILD = [sys.executable, '-m', 'tpf_tracker_ros.ros.interfaces']
TALK = """
import sys, time
from tpf_tracker_ros.ros.interfaces import ensure_vision_msgs
ensure_vision_msgs()
import rclpy
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray

rclpy.init()
node = rclpy.create_node('talker' if sys.argv[1] == 'talk' else 'listener')
deadline = time.time() + 50
heard = []
if sys.argv[1] == 'talk':
    publisher = node.create_publisher(Detection2DArray, 'boxes', 10)
    box = BoundingBox2D(size_x=3.25, size_y=2.5)
    box.center.position.x = 1.5
    message = Detection2DArray(detections=[Detection2D(bbox=box, id='7')])
    while not publisher.get_subscription_count() and time.time() < deadline:
        time.sleep(0.05)
    publisher.publish(message)
    publisher.wait_for_all_acked()
else:
    node.create_subscription(Detection2DArray, 'boxes', heard.append, 10)
    while not heard and time.time() < deadline:
        rclpy.spin_once(node, timeout_sec=0.1)
    bbox = heard[0].detections[0].bbox
    print(bbox.center.position.x, bbox.size_x, bbox.size_y, heard[0].detections[0].id)
    print(node.get_publishers_info_by_topic('/boxes')[0].topic_type_hash)
"""


def environment(cache: Path, **more: str) -> dict[str, str]:
    return {**os.environ, 'XDG_CACHE_HOME': str(cache), **more}


@on_wheels
def test_two_processes_build_once_and_talk(tmp_path):
    env = environment(
        tmp_path, ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST', ROS_DOMAIN_ID=str(os.getpid() % 90)
    )
    pipes = {'env': env, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    with (
        subprocess.Popen([sys.executable, '-c', TALK, 'talk'], **pipes) as talker,
        subprocess.Popen([sys.executable, '-c', TALK, 'listen'], **pipes) as listener,
    ):
        heard, listener_says = listener.communicate(timeout=120)
        _, talker_says = talker.communicate(timeout=60)
    assert (talker_says + listener_says).count('compiling vision_msgs once') == 1
    # The same hash as every other implementation of these definitions has.
    store = get_typestore(Stores.ROS2_KILTED)
    for name, text in DEFINITIONS.items():
        store.register(get_types_from_msg(text, name))
    type_hash = store.hash_rihs01('vision_msgs/msg/Detection2DArray')
    assert heard.splitlines() == ['1.5 3.25 2.5 7', type_hash]
    names = sorted(path.name.split('-')[0] for path in (tmp_path / 'tpf_tracker_ros').iterdir())
    assert names == ['lock', 'vision_msgs']  # nothing temporary is left


@pytest.mark.skipif('ROS_DISTRO' in os.environ, reason='a sourced ROS 2 has a vision_msgs')
def test_a_real_package_wins_and_a_plain_folder_does_not(tmp_path):
    (tmp_path / 'real' / 'vision_msgs').mkdir(parents=True)
    (tmp_path / 'real' / 'vision_msgs' / '__init__.py').touch()
    (tmp_path / 'source' / 'vision_msgs' / 'msg').mkdir(parents=True)
    cache = tmp_path / 'cache'

    done = subprocess.run(
        BUILD, env=environment(cache, PYTHONPATH=str(tmp_path / 'real')), capture_output=True
    )
    assert Path(done.stdout.decode().strip()) == tmp_path / 'real'
    assert not cache.exists()
    done = subprocess.run(
        BUILD,
        env=environment(cache, PYTHONPATH=str(tmp_path / 'source'), CC='no-such-compiler'),
        capture_output=True,
    )
    assert done.returncode and b'error: ' in done.stderr


@pytest.mark.parametrize(
    ('variables', 'cure'),
    [
        pytest.param({'CC': 'none'}, 'pip install ziglang', marks=on_wheels),
        pytest.param({'XDG_CACHE_HOME': __file__}, 'set XDG_CACHE_HOME', marks=on_wheels),
        pytest.param(
            {'CC': 'false', 'CXX': 'false'}, 'does not compile with false', marks=on_wheels
        ),
        ({'ROS_DISTRO': 'jazzy'}, 'apt install ros-jazzy-vision-msgs'),
    ],
)
def test_one_line_says_what_to_do(tmp_path, variables, cure):
    if importlib.util.find_spec('ziglang') and variables == {'CC': 'none'}:
        pytest.skip('zig is installed, so that there is always a compiler')
    done = subprocess.run(
        BUILD, env={**environment(tmp_path), **variables}, capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith('error: ') and cure in last
    assert 'Traceback' not in done.stderr
