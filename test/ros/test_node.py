"""The node over a real graph on loopback: what goes in and what comes out."""

from pathlib import Path
import re
import signal
import subprocess
import sys
import time

import cv2
from lifecycle_msgs.msg import State, Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from other_side import BEST_EFFORT, BOX, boxes, header, PERIOD, scene, SIZE, stamps, START
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.ros.conversion import nanoseconds, to_image_message
from tpf_tracker_ros.ros.messages import Detection2D, Detection2DArray, to_box, to_detection
from tpf_tracker_ros.ros.outputs import LATCHED
from tpf_tracker_ros.tracking.load import load_tracker
from visualization_msgs.msg import ImageMarker


def test_the_same_boxes_as_offline_under_the_headers_of_the_rgb_images(checkpoint, tracker_node):
    frames = 12
    offline = load_tracker('tpf_nano', device='cpu', checkpoint=checkpoint)
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
        first = graph.tracks[0].detections[0].results[0]
        assert first.hypothesis.score == 1.0 and first.pose.covariance[0] == -1  # no bearing
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
        assert to_box(graph.first_state('2')).tolist() == (BOX + 3).tolist()
        assert len(graph.tracks) == before  # what is out is out
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
        assert graph.state() == ('LOST', '1')
        graph.detections.publish(found)
        graph.until(lambda: graph.states[-1].results[0].hypothesis.score == 1, 'found again')
        assert graph.state() == ('TRACKING', '1')
        assert to_box(graph.states[-1]).tolist() == (BOX + 8).tolist()
        assert graph.logged('target 1 lost') and graph.logged('target 1 found again')
        assert len(graph.tracks) == before


def test_a_target_larger_than_the_image_is_refused_and_tracking_goes_on(tracker_node):
    with tracker_node(init_box='60,50,24,20') as graph:
        graph.connected()
        graph.send(0)
        for index, size in enumerate((10_000, 1e9), 1):
            graph.start(Header(), np.array([0.0, 0, size, size]))
            graph.send(2 * index, wait=False)
            graph.until(lambda size=size: graph.logged(f'box 0,0,{size:g},{size:g} is larger'), '')
            assert graph.send(2 * index + 1).detections[0].id == '1'
        assert graph.call(Trigger, 'reset', Trigger.Request()).success
        assert boxes([graph.send(6)]) == [[BOX.tolist()]]


def test_a_target_by_parameter_gets_an_answer(tracker_node):
    with tracker_node() as graph:
        graph.connected()
        graph.send(0)
        assert 'larger than the 160x128 image' in graph.set(init_box='0,0,9999,9')[0]
        assert 'not four numbers' in graph.set(init_box='1,2,3')[0]
        assert graph.set(init_box='60,50,24,20') == ['']
        assert boxes([graph.send(1)]) == [[BOX.tolist()]]
        graph.send(2)
        stamp = (START + PERIOD) / 1e9
        assert graph.set(init_box=f'50,50,24,20@{stamp:.6f}') == ['']  # the frame before
        state = graph.first_state('2')
        assert to_box(state).tolist() == [50, 50, 24, 20]
        assert nanoseconds(state.header.stamp) == START + PERIOD


def test_the_state_is_latched_and_commands_answer_while_inactive(tracker_node):
    with tracker_node(autostart=False, init_box='60,50,24,20') as graph:
        answer = graph.call(Trigger, 'reset', Trigger.Request())
        assert not answer.success and 'ros2 lifecycle set /tpf_tracker' in answer.message

        def change(transition):
            request = ChangeState.Request(transition=Transition(id=transition))
            assert graph.call(ChangeState, 'change_state', request).success

        change(Transition.TRANSITION_CONFIGURE)
        change(Transition.TRANSITION_ACTIVATE)
        graph.until(lambda: graph.states and graph.state() == ('IDLE', ''), 'the first state')
        graph.connected()
        graph.send(0)
        graph.until(lambda: graph.state() == ('TRACKING', '1'), 'TRACKING')
        late = []
        graph.node.create_subscription(Detection2D, '/tpf_tracker/state', late.append, LATCHED)
        graph.until(lambda: late, 'the latched state')
        assert late[0] == graph.states[-1] and to_box(late[0]).tolist() == BOX.tolist()
        change(Transition.TRANSITION_DEACTIVATE)
        graph.until(lambda: graph.state() == ('IDLE', ''), 'IDLE')
        assert not graph.call(Trigger, 'stop', Trigger.Request()).success


