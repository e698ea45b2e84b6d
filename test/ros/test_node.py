"""The node over a real graph on loopback: what goes in, what comes out, what it says of faults."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (pip install tpf_tracker_ros[ros])')

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.models import create_model
from tpf_tracker_ros.models.checkpoint import save_weights
from tpf_tracker_ros.ros.conversion import nanoseconds, to_image_message
from tpf_tracker_ros.ros.graph import spinning_node, wait_until
from tpf_tracker_ros.ros.messages import Detection2D, Detection2DArray, to_box, to_detection
from tpf_tracker_ros.ros.node import TrackerNode, main
from tpf_tracker_ros.tracking.load import load_tracker

PERIOD = 33_333_333
START = 1_700_000_000_000_000_000
SIZE = (160, 128)
BOX = np.array([60.0, 50, 24, 20])
BEST_EFFORT = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
DOMAINS = itertools.count(os.getpid() % 40 + 40)


@pytest.fixture(autouse=True)
def domain(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(next(DOMAINS) % 60 + 40))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory):
    """Untrained weights: these tests look at the node, not at how well it tracks."""
    import torch

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    save_weights(create_model('tpf_tiny'), path, metadata={})
    return str(path)


def header(index, frame='camera'):
    return Header(stamp=Time(nanoseconds=START + round(index * PERIOD)).to_msg(), frame_id=frame)


def scene(index):
    """A textured pair (rgb, thermal) in which a bright square moves by 2 px a frame."""
    rng = np.random.default_rng(3)
    rgb = rng.integers(60, 120, (SIZE[1], SIZE[0], 3), np.uint8)
    thermal = rng.integers(7200, 7400, (SIZE[1], SIZE[0])).astype(np.uint16)
    x = int(BOX[0]) + 2 * index % 60
    rgb[50:70, x : x + 24] = (220, 180, 40)
    thermal[50:70, x : x + 24] = 7700
    return rgb, thermal


class Graph:
    """The other side: cameras, a user who sends targets, and everything that is published."""

    def __init__(self, node, tracker, capfd):
        self.node, self.tracker, self.capfd = node, tracker, capfd
        self.cameras = {
            'rgb': node.create_publisher(Image, 'rgb/image_raw', BEST_EFFORT),
            'thermal': node.create_publisher(Image, 'thermal/image_raw', BEST_EFFORT),
        }
        self.target = node.create_publisher(Detection2D, '/tpf_tracker/target', 10)
        self.detections = node.create_publisher(Detection2DArray, '/tpf_tracker/detections', 10)
        self.tracks, self.statuses, self.health, self.written = [], [], {}, ''
        self.outputs = [
            node.create_subscription(kind, topic, callback, 50)
            for kind, topic, callback in (
                (Detection2DArray, '/tpf_tracker/tracks', self.tracks.append),
                (DiagnosticArray, '/tpf_tracker/status', self.statuses.append),
                (DiagnosticArray, '/diagnostics', self._diagnosed),
            )
        ]

    def _diagnosed(self, message):
        self.health.update({s.name.removeprefix('tpf_tracker: '): s for s in message.status})

    def connected(self):
        """Both sides know each other: until then what is published is lost."""

        def matched():
            heard = {s.topic_name for s in self.tracker.subscriptions if s.get_publisher_count()}
            fed = {p.topic_name for p in self.tracker.publishers if p.get_subscription_count()}
            return all(
                p.get_subscription_count() and p.topic_name in heard
                for p in (*self.cameras.values(), self.target, self.detections)
            ) and all(s.get_publisher_count() and s.topic_name in fed for s in self.outputs)

        wait_until(matched, 20, 'the node does not subscribe')
        return self

    def send(self, index, *, cameras=('rgb', 'thermal'), wait=True, **images):
        """One frame of these cameras; waits for its tracks."""
        for camera, image in zip(('rgb', 'thermal'), scene(index)):
            if camera in cameras:
                message = images.get(camera)
                if message is None:
                    message = to_image_message(image, header(index, camera))
                self.cameras[camera].publish(message)
        if wait:
            wait_until(
                lambda: self.tracks and stamps(self.tracks)[-1] == index,
                10,
                f'no tracks for frame {index}',
            )
            return self.tracks[-1]
        time.sleep(0.02)
        return None

    def start(self, stamp, box=BOX):
        self.target.publish(to_detection(box, 1.0, stamp, identity='', class_id=''))
        time.sleep(0.1)

    def call(self, kind, name, request):
        client = self.node.create_client(kind, f'/tpf_tracker/{name}')
        assert client.wait_for_service(10)
        future = client.call_async(request)
        wait_until(future.done, 10, f'{name} does not answer')
        return future.result()

    def set(self, **values):
        parameters = [
            Parameter(name.replace('__', '.'), value=v).to_parameter_msg()
            for name, v in values.items()
        ]
        answer = self.call(SetParameters, 'set_parameters', SetParameters.Request(
            parameters=parameters))  # fmt: skip
        return [result.reason for result in answer.results]

    def status(self, key):
        return {v.key: v.value for v in self.statuses[-1].status[0].values}[key]

    def logged(self, words):
        self.written += self.capfd.readouterr().err
        return words in self.written

    def until(self, condition, what, timeout=10):
        wait_until(condition, timeout, f'{what} did not come')


@pytest.fixture
def tracker_node(checkpoint, capfd):
    """The node in this process, spinning in a thread, and the other side of the graph."""

    @contextmanager
    def start(**values):
        values = {'checkpoint': checkpoint, 'tracker__lost_score': 0.0, **values}
        overrides = [Parameter(name.replace('__', '.'), value=v) for name, v in values.items()]
        context = rclpy.Context()
        rclpy.init(context=context)
        node = TrackerNode(context=context, parameter_overrides=overrides)
        if values.get('autostart', True):
            assert node.start()
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin)
        with spinning_node('other_side') as (other, _):
            thread.start()
            try:
                yield Graph(other, node, capfd)
            finally:
                executor.shutdown()
                thread.join()
                node.destroy_node()
                context.try_shutdown()

    return start


def boxes(tracks):
    return [[to_box(d).tolist() for d in message.detections] for message in tracks]


def stamps(tracks):
    return [round((nanoseconds(m.header.stamp) - START) / PERIOD) for m in tracks]


# ---- what comes out ----


def test_the_same_boxes_as_offline_under_the_headers_of_the_rgb_images(checkpoint, tracker_node):
    frames = 12
    offline = load_tracker('tpf_tiny', device='cpu', checkpoint=checkpoint)
    expected = [BOX.tolist()]
    for index in range(frames):
        pair = FramePair(*scene(index), START + index * PERIOD)
        if index == 0:
            offline.initialize(pair, BOX)
        else:
            expected.append(offline.track(pair).box.tolist())
    with tracker_node() as graph:
        graph.connected().start(header(0))
        for index in range(frames):
            graph.send(index)
        # Not to the last bit: another thread's sums may be grouped otherwise.
        assert np.allclose([each for (each,) in boxes(graph.tracks)], expected, atol=1e-6)
        for index, message in enumerate(graph.tracks):
            assert message.header == header(index, 'rgb')
            (detection,) = message.detections
            assert detection.header == message.header and detection.id == '1'
            assert detection.results[0].hypothesis.class_id == 'target'
        assert graph.tracks[0].detections[0].results[0].hypothesis.score == 1.0
        graph.until(lambda: graph.status('published') == str(frames), 'status')
        assert graph.status('dropped') == graph.status('unpaired_rgb') == '0'
        assert graph.status('modality') == 'rgb+thermal'
        assert len(graph.status('total_ms').split(' / ')) == 3


def test_targets_reset_and_stop(tracker_node):
    with tracker_node() as graph:
        graph.connected()
        assert not graph.send(0).detections  # no target yet
        graph.start(Header())  # a zero stamp: the next pair
        assert to_box(graph.send(1).detections[0]).tolist() == BOX.tolist()
        graph.send(2)
        graph.send(3)
        before = len(graph.tracks)
        graph.start(header(2), BOX + 3)  # a past frame: starts there and catches up
        graph.until(lambda: len(graph.tracks) == before + 2, 'catching up')
        assert stamps(graph.tracks[before:]) == [2, 3]
        assert boxes(graph.tracks)[before] == [(BOX + 3).tolist()]
        assert graph.tracks[-1].detections[0].id == '2'
        graph.start(header(6))  # a future frame
        assert [graph.send(index).detections[0].id for index in (4, 5, 6)] == ['2', '2', '3']
        assert boxes(graph.tracks)[-1] == [BOX.tolist()]
        assert graph.call(Trigger, 'stop', Trigger.Request()).success
        assert not graph.send(7).detections
        graph.start(Header())
        graph.send(8)
        assert graph.call(Trigger, 'reset', Trigger.Request()).success
        assert not graph.send(9).detections
        graph.start(Header(), np.array([500.0, 500, 10, 10]))
        graph.send(10, wait=False)
        graph.until(lambda: graph.logged('outside the 160x128'), 'refusal')
        assert not graph.send(11).detections


def test_a_detection_brings_a_lost_target_back(tracker_node):
    with tracker_node(init_box='60,50,24,20') as graph:
        graph.connected()
        graph.send(0)
        graph.send(1)
        reasons = graph.set(
            tracker__uncertain_score=1.0, tracker__lost_score=1.0, tracker__lost_after=1
        )
        assert reasons == ['', '', '']
        assert not graph.send(2).detections  # LOST: no box that nobody believes in
        graph.until(lambda: graph.status('state') == 'LOST', 'LOST')
        found = Detection2DArray(header=header(2))
        for box, score in ((BOX + 40, 0.2), (BOX + 8, 0.9)):
            found.detections.append(
                to_detection(box, score, header(2), identity='', class_id='person')
            )
        before = len(graph.tracks)
        graph.detections.publish(found)
        graph.until(lambda: len(graph.tracks) > before, 'the box of the detector')
        assert boxes(graph.tracks)[before] == [(BOX + 8).tolist()]
        assert graph.tracks[before].detections[0].id == '1'


def test_images_are_rendered_only_while_someone_subscribes(tracker_node):
    with tracker_node(init_box='60,50,24,20') as graph:
        graph.connected()
        graph.send(0)
        graph.send(1)
        graph.until(lambda: graph.statuses, 'status')
        images = {'fused_image': [], 'overlay': []}
        for name, received in images.items():
            topic = f'/tpf_tracker/{name}'
            graph.node.create_subscription(Image, topic, received.append, 10)
            graph.until(lambda topic=topic: graph.node.count_publishers(topic), topic)
        time.sleep(0.5)
        for index in range(2, 8):
            graph.send(index)
            time.sleep(0.2)
        graph.until(lambda: all(len(each) >= 4 for each in images.values()), 'images')
        for received in images.values():
            assert {(m.width, m.height, m.encoding) for m in received} == {(*SIZE, 'rgb8')}
            assert all(m.header.frame_id == 'rgb' and max(m.data) > 100 for m in received)


def test_bearing_from_camera_info(tracker_node):
    with tracker_node(init_box='60,50,40,28') as graph:
        publisher = graph.node.create_publisher(CameraInfo, 'rgb/camera_info', BEST_EFFORT)
        graph.connected()
        graph.until(publisher.get_subscription_count, 'camera_info')
        k = [100.0, 0.0, 80.0, 0.0, 100.0, 64.0, 0.0, 0.0, 1.0]
        publisher.publish(
            CameraInfo(width=160, height=128, k=k, d=[0.0] * 5, distortion_model='plumb_bob')
        )
        time.sleep(0.2)
        ray = graph.send(0).detections[0].results[0].pose.pose.position
        assert (ray.x, ray.y, ray.z) == (0.0, 0.0, 1.0)


# ---- cameras and time ----


def test_one_camera_dies_and_comes_back(tracker_node):
    with tracker_node(init_box='60,50,24,20') as graph:
        graph.connected()
        for index in range(5):
            graph.send(index)
        for index in range(5, 60):
            graph.send(index, cameras=('thermal',), wait=False)
            time.sleep(0.03)
        graph.until(lambda: graph.status('modality') == 'thermal', 'thermal alone')
        assert graph.tracks[-1].header.frame_id == 'thermal' and graph.tracks[-1].detections
        graph.until(lambda: graph.health['rgb'].level == b'\x02', 'the dead camera')
        assert 'going on with thermal alone' in graph.health['rgb'].message
        assert graph.health['thermal'].level == b'\x00'
        graph.send(60)
        assert graph.send(61).header == header(61, 'rgb')
        graph.until(lambda: graph.status('modality') == 'rgb+thermal', 'both cameras')
        graph.until(lambda: graph.health['rgb'].level == b'\x00', 'recovery')
        assert graph.tracks[-1].detections[0].id == '1'
        assert graph.logged('no image on /rgb/image_raw any more')


def test_one_camera_mode_and_compressed_images(tracker_node):
    with tracker_node(
        mode='thermal', thermal_transport='compressed',
        init_box='60,50,24,20',
    ) as graph:  # fmt: skip
        graph.cameras = {
            'thermal': graph.node.create_publisher(
                CompressedImage, 'thermal/image_raw/compressed', BEST_EFFORT
            )
        }
        graph.connected()
        for index in range(3):
            png = cv2.imencode('.png', scene(index)[1])[1].tobytes()
            message = CompressedImage(header=header(index, 'ir'), format='16UC1; png compressed')
            message.data.frombytes(png)
            tracks = graph.send(index, cameras=('thermal',), thermal=message)
            assert tracks.header == header(index, 'ir') and len(tracks.detections) == 1


def test_a_backward_jump_of_time_starts_over(tracker_node):
    with tracker_node(init_box='60,50,24,20') as graph:
        graph.connected()
        for index in range(20, 25):
            graph.send(index)
        again = graph.send(0)
        assert stamps([again]) == [0] and boxes([again]) == [[BOX.tolist()]]
        assert again.detections[0].id == '2'
        graph.until(lambda: graph.status('time_jumps') == '1', 'status')


def test_pairs_that_come_too_fast_are_dropped_not_queued(tracker_node):
    with tracker_node(init_box='60,50,24,20') as graph:
        graph.connected()
        for index in range(200):
            for camera, image in zip(('rgb', 'thermal'), scene(index)):
                graph.cameras[camera].publish(to_image_message(image, header(index, camera)))
        time.sleep(1)
        graph.until(lambda: int(graph.status('dropped')) > 0, 'drops')
        seen = stamps(graph.tracks)
        assert seen == sorted(set(seen)) and len(seen) < 200


# ---- what is wrong is said ----


def test_bad_images_are_reported_and_the_node_goes_on(tracker_node):
    with tracker_node(init_box='60,50,24,20') as graph:
        graph.connected()
        graph.send(0)

        def complains(index, words, **images):
            graph.send(index, wait=False, **images)
            graph.until(
                lambda: 'tracker' in graph.health and words in graph.health['tracker'].message,
                words,
            )

        rgb, thermal = scene(1)
        swapped = {
            'rgb': to_image_message(thermal, header(1)),
            'thermal': to_image_message(rgb, header(1)),
        }
        complains(1, 'topics swapped', **swapped)
        graph.until(lambda: graph.logged('topics swapped'), 'log')
        small = to_image_message(thermal[::2, ::2], header(2))
        complains(
            2, 'thermal image is 80x64 but rgb is 160x128 and no registration', thermal=small
        )
        short = to_image_message(rgb, header(3))
        short.data = short.data[:1000]
        complains(3, 'has 1000 bytes of data', rgb=short)
        strange = to_image_message(rgb, header(4))
        strange.encoding = 'yuv422_yuy2'
        complains(4, 'yuv422_yuy2', rgb=strange)
        assert graph.send(5).detections[0].id == '1'
        double = [2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0]
        assert graph.set(registration__homography=double) == ['']
        half = to_image_message(scene(6)[1][::2, ::2], header(6))
        assert graph.send(6, thermal=half).detections[0].id == '1'
        assert int(graph.status('problems')) >= 4


def test_incompatible_qos_is_reported_with_the_cure(tracker_node):
    with tracker_node() as graph:
        graph.connected()
        graph.node.create_publisher(Detection2D, '/tpf_tracker/target', BEST_EFFORT)
        graph.until(lambda: graph.logged('publish with reliability RELIABLE'), 'cure')
        time.sleep(2.1)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        graph.node.create_subscription(
            Detection2DArray, '/tpf_tracker/tracks', lambda message: None, latched
        )
        graph.until(lambda: graph.logged('ask for volatile durability'), 'cure')


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
        for _ in range(3):
            show(graph, index := next(frames))
        graph.until(lambda: index in stamps(graph.tracks), 'a pair')


def test_an_image_that_does_not_fit_into_shared_memory_is_reported(tracker_node, monkeypatch):
    monkeypatch.delenv('FASTDDS_DEFAULT_PROFILES_FILE', raising=False)
    with tracker_node(mode='rgb') as graph:
        graph.cameras.pop('thermal')
        graph.connected()
        graph.cameras['rgb'].publish(
            to_image_message(np.zeros((512, 640, 3), np.uint8), header(0))
        )
        graph.until(lambda: graph.logged('983040 bytes do not fit into the shared'), 'warning')
        assert graph.logged('fastdds.xml')


def test_silent_topics_are_named_in_the_diagnostics(tracker_node):
    with tracker_node(mode='rgb') as graph:
        graph.until(lambda: 'rgb' in graph.health, 'diagnostics')
        graph.until(lambda: 'no image on /rgb/image_raw yet' in graph.health['rgb'].message, 'why')


def test_parameters_are_checked_when_they_change(tracker_node):
    with tracker_node() as graph:
        graph.connected()
        assert graph.set(slop_ms=20) == ['']  # whole numbers are numbers
        assert 'read-only' in graph.set(model='tpf_base')[0]
        assert 'lost_score <= uncertain_score' in graph.set(tracker__lost_score=0.9)[0]
        assert 'singular' in graph.set(registration__homography=[0.0] * 9)[0]
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
        ({'mode': 'both'}, r'mode is .both.; it must be rgb\+thermal, rgb, thermal'),
        ({'slop_ms': -1.0}, 'slop_ms is -1.0; it must be 0 to 10000'),
        ({'target_history': 2.5}, 'target_history is 2.5; it must be a whole number'),
        ({'init_box': '1,2,3'}, "box '1,2,3' is not four numbers"),
        ({'registration__homography': [1.0] * 8}, '9 finite numbers'),
        ({'tracker__thermal_low': 99.5}, 'thermal_low < thermal_high'),
    ],
)
def test_wrong_parameters_are_refused_at_the_start(tracker_node, values, words):
    with pytest.raises(TpfError, match=words), tracker_node(**values):
        pass


# ---- lifecycle and process ----


def test_the_lifecycle_by_hand(tracker_node):
    with tracker_node(autostart=False, init_box='60,50,24,20') as graph:

        def change(transition):
            request = ChangeState.Request(transition=Transition(id=transition))
            return graph.call(ChangeState, 'change_state', request).success

        def label():
            return graph.call(GetState, 'get_state', GetState.Request()).current_state.label

        assert label() == 'unconfigured'
        for _ in range(2):
            assert change(Transition.TRANSITION_CONFIGURE) and label() == 'inactive'
            assert change(Transition.TRANSITION_ACTIVATE) and label() == 'active'
            graph.connected()
            assert len(graph.send(0).detections) == 1
            assert change(Transition.TRANSITION_DEACTIVATE) and label() == 'inactive'
            assert change(Transition.TRANSITION_ACTIVATE)
            graph.connected()
            assert len(graph.send(1).detections) == 1
            assert change(Transition.TRANSITION_DEACTIVATE)
            assert change(Transition.TRANSITION_CLEANUP) and label() == 'unconfigured'


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
    with pytest.raises(SystemExit) as exit:
        main(['--ros-args', *arguments])
    # sys.exit with words prints them and returns 1.
    output, errors = capfd.readouterr()
    errors = [line for line in errors.splitlines() if line and '[rcl' not in line]
    errors += [exit.value.code] if isinstance(exit.value.code, str) else []
    assert exit.value.code != 0 and not output
    assert len(errors) == 1 and words in errors[0]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(number, checkpoint):
    command = [sys.executable, '-m', 'tpf_tracker_ros.ros.node', '--ros-args']
    command += ['-p', f'checkpoint:={checkpoint}']
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.rstrip().endswith('ready'):
                break
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and 'Traceback' not in errors
