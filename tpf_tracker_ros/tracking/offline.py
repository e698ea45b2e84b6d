"""
A tracker over a whole sequence, written to files: `tpf track`.

Deterministic, without ROS; the node gives the same boxes for the same pairs.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import chain, islice
import json
import logging
import os
from pathlib import Path
import time
from types import TracebackType

import cv2
import numpy as np
from tpf_tracker_ros.core.drawing import draw_result
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import remove, write_file, writing
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.sequence import Sequence, starting_box
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.tracking.tracker import Tracker, TrackResult
from tqdm import tqdm

log = logging.getLogger(__name__)


def track_sequence(
    tracker: Tracker, pairs: Iterable[FramePair], box: np.ndarray, *, frames: int | None = None
) -> Iterator[tuple[FramePair, TrackResult]]:
    """
    Start on box (4,) x, y, w, h px in the first pair, then track; frames: at most so many.

    The first result is the given box with score 1. Each result's stages hold its 'total' in ms,
    decoding not counted. Raises TpfError on a bad box or image.
    """
    frozen: Counter[str] = Counter()
    for index, pair in enumerate(islice(pairs, frames)):
        start = time.perf_counter()
        result = tracker.track(pair) if index else tracker.initialize(pair, box)
        result.stages['total'] = (time.perf_counter() - start) * 1e3
        frozen[result.frozen] += 1
        yield pair, result
    for camera in filter(None, frozen):
        log.warning(
            'the %s images stay the same for long (a shutter, or a camera that hangs); they are '
            'left out in %d of %d frames',
            *(camera, frozen[camera], frozen.total()),
        )


def track_to_files(
    tracker: Tracker,
    sequence: Sequence,
    box: np.ndarray | None,
    out: Path | str,
    *,
    first: int = 0,
    frames: int | None = None,
    video: Path | str | None = None,
    fused: Path | str | None = None,
) -> dict:
    """
    Track and write out/boxes.txt, scores.txt, track.json; returns what track.json holds.

    box: (4,) x, y, w, h px in pair number `first`; None: its ground truth.
    boxes.txt: x,y,w,h a frame, 2 decimals, beginning with the given box. scores.txt: one a frame.
    Rows of the frames before `first` are nan. frames: track at most so many.
    video: an mp4 with boxes drawn. fused: a folder for the fused images as png.
    All of them grow frame by frame, and hold what was tracked when a failure ends the run;
    track.json then says complete: false. Raises TpfError.
    """
    out = Path(out)
    if box is None:
        box = starting_box(sequence, first)
    if fused and not tracker.fuses:
        raise TpfError(f'{tracker.name} fuses no pixels: there are no fused images to write')
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    pairs = islice(sequence, first, None)
    results = track_sequence(tracker, pairs, box, frames=frames)
    # Before a file is touched: a mistyped box must not cost an earlier result.
    given = next(results, None)
    if given is None:
        raise TpfError(f'{sequence.name} has no frames')
    report = _Report(tracker, sequence, first)
    thermal = ThermalRange()
    with ExitStack() as stack:
        stack.callback(report.write, out / 'track.json')
        boxes = stack.enter_context(_Lines(out / 'boxes.txt'))
        scores = stack.enter_context(_Lines(out / 'scores.txt'))
        overlay = (
            stack.enter_context(VideoFile(Path(video), frame_rate(sequence))) if video else None
        )
        for _ in range(first):
            boxes.write('nan,nan,nan,nan')
            scores.write('nan')
        total = len(sequence) - first
        total = total if frames is None else min(frames, total)
        results = chain([given], results)
        progress = tqdm(results, sequence.name, total, unit=' pairs', disable=None)
        for pair, result in progress:
            boxes.write(','.join(f'{value:.2f}' for value in result.box))
            scores.write(f'{result.score:.4f}')
            if overlay:
                truth = _row(sequence.ground_truth, first + report.frames)
                overlay.write(_drawn(pair, result, truth, thermal))
            if fused:
                image = cv2.cvtColor(tracker.fuse(pair), cv2.COLOR_RGB2BGR)
                data = cv2.imencode('.png', image)[1].tobytes()
                write_file(Path(fused) / f'{first + report.frames:06d}.png', data)
            report.add(result)
        report.complete = True
    return report.as_dict()


def frame_rate(sequence: Sequence) -> float:
    """Frames per second by the stamps of the first ten frames; 30 for a single one."""
    stamps = []
    with suppress(TpfError):  # an image that cannot be read is told when its turn comes
        for pair in islice(sequence, 10):
            stamps.append(pair.stamp)
    return 1e9 / float(np.median(np.diff(stamps))) if len(stamps) > 1 else 30.0


class _Report:
    """What track.json tells."""

    def __init__(self, tracker: Tracker, sequence: Sequence, first: int) -> None:
        self.first = first
        self.model, self.device, self.sequence = tracker.name, tracker.device, sequence.name
        self.frames = 0
        self.complete = False
        self.template_updates = 0
        self._states: dict[str, int] = defaultdict(int)
        self._stages: dict[str, list[float]] = defaultdict(list)

    def add(self, result: TrackResult) -> None:
        self.frames += 1
        self.template_updates += result.template_updated
        self._states[result.state.value] += 1
        if self.frames > 1:  # the first is initialize
            for stage, milliseconds in result.stages.items():
                self._stages[stage].append(milliseconds)

    def as_dict(self) -> dict:
        """Return times in ms over the frames after the first; fps of the tracker alone."""
        totals = self._stages.get('total')
        return {
            'sequence': self.sequence,
            'model': self.model,
            'device': self.device,
            'complete': self.complete,
            'first_frame': self.first,
            'frames': self.frames,
            'fps': round(1e3 / float(np.mean(totals)), 2) if totals else None,
            'stages_ms': {
                stage: {
                    'p50': round(float(np.percentile(times, 50)), 3),
                    'p95': round(float(np.percentile(times, 95)), 3),
                }
                for stage, times in self._stages.items()
            },
            'states': dict(self._states),
            'template_updates': self.template_updates,
        }

    def write(self, path: Path) -> None:
        write_file(path, json.dumps(self.as_dict(), indent=2).encode() + b'\n')


class _Lines:
    """A text file that holds whole lines at every moment, on a full disk too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            self._file = path.open('wb', buffering=0)

    def __enter__(self) -> '_Lines':
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, line: str) -> None:
        end = self._file.tell()
        data = f'{line}\n'.encode()
        with writing(self.path):
            try:
                while data:
                    written = self._file.write(data)
                    data = data[written:]
            except OSError:
                os.truncate(self.path, end)
                raise


