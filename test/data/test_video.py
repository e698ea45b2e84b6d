"""Every frame of a video is there once, at its time and depth, whatever its header says."""

import logging
import re

import cv2
import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.video import Video

SIZE = (48, 64)


def levels(count=12, step=20):
    return [np.full(SIZE, 10 + step * index, np.uint8) for index in range(count)]


def shown(video):
    """Return the grey level in the middle of each frame."""
    return [int(image[20, 20]) for image in video]


def test_every_frame_once_with_its_time(write_video):
    video = Video(write_video('a.mkv', levels()), 'thermal')
    assert shown(video) == shown(levels()) == shown(video)  # twice from the start
    assert len(video) == 12
    assert video.times == [index * 40_000_000 for index in range(12)]


@pytest.mark.parametrize('name', ['a.webm', 'a.mkv', 'a.avi', 'a.mp4', 'a.mov', 'a.ts'])
def test_every_container(write_video, name):
    codec = {'a.webm': 'libvpx', 'a.avi': 'mjpeg', 'a.mov': 'png'}.get(name, 'mpeg4')
    form = {'mjpeg': 'yuvj420p', 'png': 'gray'}.get(codec, 'yuv420p')
    frames = [np.dstack([image] * 3) for image in levels()]
    video = Video(write_video(name, frames, codec, form), 'rgb')
    images = list(video)
    assert len(images) == len(video) == 12
    assert images[0].shape == (*SIZE, 3) and images[0].dtype == np.uint8
    assert np.abs(np.subtract([image[20, 20, 0] for image in images], shown(levels()))).max() < 9
    steps = np.diff(video.times) / 1e6
    assert np.abs(steps - 40).max() < 1.5


@pytest.mark.parametrize(
    ('name', 'codec', 'form'),
    [
        ('a.mkv', 'ffv1', 'gray16le'),
        ('a.mkv', 'ffv1', 'gray10le'),
        ('a.mkv', 'ffv1', 'gray12le'),
        ('a.mov', 'png', 'gray16be'),
        ('a.mkv', 'ffv1', 'yuv420p12le'),
    ],
)
def test_more_than_8_bits_keep_their_counts(write_video, name, codec, form):
    counts = np.arange(48 * 64, dtype=np.uint16).reshape(SIZE) % (1 << 10)
    image = next(iter(Video(write_video(name, [counts], codec, form), 'thermal')))
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, counts)


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.avi', 'a.ts'])
@pytest.mark.parametrize('codec', ['mpeg4', 'libx264'])
def test_frames_that_are_stored_out_of_order(write_video, name, codec):
    frames = [np.dstack([image] * 3) for image in levels()]
    video = Video(write_video(name, frames, codec, 'yuv420p', bf=3), 'thermal')
    assert np.abs(np.subtract(shown(video), shown(levels()))).max() < 9


def test_a_header_without_count_and_duration(write_video):
    path = write_video('live.mkv', levels(), live='1')
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) < 0
    assert shown(Video(path, 'thermal')) == shown(levels())


def test_a_recorder_that_was_killed(write_video):
    images = [np.random.default_rng(i).integers(0, 255, SIZE, np.uint8) for i in range(12)]
    path = write_video('a.mkv', images, 'mjpeg', 'yuvj420p')
    data = path.read_bytes()
    for cut in np.linspace(len(data) // 3, len(data), 9, dtype=int):
        path.write_bytes(data[:cut])
        video = Video(path, 'thermal')
        assert len(list(video)) == len(video) >= 12 * cut / len(data) - 2


def test_an_empty_frame_in_avi_keeps_its_place(write_video, caplog):
    kept = [0, 1, 2, 4, 5, 8, 9]
    path = write_video(
        'a.avi', [levels()[i] for i in kept], 'mjpeg', 'yuvj420p', pts=kept, rate=25
    )
    video = Video(path, 'thermal')
    want = shown(levels()[i] for i in [0, 1, 2, 2, 4, 5, 5, 5, 8, 9])
    assert np.abs(np.subtract(shown(video), want)).max() < 4
    assert '3 of 10 frames are empty or damaged' in caplog.text


def test_a_damaged_frame_keeps_its_place(write_video, caplog):
    images = [np.random.default_rng(i).integers(0, 255, SIZE, np.uint8) for i in range(6)]
    path = write_video('a.avi', images, 'mjpeg', 'yuvj420p')
    data = bytearray(path.read_bytes())
    starts = [match.start() for match in re.finditer(b'\xff\xd8\xff', data)]
    start, stop = starts[3], starts[4] - 8
    data[start:stop] = bytes(stop - start)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        read = list(Video(path, 'thermal'))
    assert len(read) == 6
    assert np.array_equal(read[3], read[2])
    assert np.abs(read[4].astype(int) - images[4]).mean() < 20
    assert '1 of 6 frames are empty or damaged' in caplog.text


@pytest.mark.parametrize('name', ['12:30.mkv', '100%d.mkv', 'a#b?.mkv', 'Flüge ☂.mkv', 'a b.mkv'])
def test_odd_characters_in_paths(write_video, name):
    path = write_video('plain.mkv', levels(3))
    assert len(list(Video(path.rename(path.with_name(name)), 'rgb'))) == 3


def test_turned_as_its_matrix_says(write_video):
    image = np.arange(48 * 64, dtype=np.uint16).reshape(SIZE)
    path = write_video('a.mov', [image], 'png', 'gray16be')
    data = path.read_bytes()
    one, minus = (1 << 16).to_bytes(4, 'big'), (-(1 << 16)).to_bytes(4, 'big', signed=True)
    upright = one + bytes(12) + one + bytes(12) + b'\x40\0\0\0'
    turned = bytes(4) + one + bytes(4) + minus + bytes(16) + b'\x40\0\0\0'
    track = data.index(upright, data.index(b'tkhd'))
    behind = track + len(upright)
    path.write_bytes(data[:track] + turned + data[behind:])
    seen = cv2.VideoCapture(str(path)).read()[1].shape[:2]
    (shown,) = Video(path, 'thermal')
    assert shown.shape == seen == SIZE[::-1]
    np.testing.assert_array_equal(shown, np.rot90(image, -1))


def test_a_chosen_part_and_gaps(write_video):
    video = Video(write_video('a.mkv', levels()), 'thermal')
    video.arrange([1, None, 2, 7])
    assert [None if image is None else int(image[0, 0]) for image in video] == [30, None, 50, 150]
    assert len(video) == 4 and video.there.tolist() == [True, False, True, True]


@pytest.mark.parametrize('content', [b'', b'no video', b'version https://git-lfs.github.com/x'])
def test_what_is_no_video_is_named(tmp_path, content):
    path = tmp_path / 'film.mp4'
    path.write_bytes(content)
    with pytest.raises(TpfError, match=r'film\.mp4 cannot be read as a video') as caught:
        Video(path, 'rgb')
    assert ('LFS' in str(caught.value)) == (b'lfs' in content)
