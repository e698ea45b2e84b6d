"""The page in a real browser, over a real graph: a node, a console and two cameras."""

from contextlib import contextmanager
import os
import signal
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from tpf_tracker_ros.console.process import console_process
from tpf_tracker_ros.core.boxes import iou
from tpf_tracker_ros.ros.dds import loopback_environment

pytest.importorskip('rclpy', reason="needs ROS 2 (pip install 'tpf_tracker_ros[ros]')")
pytest.importorskip('aiohttp', reason="needs pip install 'tpf_tracker_ros[console]'")

SIZE = (320, 240)
TARGET = (44, 36)  # width, height px
PERIOD = 66_666_667  # ns
START = 1_700_000_000_000_000_000
WORLD = cv2.GaussianBlur(
    np.random.default_rng(1).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8), (0, 0), 3
)
PATCH = cv2.resize(
    np.random.default_rng(2).integers(0, 255, (6, 7, 3), np.uint8), TARGET, interpolation=0
)


def truth(stamp):
    """Where the target is: it wanders to and fro, half a px a frame."""
    index = round((int(stamp) - START) / PERIOD)
    return np.array([60 + abs(index % 300 - 150) / 2, 90, *TARGET])


def scene(stamp):
    x, y, w, h = truth(stamp).astype(int)
    place = slice(y, y + h), slice(x, x + w)
    rgb, thermal = WORLD.copy(), 7000 + WORLD[..., 0].astype(np.uint16) // 4
    rgb[place] = PATCH
    thermal[place] = 7300 + PATCH[..., 0].astype(np.uint16)
    return {'rgb': rgb, 'thermal': thermal}


class Cameras:
    """Two cameras that run until the end; dark ones see nothing."""

    def __init__(self, node):
        from sensor_msgs.msg import Image

        self.dark = set()
        self.back = 0  # frames to jump back once
        self._publishers = {
            name: node.create_publisher(Image, f'/{name}/image_raw', 2)
            for name in ('rgb', 'thermal')
        }
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        from rclpy.time import Time
        from std_msgs.msg import Header
        from tpf_tracker_ros.ros.conversion import to_image_message

        index = 0
        while not self._ended.wait(PERIOD / 1e9):
            index, self.back = index + 1 - self.back, 0
            stamp = START + index * PERIOD
            header = Header(stamp=Time(nanoseconds=stamp).to_msg(), frame_id='camera')
            for name, image in scene(stamp).items():
                image = image * 0 if name in self.dark else image
                self._publishers[name].publish(to_image_message(image, header))

    def close(self):
        self._ended.set()
        self._thread.join()


@contextmanager
def tracker(log):
    command = [sys.executable, '-m', 'tpf_tracker_ros.ros']
    with (
        log.open('a') as output,
        subprocess.Popen(command, stdout=output, stderr=output) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)


@pytest.fixture(scope='module')
def graph(tmp_path_factory):
    """Give the cameras, and the address of the page."""
    from tpf_tracker_ros.ros.graph import spinning_node

    patch = pytest.MonkeyPatch()
    for name, value in loopback_environment().items():
        patch.setenv(name, value)
    patch.setenv('ROS_DOMAIN_ID', str(100 + os.getpid() % 60))
    log = tmp_path_factory.mktemp('console') / 'node.log'
    with spinning_node('cameras') as (node, _), console_process('127.0.0.1', 0) as line:
        cameras = Cameras(node)
        try:
            with tracker(log) as process:
                cameras.tracker, cameras.log = process, log
                cameras.url = line.split()[-1]
                yield cameras
        finally:
            cameras.close()
    patch.undo()


@pytest.fixture(scope='module')
def page(browser, graph):
    browser.open(graph.url)
    browser.until(lambda: browser.find_all('#image-rgb'), 'an image', 30)
    started(browser)
    return browser


def started(page):
    """See that the node runs, and images that came after it kept its first pair."""
    page.until_text('state', 'No target', 30)
    page.until(lambda: page.data('image-rgb', 'stamp'), 'an image')
    since = int(page.data('image-rgb', 'stamp'))
    page.until(lambda: int(page.data('image-rgb', 'stamp')) > since + 2e9, 'a newer image')


def shown(page, view='rgb'):
    """Return stamp and box of the image shown, when it has a box."""
    stamp, box = page.data(f'image-{view}', 'stamp'), page.data(f'image-{view}', 'box')
    return (stamp, np.array([float(v) for v in box.split(',')])) if box else None


def draw(page, view='rgb', hold=0.0):
    """Draw a box around the target in the image shown; the mouse rests before it is released."""
    name = f'image-{view}'
    page.until(lambda: page.data(name, 'stamp'), 'an image')
    corners = page.place(name, truth(page.data(name, 'stamp')), SIZE)
    page.drag(*corners, hold=hold)


def tracked(page, view='rgb'):
    """See that the box on the page is on the target, in three images, each by its own stamp."""
    seen = set()

    def on_target():
        if now := shown(page, view):
            assert iou(now[1], truth(now[0])) > 0.4, now
            seen.add(now[0])
        return len(seen) >= 3

    page.until(lambda: shown(page, view), 'a box')
    page.until(on_target, 'three images with a box')