class VideoFile:
    """An mp4 file; cv2 reports no failure of writing, so the frames are counted at the end."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None
        self._frames = 0
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open('wb').close()

    def __enter__(self) -> 'VideoFile':
        return self

    def write(self, rgb: np.ndarray) -> None:
        """Append a frame, uint8 (H, W, 3); all have the size of the first."""
        if self._writer is None:
            size = rgb.shape[1::-1]
            codec = cv2.VideoWriter_fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self.path), codec, self._fps, size)
            if not self._writer.isOpened():
                raise TpfError(f'cannot write video {self.path}; give a name that ends in .mp4')
        self._writer.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        self._frames += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is None:
            remove(self.path)
            return
        self._writer.release()
        written = cv2.VideoCapture(str(self.path)).get(cv2.CAP_PROP_FRAME_COUNT)
        if kind is None and written < self._frames:
            raise TpfError(
                f'video {self.path} holds {written:.0f} of {self._frames} frames; '
                'is the disk full?'
            )


def _drawn(
    pair: FramePair, result: TrackResult, truth: np.ndarray | None, thermal: ThermalRange
) -> np.ndarray:
    """Return the RGB image, or the thermal one where that is absent, with the result."""
    image = pair.rgb
    if image is None:
        image = thermal.to_rgb(pair.thermal)
    return draw_result(
        image, result.box, state=result.state, score=result.score, ground_truth=truth
    )


def _row(boxes: np.ndarray | None, index: int) -> np.ndarray | None:
    return None if boxes is None or index >= len(boxes) else boxes[index]
