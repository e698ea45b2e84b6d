"""Folders and videos become pairs in the right order, at full depth, and name what is broken."""

from pathlib import Path

import cv2
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.registration import register_by
from tpf_tracker_ros.data.images import frame_numbers, ImageFolder, natural
from tpf_tracker_ros.data.media import MediaSequence, pair_folders, same_numbering

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


def test_event_images_keep_their_colours(folders, write_video):
    path = folders / 'visible'
    pair = next(iter(MediaSequence(path, path, second='events')))
    assert np.array_equal(pair.thermal, pair.rgb)
    events = np.full((48, 64, 3), (9, 8, 7), np.uint8)
    film = write_video('events.avi', [events], 'ffv1', 'bgr0')
    (pair,) = MediaSequence(None, film, second='events')
    assert np.array_equal(pair.thermal, events)


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


def test_a_frame_that_one_camera_lacks_has_the_other_alone(folders, caplog):
    (folders / 'visible/v11.png').unlink()
    (folders / 'infrared/i3.png').unlink()
    pairs = list(MediaSequence(folders / 'visible', folders / 'infrared'))
    assert len(pairs) == 12
    assert [pair.modality for pair in pairs].count('rgb+thermal') == 10
    assert (pairs[3].modality, pairs[11].modality) == ('rgb', 'thermal')
    for index, pair in enumerate(pairs):
        assert pair.rgb is None or pair.rgb[0, 0, 0] == index
        assert pair.thermal is None or pair.thermal[0, 0] == 7000 + index
    assert 'visible lacks 1 of 12 frames' in caplog.text
    assert 'infrared lacks 1 of 12 frames' in caplog.text


def test_a_thermal_frame_alone_comes_onto_the_rgb_grid(folders):
    (folders / 'visible/v0.png').unlink()
    grow = register_by([2, 0, 0, 0, 2, 0, 0, 0, 1])
    for file in (folders / 'visible').glob('*.png'):
        cv2.imwrite(str(file), np.zeros((96, 128, 3), np.uint8))
    pairs = list(MediaSequence(folders / 'visible', folders / 'infrared', register=grow))
    assert {pair.size for pair in pairs} == {(128, 96)}


def renamed(folder, numbers, prefix=''):
    """Give the files of a folder other numbers; the first ones stay, in order."""
    files = sorted(folder.iterdir(), key=natural)
    files = [file for file in files if file.suffix == '.png']
    kept = len(numbers)
    for file in files[kept:]:
        file.unlink()
    for file, number in zip(files, numbers):
        file.rename(folder / f'{prefix}new{number}.png')


@pytest.mark.parametrize('numbers', [range(1, 13), range(100, 112), range(0, 240, 20)])
def test_other_numbers_of_equal_count_go_by_position(folders, caplog, numbers):
    renamed(folders / 'infrared', numbers)
    pairs = list(MediaSequence(folders / 'visible', folders / 'infrared'))
    assert [int(pair.thermal[0, 0]) - 7000 for pair in pairs] == list(range(12))
    assert [int(pair.rgb[0, 0, 0]) for pair in pairs] == list(range(12))
    assert 'numbered differently' in caplog.text


def test_other_numbers_of_another_count_are_refused(folders):
    renamed(folders / 'infrared', range(100, 111))
    with pytest.raises(TpfError, match=r'12 rgb frames but 11 thermal.*v0\.png and new100\.png'):
        MediaSequence(folders / 'visible', folders / 'infrared')


def test_names_without_numbers_go_by_position(folders):
    for camera in 'visible', 'infrared':
        for index, file in enumerate(sorted((folders / camera).glob('*.png'), key=natural)):
            file.rename(folders / camera / f'{"abcdefghijkl"[index]}.png')
    assert len(list(MediaSequence(folders / 'visible', folders / 'infrared'))) == 12


def test_hidden_files_are_no_frames(folders):
    (folders / 'visible/._v0.png').write_bytes(b'macOS')
    (folders / 'visible/.v99.png').write_bytes(b'')
    assert len(list(MediaSequence(folders / 'visible', None))) == 12


@given(
    rgb=st.sets(st.integers(0, 20), min_size=8),
    thermal=st.sets(st.integers(0, 20), min_size=8),
    names=st.sampled_from(['{:06}.png', 'v{}.png', 'cam1_{}_rgb8.png', '2024_{:03}v.png']),
)
def test_a_number_is_one_frame_whatever_is_missing(rgb, thermal, names):
    folders = []
    for numbers in rgb, thermal:
        folder = ImageFolder.__new__(ImageFolder)
        folder.path = Path('camera')
        folder.files = [Path('camera', names.format(number)) for number in sorted(numbers)]
        folder.numbers = frame_numbers(folder.files)
        folders.append(folder)
    if not same_numbering([folder.numbers for folder in folders]):
        assert len(rgb & thermal) * 2 < min(len(rgb), len(thermal)) or (
            len(rgb) == len(thermal) and min(rgb) != min(thermal)
        )
        return
    numbers = pair_folders('x', *folders)
    assert numbers == sorted(rgb | thermal)
    for folder, own in zip(folders, (rgb, thermal)):
        assert [int(frame_numbers([file])[0]) if names != 'cam1_{}_rgb8.png' else number
                for file, number in zip(folder.files, numbers)] == numbers  # fmt: skip
        assert folder.there.tolist() == [number in own for number in numbers]


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


def test_videos_pair_by_time(write_video, caplog):
    levels = [np.full((48, 64), 10 * index, np.uint8) for index in range(20)]
    slow = [0, 1, 2, 5, 6, 8, 9, 12, 13, 14, 18, 19]  # a camera that slows down in the dark
    rgb = write_video('rgb.mkv', [levels[i] for i in slow], pts=slow)
    thermal = write_video('thermal.mp4', [levels[i] for i in range(1, 20)], 'png', 'gray',
                          pts=range(1, 20))  # fmt: skip
    pairs = list(MediaSequence(rgb, thermal))
    both = [pair for pair in pairs if pair.modality == 'rgb+thermal']
    assert len(both) == len(slow) - 1
    for pair in both:
        assert pair.rgb[0, 0, 0] == pair.thermal[0, 0] == pair.stamp / 4e6
    assert '11 pairs within 15 ms' in caplog.text


def test_videos_whose_times_do_not_meet_are_refused_with_the_distance(write_video):
    slow = write_video('slow.mkv', [grey(9)] * 8, rate=10)
    late = write_video('late.mkv', [grey(9)] * 8, rate=10, pts=range(50, 58))
    with pytest.raises(TpfError, match=r'0 of 8 rgb and 8 thermal .*5000 ms; .*--slop-ms'):
        MediaSequence(slow, late)
    fast = write_video('fast.mkv', [grey(9)] * 8, rate=13)
    with pytest.raises(TpfError, match='largest distance'):
        MediaSequence(slow, fast)
    assert len(MediaSequence(slow, fast, slop_ns=200_000_000)) >= 7


def test_a_video_beside_images_goes_by_position(write_video, folders):
    rgb = write_video('rgb.mkv', [np.full((48, 64), 10 * i, np.uint8) for i in range(12)])
    pairs = list(MediaSequence(rgb, folders / 'infrared'))
    assert [int(pair.thermal[0, 0]) - 7000 for pair in pairs] == list(range(12))
    assert [pair.stamp for pair in pairs] == [i * 40_000_000 for i in range(12)]
    (folders / 'infrared/i5.png').unlink()
    with pytest.raises(TpfError, match='12 rgb frames but 11 thermal'):
        MediaSequence(rgb, folders / 'infrared')


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
