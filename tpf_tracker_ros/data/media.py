"""Folders of images and videos as sequences of frame pairs, decoded one at a time."""

from collections.abc import Callable, Iterable, Iterator
import logging
from pathlib import Path
import re
from types import SimpleNamespace
from typing import Protocol

import cv2
import numpy as np
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.image_encoding import decode_rgb, decode_thermal
from tpf_tracker_ros.core.registration import Register

IMAGE_SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.pgm', '.ppm'}
VIDEO_SUFFIXES = {'.mp4', '.avi', '.mkv', '.mov', '.m4v', '.webm', '.mpg', '.mpeg'}
DECODERS = {'rgb': decode_rgb, 'thermal': decode_thermal}
# FFmpeg's name of 16-bit little-endian grey.
GREY_16 = int.from_bytes(b'Y1\x00\x10', 'little')

log = logging.getLogger(__name__)


class Frames(Protocol):
    """The images of one camera; fps is None where the medium does not tell."""

    fps: float | None

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


class MediaSequence:
    """
    Two cameras' folders or videos, frame by frame in step; a Sequence.

    rgb, thermal: a folder of images or a video each; None where that camera is left out.
    ground_truth: float64 (N, 4) x, y, w, h px, or None. fps: for the stamps of image folders.
    register: brings thermal images onto the RGB grid; None where they lie on it already.
    Raises TpfError on missing paths and on videos of different frame rate; on iteration, on an
    image that cannot be decoded, by its name. The longer camera is cut, with a warning.
    """

    def __init__(
        self,
        rgb: Path | str | None,
        thermal: Path | str | None,
        *,
        name: str | None = None,
        ground_truth: np.ndarray | None = None,
        fps: float = 30.0,
        register: Register | None = None,
    ) -> None:
        given = {'rgb': rgb, 'thermal': thermal}
        paths = {camera: Path(path) for camera, path in given.items() if path is not None}
        if not paths:
            raise TpfError('neither rgb nor thermal images are given; give at least one of them')
        self._cameras = {camera: open_frames(path, camera) for camera, path in paths.items()}
        self.name = name or next(iter(paths.values())).stem
        self.ground_truth = ground_truth
        self._register = register
        rates = {frames.fps for frames in self._cameras.values() if frames.fps}
        if len(rates) > 1 and max(rates) > 1.01 * min(rates):
            raise TpfError(
                f'rgb and thermal videos have {" and ".join(f"{rate:g}" for rate in rates)} '
                'frames/s; bring them to one rate first (ffmpeg -r)'
            )
        self.fps = min(rates, default=fps)
        lengths = {camera: len(frames) for camera, frames in self._cameras.items()}
        self._length = min(lengths.values())
        if len(set(lengths.values())) > 1:
            log.warning(
                '%s: %d rgb but %d thermal frames; the first %d are used',
                self.name,
                lengths['rgb'],
                lengths['thermal'],
                self._length,
            )

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[FramePair]:
        for index, images in enumerate(zip(*self._cameras.values())):
            yield self._pair(images, index)

    def __getitem__(self, index: int) -> FramePair:
        """Return one pair; of image folders only, as videos are read from start to end."""
        return self._pair((frames[index] for frames in self._cameras.values()), index)

    def _pair(self, images: Iterable[np.ndarray], index: int) -> FramePair:
        pair = dict(zip(self._cameras, images))
        rgb, thermal = pair.get('rgb'), pair.get('thermal')
        if self._register and rgb is not None and thermal is not None:
            thermal = self._register(thermal, rgb.shape[1::-1])
        return FramePair(rgb, thermal, stamp=round(index * 1e9 / self.fps))


class ImageFolder:
    """The images of a folder, sorted by name with numbers as numbers."""

    fps = None

    def __init__(self, path: Path, decode: Callable[[object], np.ndarray]) -> None:
        files = (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        self.files = sorted(files, key=natural)
        self._decode = decode
        if not self.files:
            raise TpfError(f'{path} holds no images ({", ".join(sorted(IMAGE_SUFFIXES))})')

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        file = self.files[index]
        try:
            return self._decode(SimpleNamespace(format=file.suffix, data=file.read_bytes()))
        except TpfError as error:
            raise TpfError(f'{file}: {error}') from error

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.__getitem__, range(len(self)))


class Video:
    """The frames of a video, one after the other; 16-bit grey (as in FFV1) stays 16-bit."""

    def __init__(self, path: Path, camera: str) -> None:
        self.path = path
        self._camera = camera
        video = cv2.VideoCapture(str(path))
        self.fps = video.get(cv2.CAP_PROP_FPS) or None
        self._length = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        if not video.isOpened() or self._length <= 0:
            raise TpfError(f'{path} cannot be read as a video')

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[np.ndarray]:
        video = cv2.VideoCapture(str(self.path))
        deep = video.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT) == GREY_16
        if self._camera == 'thermal' and deep:
            video.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        code = cv2.COLOR_BGR2RGB if self._camera == 'rgb' else cv2.COLOR_BGR2GRAY
        for index in range(self._length):
            found, image = video.read()
            if not found:
                log.warning('%s ends after %d of %d frames', self.path, index, self._length)
                return
            yield image if image.ndim == 2 else cv2.cvtColor(image, code)


def open_frames(path: Path, camera: str) -> Frames:
    """Return the frames of 'rgb' or 'thermal' in a folder of images or a video."""
    if path.is_dir():
        return ImageFolder(path, DECODERS[camera])
    if not path.exists():
        raise TpfError(f'{camera} images {path} do not exist')
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        videos = ', '.join(sorted(VIDEO_SUFFIXES))
        raise TpfError(f'{path} is neither a folder of images nor a video ({videos})')
    return Video(path, camera)


def natural(path: Path) -> list[str | int]:
    """Sort key: frame 10 comes after frame 9, padded with zeros or not."""
    return [int(part) if part.isdecimal() else part for part in re.split(r'(\d+)', path.name)]
