"""What is wrong is said in one line with its cure, and the node goes on."""

from contextlib import suppress
import functools
import itertools
import logging
import os
import re
import subprocess
import sys
import time

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from other_side import BEST_EFFORT, header, scene, stamps
import pytest
from rcl_interfaces.srv import DescribeParameters
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.ros.conversion import to_image_message
from tpf_tracker_ros.ros.graph import why_silent
from tpf_tracker_ros.ros.messages import Detection2D, Detection2DArray
from tpf_tracker_ros.ros.run import main


def test_bad_images_are_reported_and_the_node_goes_on(tracker_node):
    with tracker_node(init_box='60,50,24,20') as graph:
        graph.connected()
        graph.send(0)

        def goes_on(index, camera, words, **images):
            """With the other camera, and an error names this one, its topic and the reason."""
            assert len(graph.send(index, **images).detections) == 1
            graph.until(lambda: words in graph.says(camera), words)
            level, message = graph.health[camera].level, graph.says(camera)
            assert level == DiagnosticStatus.ERROR and f'/{camera}/image_raw' in message
            assert f'going on with {"thermal" if camera == "rgb" else "rgb"} alone' in message

        rgb, thermal = scene(1)
        swapped = {
            'rgb': to_image_message(thermal, header(1)),
            'thermal': to_image_message(rgb, header(1)),
        }
        goes_on(1, 'rgb', 'are the two swapped', **swapped)
        graph.until(lambda: graph.logged('are the two swapped'), 'log')
        small = to_image_message(thermal[::2, ::2], header(2))
        words = 'thermal image is 80x64 but rgb is 160x128 and no registration'
        goes_on(2, 'thermal', words, thermal=small)
        short = to_image_message(rgb, header(3))
        short.data = short.data[:1000]
        goes_on(3, 'rgb', 'has 1000 bytes of data', rgb=short)
        strange = to_image_message(thermal, header(4))
        strange.encoding = '32SC1'
        goes_on(4, 'thermal', '32SC1', thermal=strange)
        assert graph.send(5).detections[0].id == '1'
        double = [2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0]
        assert graph.set(registration__homography=double) == ['']
        half = to_image_message(scene(6)[1][::2, ::2], header(6))
        assert graph.send(6, thermal=half).detections[0].id == '1'
        assert int(graph.status('problems')) >= 4


def test_incompatible_qos_is_reported_with_the_cure(tracker_node):
    with tracker_node() as graph:
        graph.connected()

        def complains(words, offer):
            for _ in range(3):  # the middleware does not tell the node of each and every one
                offer()
                with suppress(TpfError):
                    return graph.until(lambda: graph.logged(words), 'cure', timeout=5)
            pytest.fail(f'no word of {words!r} in: {graph.written}')

        target = Detection2D, '/tpf_tracker/target', BEST_EFFORT
        complains(
            'publish with reliability RELIABLE', lambda: graph.node.create_publisher(*target)
        )
        time.sleep(2.1)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        tracks = Detection2DArray, '/tpf_tracker/tracks', lambda message: None, latched
        complains('ask for volatile durability', lambda: graph.node.create_subscription(*tracks))


def test_cameras_that_never_pair_are_reported_with_the_cure(tracker_node):
    def show(graph, index):
        """10 Hz, half a period apart."""
        for camera, image, late in zip(('rgb', 'thermal'), scene(index), (0, 1.5)):
            graph.cameras[camera].publish(to_image_message(image, header(index + late, camera)))
        time.sleep(0.1)

    with tracker_node() as graph:
        graph.connected()
        frames = itertools.count(0, 3)
        words = 'no two within slop_ms 15 (latest thermal minus rgb stamp: 50.0 ms)'
        while 'pairing' not in graph.health or words not in graph.health['pairing'].message:
            show(graph, index := next(frames))
            assert index < 300
        assert not graph.tracks
        assert graph.set(thermal_offset_ms=-50.0) == ['']
        shown = set()
        while not shown.intersection(stamps(graph.tracks)):  # best effort: one may get lost
            show(graph, index := next(frames))
            shown.add(index)
            assert len(shown) < 100


def test_large_images_that_get_lost_are_reported_with_the_cure(tracker_node):
    with tracker_node(mode='rgb') as graph:
        graph.cameras.pop('thermal')
        graph.connected()
        image = np.zeros((512, 640, 3), np.uint8)
        for index in range(400):
            if index % 3:  # as the default segment does it: single ones are missing
                image[0, 0] = index % 256
                graph.cameras['rgb'].publish(to_image_message(image, header(index)))
            time.sleep(0.02)
            if graph.logged('of the images on /rgb/image_raw get lost on the way'):
                break
        assert graph.logged('start the camera driver with FASTDDS_DEFAULT_PROFILES_FILE=')
        assert graph.logged('config/fastdds.xml')
        assert graph.health['rgb'].level == DiagnosticStatus.WARN


def test_a_topic_without_images_is_told_from_a_wrong_topic_type_and_transport(tracker_node):
    with tracker_node(mode='rgb', rgb_transport='compressed') as graph:
        words = 'but /rgb/image_raw is published: set the transport of this camera to raw'
        graph.until(lambda: words in graph.says('rgb'), words)
        why = functools.partial(why_silent, graph.tracker)
        assert 'remap it to the topic of your camera; there are /rgb/image_raw, ' in why('/camera')
        wrong = '/rgb/image_raw/compressed'
        graph.node.create_publisher(Image, wrong, 1)
        words = 'published as sensor_msgs/msg/Image; give a topic of sensor_msgs/msg/Compressed'
        graph.until(lambda: words in why(wrong), words)
        for publisher in [*graph.node.publishers]:
            graph.node.destroy_publisher(publisher)
        words = 'nobody publishes it, nor any other image; is the driver running, with ROS_DOMAIN'
        graph.until(lambda: words in graph.says('rgb'), words)


