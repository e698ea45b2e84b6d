"""
Folders of images and videos of two cameras as sequences of frame pairs, decoded one at a time.

Which frames belong together: files by the numbers in their names, frames of videos by their
times; by position only where neither is known or the numbers are different ones.
"""

from collections.abc import Iterable, Iterator
import logging
from pathlib import Path
from typing import Protocol

import numpy as np
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.image_encoding import DECODERS
from tpf_tracker_ros.core.pairing import FramePairer
from tpf_tracker_ros.core.registration import Register
from tpf_tracker_ros.data.images import ImageFolder
from tpf_tracker_ros.data.video import Video, VIDEO_SUFFIXES

log = logging.getLogger(__name__)


class Frames(Protocol):
    """The images of one camera; None in frames that it lacks, which are not `there` (N,)."""

    there: np.ndarray

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[np.ndarray | None]: ...


class MediaSequence:
    """
    Two cameras' folders or videos, frame by frame; a Sequence.

    rgb, thermal: a folder of images or a video each; None where that camera is left out. second:
    what `thermal` shows, as TrackingNetwork.second says it.
    ground_truth: float64 (N, 4) x, y, w, h px, or None. fps: for the stamps of image folders.
    register: brings thermal images onto the RGB grid; None where they lie on it already.
    slop_ns: largest distance in time of the frames of two videos. thermal_offset_ns: added to
    the thermal video's times. first: number of the first frame that is given out.
    numbers: of the frames, by the names of their files; positions where those tell none.
    rows: (N,) of the frames in tables of boxes; positions, unless the table says otherwise.
    A frame that one camera lacks is given out with the other's image, and a note names it.
    Raises TpfError on missing paths, and on cameras whose frames cannot be told to belong
    together; on iteration, on an image that cannot be decoded, by its name.
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
        slop_ns: int = 15_000_000,
        thermal_offset_ns: int = 0,
        first: int | None = None,
        second: str = 'thermal',
    ) -> None:
        given = {'rgb': rgb, 'thermal': thermal}
        paths = {camera: Path(path) for camera, path in given.items() if path is not None}
        if not paths:
            raise TpfError('neither rgb nor thermal images are given; give at least one of them')
        self.second = second
        kinds = {'rgb': 'rgb', 'thermal': second}
        self._cameras = {
            camera: open_frames(path, kinds[camera]) for camera, path in paths.items()
        }
        self.name = name or next(iter(paths.values())).stem
        self.ground_truth = ground_truth
        self.fps = fps
        self._register = register
        self._rgb_size: tuple[int, int] | None = None
        self._times: list[int] | None = None
        self.numbers: list[int] | None = None
        frames = list(self._cameras.values())
        if all(isinstance(each, ImageFolder) for each in frames):
            self.numbers = pair_folders(self.name, *frames, first=first)
        elif all(isinstance(each, Video) for each in frames):
            pairing = {'slop_ns': slop_ns, 'thermal_offset_ns': thermal_offset_ns}
            self._times = pair_videos(self.name, *frames, **pairing)
        else:
            self._times = next(each.times for each in frames if isinstance(each, Video))
            check_counts(self.name, *frames)
        self.numbers = self.numbers or list(range(len(self)))
        self.rows = np.arange(len(self))

    def __len__(self) -> int:
        return len(next(iter(self._cameras.values())))

    @property
    def both(self) -> np.ndarray:
        """Which frames (N,) every camera has."""
        return np.logical_and.reduce([frames.there for frames in self._cameras.values()])

    def __iter__(self) -> Iterator[FramePair]:
        for index, images in enumerate(zip(*self._cameras.values())):
            yield self._pair(images, index)

    def __getitem__(self, index: int) -> FramePair:
        """Return one pair; of image folders only, as videos are read from start to end."""
        return self._pair((frames[index] for frames in self._cameras.values()), index)

    def _pair(self, images: Iterable[np.ndarray | None], index: int) -> FramePair:
        pair = dict(zip(self._cameras, images))
        rgb, thermal = pair.get('rgb'), pair.get('thermal')
        if rgb is not None:
            self._rgb_size = rgb.shape[1::-1]
        elif self._register and 'rgb' in self._cameras and self._rgb_size is None:
            known = (image for image in self._cameras['rgb'] if image is not None)
            self._rgb_size = next(known).shape[1::-1]
        if self._register and thermal is not None:
            thermal = self._register(thermal, self._rgb_size)
        stamp = round(index * 1e9 / self.fps) if self._times is None else self._times[index]
        return FramePair(rgb, thermal, stamp)


def open_frames(path: Path, kind: str) -> Frames:
    """Return the frames of 'rgb' or of a kind of second camera in a folder or a video."""
    if path.is_dir():
        return ImageFolder(path, DECODERS[kind])
    if not path.exists():
        raise TpfError(f'{kind} images {path} do not exist')
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        videos = ', '.join(sorted(VIDEO_SUFFIXES))
        raise TpfError(f'{path} is neither a folder of images nor a video ({videos})')
    return Video(path, kind)


def pair_folders(
    name: str, folder: ImageFolder, other: ImageFolder | None = None, *, first: int | None = None
) -> list[int] | None:
    """
    Arrange the files of the cameras by the numbers in their names; return those numbers.

    A number that one folder lacks stays, with that camera absent in it. By position (None) go
    folders of equal count with different numbers, such as 1 to 24 and 0 to 23, or with none.
    first: numbers below are left out. Raises TpfError on different counts without a numbering.
    """
    folders = [folder, other] if other else [folder]
    files = [dict(zip(each.numbers or (), each.files)) for each in folders]
    if not same_numbering([each.numbers for each in folders]):
        check_counts(name, *folders)
        if len({each.numbers and tuple(each.numbers) for each in folders}) > 1:
            log.warning(
                '%s: files are numbered differently (%s and %s ...); they are paired by position',
                *(name, *(each.files[0].name for each in folders)),
            )
        files = [dict(enumerate(each.files)) for each in folders]
    numbers = sorted(set().union(*files))
    numbers = [number for number in numbers if first is None or number >= first]
    if not numbers:
        raise TpfError(f'{name} has no frame from number {first} on, where it begins')
    for each, here, there in zip(folders, files, files[::-1]):
        each.arrange([here.get(n) or each.path / there[n].name for n in numbers])
        lacking = [str(n) for n in numbers if n not in here]
        if lacking:
            log.warning(
                '%s: %s lacks %d of %d frames, which have one camera: %s',
                *(name, each.path, len(lacking), len(numbers), shorten(lacking)),
            )
    return numbers


def same_numbering(numbers: list[list[int] | None]) -> bool:
    """Whether the numbers in the names of two cameras' files mean the same frames."""
    if None in numbers or len(numbers) == 1:
        return None not in numbers
    rgb, thermal = numbers
    whole = [each[-1] - each[0] + 1 == len(each) for each in numbers]
    if rgb[0] != thermal[0] and len(rgb) == len(thermal) and all(whole):
        return False  # without gaps, from different starts
    return len(set(rgb) & set(thermal)) * 2 >= min(len(rgb), len(thermal))


