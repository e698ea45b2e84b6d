"""What the node notices about its cameras, their clocks and itself; it says so and goes on."""

import itertools
import threading
import time

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
from other_side import BOX, boxes, header, PERIOD, scene, stamps
import pytest
import rclpy
from rclpy.time import Time
from tpf_tracker_ros.ros import worker
from tpf_tracker_ros.ros.conversion import to_image_message

WARN, ERROR = DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def publish(graph, index, rgb_stamp, thermal_stamp, *, cameras=('rgb', 'thermal'), **images):
    """One image of each camera, stamped by hand (ns); waits for a thirtieth of a second."""
    for camera, image, stamp in zip(('rgb', 'thermal'), scene(index), (rgb_stamp, thermal_stamp)):
        if camera in cameras:
            message = to_image_message(images.get(camera, image), header(index, camera))
            message.header.stamp = Time(nanoseconds=stamp).to_msg()
            graph.cameras[camera].publish(message)
    time.sleep(PERIOD / 1e9)


def clock():
    """Give the stamp in ns of an image by its index, without the jitter of this machine."""
    first = time.time_ns()
    return lambda index: first + index * PERIOD


def until_said(graph, part, words, send, timeout=12):
    """Send images until the diagnostics say it; returns the status."""
    deadline, index = time.perf_counter() + timeout, 0
    while words not in graph.says(part):
        send(index)
        index += 1
        assert time.perf_counter() < deadline, f'{part} says: {graph.says(part)}'
    return graph.health[part]


def test_no_pair_any_more_is_an_error_with_what_it_waits_for(tracker_node):
    with tracker_node(init_box='60,50,24,20', stall_timeout_ms=500.0) as graph:
        graph.connected()
        graph.send(0)
        graph.until(lambda: graph.states and graph.state() == ('STALLED', '1'), 'STALLED')
        words = 'nothing comes on /rgb/image_raw and /thermal/image_raw'
        graph.until(lambda: words in graph.says('tracker'), words)
        assert graph.health['tracker'].level == ERROR and graph.logged(words)
        for camera in ('rgb', 'thermal'):
            graph.until(lambda c=camera: 'nothing is tracked' in graph.says(c), camera)
            assert graph.health[camera].level == ERROR
            assert 'going on' not in graph.says(camera)
        assert graph.status('state') == 'STALLED'
        before = len(graph.states)
        assert graph.send(1).detections[0].id == '1'
        graph.until(lambda: len(graph.states) > before, 'recovery')
        assert graph.states[before].results[0].hypothesis.class_id != 'STALLED'
        graph.until(lambda: graph.logged('pairs are finished again'), 'log')


def test_a_step_that_hangs_is_told_and_the_node_stops(tracker_node, monkeypatch):
    monkeypatch.setattr(worker, 'CLOSE_TIMEOUT', 0.3)
    go_on = threading.Event()
    try:
        with tracker_node(init_box='60,50,24,20', stall_timeout_ms=300.0) as graph:
            graph.connected()
            graph.send(0)
            monkeypatch.setattr(graph.tracker._tracker, 'track', lambda pair: go_on.wait(60))
            graph.send(1, wait=False)
            graph.until(lambda: 'has been in one step for' in graph.says('tracker'), 'the error')
            assert graph.health['tracker'].level == ERROR
            started = time.perf_counter()
        assert time.perf_counter() - started < 10 and graph.tracker.hangs
    finally:
        go_on.set()


def test_a_tracker_slower_than_the_cameras_is_told(tracker_node, monkeypatch):
    with tracker_node(init_box='60,50,24,20') as graph:
        graph.connected()
        track = graph.tracker._tracker.track
        monkeypatch.setattr(
            graph.tracker._tracker, 'track', lambda pair: time.sleep(0.2) or track(pair)
        )
        status = until_said(
            graph, 'tracker', 'of the pairs are skipped: a step takes 2',
            lambda i: publish(graph, i, i * PERIOD, i * PERIOD),
        )  # fmt: skip
        assert status.level == WARN and graph.logged('take a smaller model')


def test_zero_stamps_are_tracked_by_arrival(tracker_node):
    with tracker_node(init_box='60,50,24,20') as graph:
        graph.connected()
        words = 'the stamps of the rgb and thermal images are zero or stand still'
        status = until_said(graph, 'pairing', words, lambda index: publish(graph, index, 0, 0))
        assert status.level == WARN
        tracked = [message for message in graph.tracks if message.detections]
        assert len(tracked) > 10 and {m.detections[0].id for m in tracked} == {'1'}
        assert {m.header.frame_id for m in tracked} == {'rgb'}


