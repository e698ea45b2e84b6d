"""`tpf track --init ask`: the box is drawn in a real browser, the run goes on."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip('aiohttp', reason="needs pip install 'tpf_tracker_ros[console]'")
SIZE = (320, 240)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder of six images."""
    folder = tmp_path_factory.mktemp('images')
    image = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 3)
    for index in range(6):
        cv2.imwrite(str(folder / f'{index}.png'), np.roll(image, index, axis=1))
    return folder


@pytest.fixture
def tpf(folder, tmp_path):
    """Give a function (words) that starts `tpf track --init ask` and returns it and its page."""
    started = []

    def start(*words):
        command = [sys.executable, '-m', 'tpf_tracker_ros.cli', 'track', '--rgb', folder]
        command += ['--init', 'ask', '--port', '0', '--out', tmp_path / 'out', *words]
        process = subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        line = process.stdout.readline()
        assert 'draw a box around the target at http://' in line, process.stderr.read()
        return process, line.split()[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_step_draw_and_go_on(browser, tpf, tmp_path):
    process, url = tpf()
    browser.open(url)
    browser.until(lambda: browser.find_all('#image-rgb'), 'an image')
    browser.until_text('frame', 'frame 1 of 6')
    browser.until_text('state', 'Choose the target')
    for step, frame in ((1, 2), (10, 6), (-1, 5), (-10, 1), (1, 2), (1, 3)):
        browser.driver.find_element('css selector', f'[data-step="{step}"]').click()
        browser.until_text('frame', f'frame {frame} of 6')
    browser.until(lambda: browser.data('image-rgb', 'stamp') == '2', 'the third frame')
    browser.drag(*browser.place('image-rgb', (100, 80, 40, 30), SIZE))
    browser.until_text('answer', 'the run goes on')
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert '4 frames' in out
    boxes = np.loadtxt(tmp_path / 'out/boxes.txt', delimiter=',')
    assert boxes.shape == (6, 4)
    assert np.isnan(boxes[:2]).all()
    assert boxes[2] == pytest.approx([100, 80, 40, 30], abs=1)
    assert np.isfinite(boxes[3:]).all()
    assert json.loads((tmp_path / 'out/track.json').read_text())['first_frame'] == 2
    assert browser.complaints() == []


def test_a_token_is_asked_for(browser, tpf):
    _, url = tpf('--address', '0.0.0.0')
    address, _, token = url.partition('?token=')
    address = f'http://127.0.0.1:{address.rstrip("/").rpartition(":")[2]}/'
    browser.open(address)

    def enter(word):
        browser.find('token').send_keys(word)
        browser.driver.find_element('css selector', 'button').click()

    assert not browser.driver.find_element('class name', 'wrong').is_displayed()
    enter('guess')
    browser.until(lambda: browser.find_all('.wrong') not in ([], ['']), 'the refusal')
    enter(token)
    browser.until(lambda: browser.find_all('#image-rgb'), 'an image')
    assert 'token' not in browser.driver.current_url
    # The address as printed needs no typing.
    browser.driver.delete_all_cookies()
    browser.open(f'{address}?token={token}')
    browser.until(lambda: browser.find_all('#image-rgb'), 'an image')