def check_counts(name: str, *cameras: Frames) -> None:
    """Raise TpfError where two cameras whose frames go by position have different counts."""
    counts = [len(frames) for frames in cameras]
    if len(set(counts)) > 1:
        names = [frames.files[0].name for frames in cameras if isinstance(frames, ImageFolder)]
        raise TpfError(
            f'{name}: {counts[0]} rgb frames but {counts[1]} thermal ones, and neither numbers '
            'nor times tell which belong together; number the files of both alike (they begin '
            f'with {" and ".join(names)})'
        )


def pair_videos(
    name: str,
    video: Video,
    other: Video | None = None,
    *,
    slop_ns: int,
    thermal_offset_ns: int = 0,
) -> list[int]:
    """
    Choose the frames of two videos that are within slop_ns, as bags are paired; return stamps.

    Where one ends or pauses the other goes on alone. Raises TpfError when most have no partner.
    """
    if other is None:
        return video.times
    cameras = {'rgb': video, 'thermal': other}
    frames = [(t, camera, i) for camera, each in cameras.items() for i, t in enumerate(each.times)]
    pairer = FramePairer(slop_ns=slop_ns, thermal_offset_ns=thermal_offset_ns, depth=256)
    frames.sort(key=lambda frame: frame[0] + (frame[1] == 'thermal') * thermal_offset_ns)
    pairs = [pair for t, camera, i in frames for pair in pairer.add(camera, t, i)]
    pairs += pairer.flush()
    limit = f'{slop_ns / 1e6:g} ms'
    if 2 * pairer.paired < min(len(video), len(other)):
        rgb, thermal = np.array(video.times), np.array(other.times) + thermal_offset_ns
        after = np.searchsorted(thermal, rgb)
        near = [thermal[place.clip(0, len(thermal) - 1)] for place in (after - 1, after)]
        largest = np.abs(near - rgb).min(0).max() / 1e6
        raise TpfError(
            f'{name}: {pairer.paired} of {len(video)} rgb and {len(other)} thermal frames are '
            f'within {limit} of each other, by the times in the files; the largest distance is '
            f'{largest:.0f} ms; bring them to one rate and start (ffmpeg -r), or give '
            '--slop-ms or --thermal-offset-ms'
        )
    left_out = ' and '.join(f'{n} {camera}' for camera, n in pairer.unpaired.items() if n)
    if left_out or pairer.single:
        log.warning(
            '%s: %d pairs within %s, %d frames of one camera alone; left out without a partner: '
            '%s frames',
            *(name, pairer.paired, limit, pairer.single, left_out or 'no'),
        )
    video.arrange([pair.rgb for pair in pairs])
    other.arrange([pair.thermal for pair in pairs])
    return [pair.stamp for pair in pairs]


def shorten(names: list[str], most: int = 5) -> str:
    """Return the first of many names, in one line."""
    return ', '.join(names[:most]) + (', ...' if len(names) > most else '')