def test_clocks_that_differ_are_told_from_images_that_come_late(tracker_node):
    hour = 3600 * 10**9

    def send(index, epoch=hour):
        now = time.time_ns()  # real: it is compared with the node's clock
        publish(graph, index, now, now + epoch)

    with tracker_node() as graph:
        graph.connected()
        words = 'the thermal stamps are 3600.0 s ahead of the clock of the node; synchronise'
        until_said(graph, 'pairing', words, send)
        assert 'set thermal_offset_ms to -3600' in graph.says('pairing')
        words = 'thermal images arrive 2.0 s after their stamps; if they are that late, set'
        until_said(graph, 'pairing', words, lambda index: send(index, -2 * 10**9), timeout=20)
        assert 'camera_timeout_ms above 24' in graph.says('pairing')


def test_a_slow_thermal_camera_is_reported_and_held(tracker_node):
    stamp = clock()

    def send(index):
        now = stamp(index)
        cameras = ('rgb', 'thermal') if index % 4 == 0 else ('rgb',)
        publish(graph, index, now, now - 1000, cameras=cameras)

    with tracker_node(pairing='hold', init_box='60,50,24,20') as graph:
        graph.connected()
        for index in range(40):
            send(index)
        graph.until(lambda: len(graph.tracks) > 20, 'tracks')
        assert graph.status('modality') == 'rgb+thermal'
        assert graph.says('pairing') == 'nothing to complain of'
    with tracker_node() as graph:
        graph.connected()
        until_said(graph, 'pairing', 'set pairing to hold', lambda index: send(index + 1000))


def test_a_frozen_and_a_blank_thermal_camera_are_noticed_and_left_out(tracker_node):
    frames, stamp = itertools.count(), clock()
    rgb = scene(0)[0]

    def send(thermal):
        index = next(frames)
        rgb[0, 0] = index % 256
        publish(graph, index, stamp(index), stamp(index), rgb=rgb, thermal=thermal)

    frozen, blank = scene(0)[1], np.full_like(scene(0)[1], 7300)
    # The weights of the package: they stay on the target.
    with tracker_node(checkpoint='') as graph:
        graph.connected()
        words = 'images on /thermal/image_raw stay the same'
        status = until_said(graph, 'thermal', words, lambda _: send(frozen))
        assert status.level == WARN and 'tracking' not in status.message  # no target yet
        assert graph.set(init_box='60,50,24,20') == ['']
        words += ' (a shutter, or a camera that hangs); tracking by rgb alone'
        until_said(graph, 'thermal', words, lambda _: send(frozen))
        graph.until(lambda: graph.status('modality') == 'rgb', 'modality')
        assert graph.logged('target 1 is now tracked by rgb')
        rng = np.random.default_rng(0)

        def almost_blank(_):
            image = blank.copy()
            image[rng.integers(0, 128), 0] += 1  # not the same again and again
            send(image)

        words = 'images on /thermal/image_raw are blank'
        status = until_said(graph, 'thermal', words, almost_blank)
        assert status.level == WARN
        for index in range(30):
            send(scene(index)[1])
        graph.until(lambda: graph.status('modality') == 'rgb+thermal', 'recovery')


def test_the_diagnostics_of_two_nodes_can_be_told_apart(tracker_node):
    with tracker_node(mode='rgb') as graph:
        graph.until(lambda: graph.health, 'diagnostics')
        assert set(graph.health) == {'tracker', 'pairing', 'rgb'}
        status = graph.health['tracker']
        assert status.name == 'tpf_tracker: tracker'
        assert status.hardware_id == '/rgb/image_raw'
        other = rclpy.create_node('tpf_tracker', context=graph.node.context)
        graph.until(lambda: 'another node /tpf_tracker, whose' in graph.says('tracker'), 'name')
        other.destroy_node()
        assert graph.set(use_sim_time=True) == ['']
        graph.until(lambda: 'nothing comes on /clock' in graph.says('tracker'), 'clock')
        assert graph.logged('another node /tpf_tracker') and graph.logged('comes on /clock')


@pytest.mark.parametrize('mode', ['rgb', 'rgb+thermal'])
def test_stamps_only_increase_in_a_flood_of_targets(tracker_node, mode):
    with tracker_node(mode=mode) as graph:
        if mode == 'rgb':
            graph.cameras.pop('thermal')
        graph.connected()
        for index in range(60):
            graph.send(index, cameras=mode.split('+'), wait=False)
            if index > 10:
                graph.start_now(header(index - 8), BOX)
        graph.until(lambda: stamps(graph.tracks)[-1] == 59, 'the last tracks')
        seen = stamps(graph.tracks)
        assert seen == sorted(set(seen)) and boxes(graph.tracks)[-1]
