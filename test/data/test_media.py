"""Folders and videos become pairs in the right order, at full depth, and name what is broken."""

import cv2
import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.media import MediaSequence

SIZE = (64, 48)


def grey(level, dtype=np.uint8):
    return np.full(SIZE[::-1], level, dtype)


@pytest.fixture
def folders(tmp_path):
    """12 frames, not padded with zeros; rgb 8 bit colour, thermal 16 bit."""
    for camera in 'visible', 'infrared':
        (tmp_path / camera).mkdir()
    for index in range(12):
        colour = np.dstack([grey(1), grey(2), grey(index)])  # B, G, R
        cv2.imwrite(str(tmp_path / f'visible/v{index}.png'), colour)
        cv2.imwrite(str(tmp_path / f'infrared/i{index}.png'), grey(7000 + index, np.uint16))
    (tmp_path / 'visible/notes.txt').write_text('not an image')
    return tmp_path


def video(path, frames, *, fps=25.0, deep=False):
    parameters = (cv2.VIDEOWRITER_PROP_IS_COLOR, 0, cv2.VIDEOWRITER_PROP_DEPTH, cv2.CV_16U)
    writer = cv2.VideoWriter(
        str(path),
        cv2.CAP_FFMPEG,
        cv2.VideoWriter_fourcc(*('FFV1' if deep else 'mp4v')),
        fps,
        SIZE,
        parameters if deep else (),
    )
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def test_folders_in_the_order_of_their_numbers(folders):
    sequence = MediaSequence(folders / 'visible', folders / 'infrared', fps=10)
    pairs = list(sequence)
    assert len(sequence) == len(pairs) == 12
    assert [pair.rgb[0, 0].tolist() for pair in pairs] == [[i, 2, 1] for i in range(12)]
    assert [int(pair.thermal[0, 0]) for pair in pairs] == list(range(7000, 7012))
    assert [pair.stamp for pair in pairs] == [i * 100_000_000 for i in range(12)]


@pytest.mark.parametrize('camera', ['rgb', 'thermal'])
def test_one_camera(folders, camera):
    paths = {'rgb': None, 'thermal': None, camera: folders / 'visible'}
    assert {pair.modality for pair in MediaSequence(**paths)} == {camera}


def test_corrupt_image_is_named(folders):
    bad = folders / 'infrared/i3.png'
    bad.write_bytes(bad.read_bytes()[:60])
    sequence = iter(MediaSequence(folders / 'visible', folders / 'infrared'))
    for _ in range(3):
        next(sequence)
    with pytest.raises(TpfError, match=r'infrared/i3\.png.*cannot be decoded'):
        next(sequence)


def test_longer_camera_is_cut_with_a_warning(folders, caplog):
    (folders / 'visible/v11.png').unlink()
    sequence = MediaSequence(folders / 'visible', folders / 'infrared')
    assert len(sequence) == len(list(sequence)) == 11
    assert '11 rgb but 12 thermal frames' in caplog.text


def test_videos(tmp_path):
    levels = [20, 120, 220]
    rgb = video(tmp_path / 'rgb.mp4', [np.dstack([grey(0), grey(0), grey(x)]) for x in levels])
    deep = video(tmp_path / 'thermal.avi', [grey(x * 200, np.uint16) for x in levels], deep=True)
    pairs = list(MediaSequence(rgb, deep))
    assert [int(pair.thermal[0, 0]) for pair in pairs] == [4000, 24000, 44000]
    for pair, level in zip(pairs, levels):
        red, green, blue = pair.rgb[20, 20].tolist()
        assert abs(red - level) < 12 and green < 12 and blue < 12
    assert [pair.stamp for pair in pairs] == [0, 40_000_000, 80_000_000]


def test_videos_of_different_rate_are_refused(tmp_path):
    slow = video(tmp_path / 'slow.mp4', [np.dstack([grey(9)] * 3)] * 3, fps=10)
    fast = video(tmp_path / 'fast.mp4', [np.dstack([grey(9)] * 3)] * 3, fps=30)
    with pytest.raises(TpfError, match='frames/s'):
        MediaSequence(slow, fast)


@pytest.mark.parametrize('name', ['absent', 'empty', 'text.txt', 'broken.mp4'])
def test_bad_paths_are_named(tmp_path, name):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.txt').write_text('hello')
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    with pytest.raises(TpfError, match=name):
        MediaSequence(tmp_path / name, None)


def test_nothing_given():
    with pytest.raises(TpfError, match='neither rgb nor thermal'):
        MediaSequence(None, None)


def test_real_thermal_video(shared_data):
    sequence = MediaSequence(None, shared_data / 'antiuav/4.avi')
    assert len(sequence) == 501
    pair = next(iter(sequence))
    assert pair.modality == 'thermal' and pair.size == (640, 512)
    assert pair.thermal.dtype == np.uint8 and pair.thermal.std() > 10


def test_real_image_folders(shared_data):
    folder = shared_data / 'roadscene'
    sequence = iter(MediaSequence(folder / 'visible', folder / 'infrared'))
    for _ in range(5):
        pair = next(sequence)
        assert pair.modality == 'rgb+thermal'