def test_images_are_rendered_only_while_someone_subscribes(tracker_node):
    with tracker_node(init_box='60,50,24,20') as graph:
        graph.connected()
        graph.send(0)
        graph.send(1)
        graph.until(lambda: graph.statuses, 'status')
        images = {'fused_image': [], 'overlay': []}
        infos, marks = [], []
        watched = [(Image, *each) for each in images.items()]
        watched += [(CameraInfo, 'camera_info', infos), (ImageMarker, 'annotations', marks)]
        camera = graph.node.create_publisher(CameraInfo, 'rgb/camera_info', BEST_EFFORT)
        for kind, name, received in watched:
            topic = f'/tpf_tracker/{name}'
            graph.node.create_subscription(kind, topic, received.append, 10)
            graph.until(lambda topic=topic: graph.node.count_publishers(topic), topic)
        time.sleep(0.5)
        for index in range(2, 8):
            camera.publish(CameraInfo(width=SIZE[0], height=SIZE[1]))
            graph.send(index)
            time.sleep(0.2)
        graph.until(lambda: all(len(each) >= 4 for each in images.values()), 'images')
        graph.until(lambda: infos and marks, 'CameraInfo and marks')
        assert infos[-1].width == SIZE[0] and infos[-1].header.frame_id == 'rgb'
        assert len(marks[-1].points) == 4 and marks[-1].header.frame_id == 'rgb'
        for received in images.values():
            assert {(m.width, m.height, m.encoding) for m in received} == {(*SIZE, 'rgb8')}
            assert all(m.header.frame_id == 'rgb' and max(m.data) > 100 for m in received)
            shown = stamps(received)
            assert shown == sorted(shown) and set(shown) <= set(stamps(graph.tracks))


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


# What nav2's lifecycle manager expects of each transition, and asks get_state for within 5 s.
OUTCOME = {
    Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
    Transition.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_CLEANUP: State.PRIMARY_STATE_UNCONFIGURED,
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: State.PRIMARY_STATE_FINALIZED,
}
STARTUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
PAUSE, RESUME = (Transition.TRANSITION_DEACTIVATE,), (Transition.TRANSITION_ACTIVATE,)
RESET = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP
SHUTDOWN = *RESET, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN
STATES = set(OUTCOME.values())


def manage(graph, transitions):
    """Call as lifecycle_manager does with bond_timeout 0: whether the node got where it should."""
    for transition in transitions:
        request = ChangeState.Request(transition=Transition(id=transition))
        graph.call(ChangeState, 'change_state', request)
        state = graph.call(GetState, 'get_state', GetState.Request(), timeout=5).current_state
        if state.id != OUTCOME[transition]:
            return False
    return True


def test_the_calls_of_nav2s_lifecycle_manager(tracker_node):
    events = []
    with tracker_node(autostart=False, init_box='60,50,24,20') as graph:
        graph.node.create_subscription(
            TransitionEvent, '/tpf_tracker/transition_event', events.append, 50
        )
        for last in (RESET, SHUTDOWN):
            assert manage(graph, STARTUP)
            graph.connected()
            assert len(graph.send(0).detections) == 1
            assert manage(graph, PAUSE) and manage(graph, RESUME)
            graph.connected()
            assert len(graph.send(1).detections) == 1
            assert manage(graph, last)
        assert not manage(graph, STARTUP)  # it is finalized
        reached = [event.goal_state.id for event in events if event.goal_state.id in STATES]
        expected = [*STARTUP, *PAUSE, *RESUME, *RESET, *STARTUP, *PAUSE, *RESUME, *SHUTDOWN]
        assert reached == [OUTCOME[transition] for transition in expected]


def test_a_manager_learns_that_the_model_cannot_be_loaded(tracker_node):
    with tracker_node(autostart=False, checkpoint='/does/not/exist.safetensors') as graph:
        assert not manage(graph, STARTUP)
        state = graph.call(GetState, 'get_state', GetState.Request()).current_state
        assert state.id == State.PRIMARY_STATE_UNCONFIGURED
        assert graph.logged('/does/not/exist.safetensors')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(number, checkpoint):
    with node_process(checkpoint) as process:
        for line in process.stderr:
            if line.rstrip().endswith('ready'):
                break
        maps = Path(f'/proc/{process.pid}/maps').read_text()
        segments = {*re.findall('/dev/shm/fastdds_[0-9a-f]{16}', maps)}
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and not re.search('Traceback|ERROR|Failed', errors)
    assert segments and not [path for path in segments if Path(path).exists()]


def test_it_is_quiet_when_interrupted_while_it_loads(checkpoint):
    with node_process(checkpoint) as process:
        time.sleep(2.5)  # about when the model is loaded
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and not re.search('Traceback|ERROR|Failed', errors)


def node_process(checkpoint):
    command = [sys.executable, '-m', 'tpf_tracker_ros.ros', '--ros-args']
    command += ['-p', f'checkpoint:={checkpoint}']
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