def test_parameters_are_checked_when_they_change(tracker_node):
    with tracker_node() as graph:
        graph.connected()
        assert graph.set(slop_ms=20) == ['']  # whole numbers are numbers
        assert 'read-only' in graph.set(model='tpf_base')[0]
        assert 'lost_score <= uncertain_score' in graph.set(tracker__lost_score=0.9)[0]
        assert 'singular' in graph.set(registration__homography=[0.0] * 9)[0]
        whole = [1, 0, 0, 0, 1, 0, 0, 0, 1]  # `ros2 param set … '[1, 0, …]'`
        assert graph.set(registration__homography=whole) == ['']
        (reason,) = graph.set(tracker__lost_score=0.9)
        assert 'ndtu' not in reason and len(reason) < 120
        assert graph.set(slop_ms=-1.0)[0] and graph.set(device='cuda')[0]
        answer = graph.call(
            DescribeParameters,
            'describe_parameters',
            DescribeParameters.Request(names=['slop_ms']),
        )
        (row,) = answer.descriptors
        assert row.description and row.floating_point_range[0].to_value == 10_000


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'slop': 3.0}, "unknown parameter 'slop'; did you mean 'slop_ms'"),
        ({'target_history': 20}, "'target_history' is now called target_history_mb, in MB"),
        ({'tracker__size_calibration': 0.5}, 'is now called tracker.box_calibration'),
        ({'mode': 'both'}, r'mode is .both.; it must be rgb\+thermal, rgb, thermal'),
        ({'slop_ms': -1.0}, 'slop_ms is -1.0; it must be 0 to 10000'),
        ({'queue_depth': 2.5}, 'queue_depth is 2.5; it must be a whole number'),
        ({'init_box': '1,2,3'}, "box '1,2,3' is not four numbers"),
        ({'registration__homography': [1.0] * 8}, '9 finite numbers'),
        ({'tracker__thermal_low': 99.5}, 'thermal_low < thermal_high'),
    ],
)
def test_wrong_parameters_are_refused_at_the_start(tracker_node, values, words):
    with pytest.raises(TpfError, match=words), tracker_node(**values):
        pass


def test_a_failed_transition_says_why_and_leaves_the_node_alive(tracker_node):
    with tracker_node(autostart=False, checkpoint='/nowhere.safetensors') as graph:
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        assert not graph.call(ChangeState, 'change_state', request).success
        graph.until(lambda: graph.logged('/nowhere.safetensors'), 'reason')
        state = graph.call(GetState, 'get_state', GetState.Request()).current_state.label
        assert state == 'unconfigured'


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['-p', 'model:=tpf_huge'], "unknown model 'tpf_huge'; choose one of"),
        (['-p', 'chekpoint:=x'], "unknown parameter 'chekpoint'; did you mean 'checkpoint'?"),
        (['-p', 'model'], "Couldn't parse parameter override rule: '-p model'"),
    ],
)
def test_what_cannot_start_exits_with_one_line(arguments, words, capfd):
    with pytest.raises(SystemExit) as ended:
        main(['--ros-args', *arguments])
    # sys.exit with words prints them and returns 1; the other lines are rcl's own.
    output, written = capfd.readouterr()
    said = [line for line in written.splitlines() if 'FATAL' in line]
    said += [ended.value.code] if isinstance(ended.value.code, str) else []
    assert ended.value.code and not output and 'Traceback' not in written
    assert len(said) == 1 and words in said[0]


def test_what_other_rooms_warn_of_is_in_the_log(capfd, monkeypatch):
    def load(*_, **__):
        logging.getLogger('tpf_tracker_ros.models').warning('fusion runs slowly')
        raise TpfError('that was all')

    monkeypatch.setattr('tpf_tracker_ros.tracking.load.load_tracker', load)
    with pytest.raises(SystemExit):
        main(['--ros-args'])
    assert re.search(r'\[WARN\].*\[tpf_tracker\]: fusion runs slowly', capfd.readouterr().err)


@pytest.mark.parametrize(
    ('broken', 'words'),
    [
        ("sys.modules['rclpy'] = None", "module 'rclpy' is missing; in a colcon workspace"),
        ("sys.modules['rclpy._rclpy_pybind11'] = None", 'run it with the Python of your ROS 2'),
        ("sys.modules['std_srvs.srv'] = types.ModuleType('srv')", 'install the library, or'),
        ("os.environ |= {'XDG_CACHE_HOME': '/proc/0'}", 'set XDG_CACHE_HOME to a writable folder'),
    ],
)
def test_what_cannot_be_loaded_is_one_line_with_the_cure(broken, words):
    if 'XDG' in broken and os.environ.get('ROS_DISTRO'):
        pytest.skip('a ROS 2 installation brings its own vision_msgs')
    code = f'import os, sys, types; {broken}\n'
    code += 'from tpf_tracker_ros.ros.__main__ import main; main()'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith('error: ') and words in line