def live(page):
    """Images go on."""
    stamp = page.data('image-rgb', 'stamp')
    page.until(lambda: page.data('image-rgb', 'stamp') > stamp, 'the next image')


def test_a_box_is_drawn_and_the_tracker_is_on_it(page):
    draw(page)
    page.until_text('state', 'Tracking')
    page.until_text('answer', 'target 1 is set in the frame at 17000000')
    tracked(page)
    page.until_text('score', 'from rgb and thermal')
    tracked(page, 'thermal')
    assert page.text('state').startswith('●')


def test_a_slow_hand_costs_nothing(page):
    """The box belongs to the frame that stood still under the mouse, seconds ago by now."""
    page.find('reset').click()
    page.until_text('state', 'No target')
    page.until_text('answer', 'dropped')
    draw(page, 'thermal', hold=0.8)
    page.until_text('state', 'Tracking')
    tracked(page)


def test_dark_images_are_said(page, graph):
    graph.dark.add('rgb')
    page.until_text('score', 'from thermal')
    graph.dark.clear()
    page.until_text('score', 'from rgb and thermal')


def test_a_recording_that_begins_again_shows_no_box_of_before(page, graph):
    tracked(page)
    graph.back = 30
    page.until_text('state', 'No target')
    for _ in range(10):
        live(page)
        assert page.data('image-rgb', 'box') == ''


def test_stop_by_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    page.find('reset').send_keys(Keys.TAB)
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.until_text('answer', 'stopped')
    page.until_text('state', 'No target')


def test_a_box_in_numbers(page):
    page.run('document.getElementById("typed").open = true')
    for name, value in zip('xywh', truth(page.data('image-rgb', 'stamp'))):
        field = page.driver.find_element('name', name)
        field.clear()
        field.send_keys(f'{value:g}')
    field.submit()
    page.until_text('state', 'Tracking')
    tracked(page)


def test_parameters_change_live_and_refusals_stand_beside_them(page):
    from selenium.webdriver.common.keys import Keys

    page.run('document.getElementById("parameters").open = true')
    name = 'parameter-tracker.uncertain_score'
    answer = f'#rows .row:has([id="{name}"]) output'

    def enter(text):
        page.find(name).send_keys(Keys.CONTROL, 'a')
        page.find(name).send_keys(f'{text}\t')

    enter('7')
    page.until(lambda: 'it must be 0 to 1' in page.find_all(answer)[0], 'the refusal')
    assert page.find_all(answer)[0].startswith('✕ Refused')
    assert page.find(name).get_property('value') == '0.25'
    enter('0.3')
    page.until(lambda: '✓' in page.find_all(answer)[0], 'the consent')
    assert page.find(name).get_property('value') == '0.3'


def test_views_are_switched_and_the_fused_image_comes(page):
    page.find('view-thermal').click()
    page.until(lambda: not page.find_all('#image-thermal'), 'the end of the thermal image')
    page.find('view-fused').click()
    page.until(lambda: page.find_all('#image-fused'), 'the fused image')
    page.until(lambda: page.data('image-fused', 'stamp'), 'the fused image')
    assert page.find('view-fused').get_attribute('aria-pressed') == 'true'


def test_curves_and_health_in_words(page):
    label = page.find('latency-curve').get_attribute('aria-label')
    assert 'over the last minute' in label
    assert 'no values' not in label
    page.until(lambda: 'OK, thermal: images arrive' in page.text('health'), 'health', 15)
    assert 'Pairs tracked' in page.text('numbers')


def test_a_phone_draws_with_a_finger(page):
    page.find('stop').click()
    page.until_text('state', 'No target')
    page.phone()
    try:
        assert page.run('return document.documentElement.scrollWidth') <= 390
        page.run('document.getElementById("image-rgb").scrollIntoView()')
        corners = page.place('image-rgb', truth(page.data('image-rgb', 'stamp')), SIZE)
        page.swipe(*corners)
        page.until_text('state', 'Tracking')
        tracked(page)
    finally:
        page.desktop()


def test_two_viewers(page, graph):
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window('window')
    try:
        page.open(graph.url)
        page.until(lambda: page.find_all('#image-rgb'), 'an image')
        live(page)
    finally:
        page.driver.close()
        page.driver.switch_to.window(first)
    live(page)


def test_a_page_from_elsewhere_cannot_steer(page, graph):
    page.driver.switch_to.new_window('tab')
    try:
        page.open('data:text/html,elsewhere')
        page.run('window.socket = new WebSocket(arguments[0])', f'ws{graph.url[4:]}socket')
        page.until(lambda: page.run('return window.socket.readyState') == 3, 'the refusal')
    finally:
        page.driver.close()
        page.driver.switch_to.window(page.driver.window_handles[0])


def test_a_node_that_dies_and_returns(page, graph):
    graph.tracker.kill()
    page.until_text('trouble', 'does not answer')
    assert page.text('state').startswith('✕')
    page.find('reset').click()
    page.until_text('answer', '✕ Refused')
    with tracker(graph.log):
        started(page)
        assert not page.find('trouble').is_displayed()
        draw(page)
        page.until_text('state', 'Tracking')


def test_the_browser_had_nothing_to_complain_of(page):
    assert page.complaints() == []
