"""
A video as one camera's frames, decoded by FFmpeg through PyAV (pip install av).

Counts, durations and rates in a file's header are not trusted: the packets say which frames there
are and when. cv2.VideoCapture does neither, and turns grey of more than 8 bits into 8.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tpf_tracker_ros.core.depth import check_depth
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import substitute

VIDEO_SUFFIXES = {
    *('.mp4', '.m4v', '.mov', '.3gp', '.mkv', '.webm', '.avi', '.wmv', '.flv', '.ogv'),
    *('.mpg', '.mpeg', '.ts', '.mts', '.m2ts'),
}

log = logging.getLogger(__name__)


def pyav(path: Path) -> Any:
    """Return the module av, which only videos need. Raises TpfError, naming path, without it."""
    try:
        import av
    except ImportError:
        raise TpfError(f'{path}: videos are read with PyAV; pip install av') from None
    return av


class Video:
    """
    The frames of a video, one after the other; grey of more than 8 bits keeps its counts.

    kind: 'rgb' and 'events' give uint8 (H, W, 3), others (H, W) of uint8, uint16 or float32.
    times: of the frames in ns, as the file's clock says. A frame that is empty or damaged keeps
    its place: the one before is given once more, and a warning counts them.
    Raises TpfError on what is no video, and when nothing in it can be decoded.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self._kind, self._coloured = kind, kind in ('rgb', 'events')
        self._pts, tick = self._places()
        self.arrange(list(range(len(self._pts))))
        self.times = [round(pts * tick * 10**9) for pts in self._pts]

    def arrange(self, chosen: list[int | None]) -> None:
        """Give out these frames, by their positions, which grow; None for None."""
        self._chosen = chosen
        self.there = np.array([each is not None for each in chosen])

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[np.ndarray | None]:
        frames, missing = enumerate(self._frames()), 0
        reformatter = pyav(self.path).video.reformatter.VideoReformatter()  # one: costly to make
        for wanted in self._chosen:
            index, frame, own = None, None, True
            while wanted is not None and index != wanted:
                index, (frame, own) = next(frames)
            missing += not own
            yield None if frame is None else self._image(frame, reformatter)
        if missing:
            log.warning(
                '%s: %d of %d frames are empty or damaged; the ones before stand for them',
                *(self.path, missing, len(self)),
            )

    def _frames(self) -> Iterator[tuple[Any, bool]]:
        """Give a frame for each place, and whether it is its own or the one before."""
        last, place, count = None, 0, len(self._pts)
        for frame in self._decoded():
            if place == count:
                break
            pts = self._pts[place] if self._by_count or frame.pts is None else frame.pts
            while place < count and self._pts[place] < pts:
                place += 1
                yield last or frame, False
            if place < count and self._pts[place] == pts:
                place += 1
                last = frame
                yield frame, True
        if last is None:
            raise TpfError(f'{self.path} cannot be decoded: none of its {len(self)} frames')
        for _ in range(place, count):
            yield last, False

    def _decoded(self) -> Iterator[Any]:
        """Frames as they come out of the decoder, which goes on behind packets it refuses."""
        with self._open() as (av, container, stream):
            stream.thread_type = 'AUTO'
            packets, packet, frames = container.demux(stream), True, []
            while packet is not None:
                try:
                    packet = next(packets, None)
                except av.FFmpegError:  # the rest cannot be read, as when places were counted
                    packet = None
                with suppress(av.FFmpegError):
                    frames = stream.decode(packet)
                yield from frames
                frames = []

    def _places(self) -> tuple[list[int], Any]:
        """Presentation times of all frames in order, and the length of their unit in s."""
        with self._open() as (av, container, stream):
            kept, tick, codec = [], stream.time_base, stream.codec_context.name
            try:
                for packet in container.demux(stream):
                    timed = (packet.pts, packet.dts) != (None, None)
                    # VP8 has frames that are never shown, which others are predicted from.
                    hidden = codec == 'vp8' and packet.size and not bytes(packet)[0] & 0x10
                    if timed and not packet.is_discard and not hidden:
                        kept.append((packet.pts, packet.dts))
            except av.FFmpegError as error:
                log.warning('%s is damaged; it is read up to there: %s', self.path, error)
            pts, dts = ([each for each in column if each is not None] for column in zip(*kept))
            places = sorted(set(pts if len(pts) == len(kept) else dts)) if kept else []
            # AVI has no times: its unit is a frame, and a frame like the one before may be left
            # out. (Some recorders count finer; then the gaps are longer than what is there.)
            ticks = range(places[0], places[-1] + 1) if places else ()
            avi = container.format.name == 'avi'
            # Nor does it say in which order these are shown: one comes after the other.
            self._by_count = avi and codec in ('h264', 'hevc')
            if avi and len(places) < len(ticks) <= 2 * len(places):
                places = list(ticks)
        if not places:
            raise TpfError(f'{self.path} cannot be read as a video: it has no frames')
        return places, tick

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any, Any]]:
        av = pyav(self.path)
        try:
            container = av.open(f'file:{self.path}')  # else 12:30.mp4 were a protocol
        except av.FFmpegError as error:
            raise TpfError(
                f'{self.path} cannot be read as a video: {error.strerror}{substitute(self.path)}'
            ) from None
        with container:
            stream = container.streams.best('video')
            if stream is None:
                raise TpfError(f'{self.path} has no video in it')
            yield av, container, stream

    def _image(self, frame: Any, reformatter: Any) -> np.ndarray:
        form = frame.format
        luma = form.components[0]
        alone = all(part.plane != luma.plane for part in form.components[1:])
        deep = not self._coloured and luma.bits > 8
        if deep and alone and not form.is_rgb:
            image = _counts(frame, luma.bits)
        else:
            wanted = 'gray16le' if deep else 'rgb24'
            image = reformatter.reformat(frame, format=wanted).to_ndarray()
        if not self._coloured and image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if self._kind == 'depth':
            check_depth(image)
        return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def _counts(frame: Any, bits: int) -> np.ndarray:
    """
    Return the first plane (H, W) as it is: uint16, or float32 from 32 bits on.

    swscale would stretch the numbers on their way to another format.
    """
    order = '>' if frame.format.name.endswith('be') else '<'
    kind = np.dtype(order + ('u2' if bits <= 16 else 'f4'))
    plane = frame.planes[0]
    rows = np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind.itemsize)
    counts = rows[: frame.height, : frame.width].astype(kind.newbyteorder('='))
    # p010 and its kin hold the bits at the upper end.
    return counts >> (16 - bits) if frame.format.name[:2] in ('p0', 'p2', 'p4') else counts
