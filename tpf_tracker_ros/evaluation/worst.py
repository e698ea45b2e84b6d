"""Pictures of failures: the frame where a tracker lost its target, with boxes drawn."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tpf_tracker_ros.core.boxes import iou, present
from tpf_tracker_ros.core.drawing import draw_result
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.data.datasets import find_folders, get_layout, open_sequence
from tpf_tracker_ros.evaluation.evaluate import Evaluation

RUN = 10  # rows in a row without overlap make a loss
HEIGHT = 200  # px of a picture


def find_images(root: Path | None, dataset: str) -> dict[str, Path]:
    """Sequence name -> folder, for the sequences below root that have their images."""
    return find_folders(root, get_layout(dataset).thermal) if root and root.is_dir() else {}


def worst_frame(evaluation: Evaluation, tracker: str, name: str) -> tuple[int, np.ndarray]:
    """Give the frame in which the target is lost for good or most, and the overlap of each row."""
    truths, every = evaluation.truths[name], evaluation.protocol.every
    boxes = evaluation.results[tracker][name]
    boxes = boxes[:: every if len(boxes) > truths.shape[1] else 1][: truths.shape[1]]
    overlaps = np.max([iou(boxes, truth[: len(boxes)]) for truth in truths], axis=0)
    counted = np.where(present(truths[0, : len(boxes)]), overlaps, 1)
    return lost_at(counted) * every, overlaps


def lost_at(overlaps: np.ndarray) -> int:
    """Give the index of overlaps (N,) where RUN of 0 begin; without such, that of the least."""
    runs = np.convolve(overlaps == 0, np.ones(RUN), 'valid') if len(overlaps) >= RUN else []
    lost = np.flatnonzero(np.equal(runs, RUN))
    return int(lost[0] if len(lost) else overlaps.argmin())


def picture(
    evaluation: Evaluation, tracker: str, name: str, folder: Path, frame: int
) -> np.ndarray:
    """Return what draw_failure gives for this frame of a sequence."""
    row, rows = frame // evaluation.protocol.every, evaluation.truths[name].shape[1]
    truth = evaluation.truths[name][0, min(row, rows - 1)]
    boxes = evaluation.results[tracker][name]
    box = boxes[min(frame if len(boxes) > rows else row, len(boxes) - 1)]
    return draw_failure(read_frame(folder, evaluation.dataset, frame), box, truth)


def draw_failure(pair: FramePair, box: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """
    Return the cameras' images side by side, uint8 (HEIGHT, W, 3) RGB, with both boxes (4,) px.

    The colour and the number are those of their overlap.
    """
    overlap = float(iou(box, truth))
    state = 'TRACKING' if overlap > 0.5 else 'UNCERTAIN' if overlap > 0 else 'LOST'
    tiles = []
    for image in (image for image in (pair.rgb, pair.thermal) if image is not None):
        image = ThermalRange().to_rgb(image)
        image = draw_result(image, box, state=state, score=overlap, ground_truth=truth)
        width = round(image.shape[1] * HEIGHT / image.shape[0])
        tiles.append(cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA))
    return np.hstack(tiles)


def read_frame(folder: Path, dataset: str, frame: int) -> FramePair:
    """Return the pair of this row of a sequence's tables; the last one before it that is there."""
    sequence = open_sequence(folder, dataset)
    index = max(int(np.searchsorted(sequence.rows, frame, side='right')) - 1, 0)
    try:
        return sequence[index]
    except TypeError:  # of a video, which has no random access
        return next(islice(sequence, index, None))
