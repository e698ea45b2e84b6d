"""One tracker over one sequence, from the first ground-truth box to the last frame."""

import time

import numpy as np

from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.evaluation.sequence import Sequence
from tpf_tracker_ros.tracking.tracker import Tracker


def run_sequence(tracker: Tracker, sequence: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) x, y, w, h in pixels and seconds (N,) a frame, decoding not counted.

    The tracker starts on the first ground-truth box, which is the first row of the boxes.
    Raises TpfError when there is none.
    """
    if sequence.ground_truth is None or not np.isfinite(sequence.ground_truth[0]).all():
        raise TpfError(f'sequence {sequence.name} has no ground truth in its first frame')
    boxes, seconds = [sequence.ground_truth[0]], []
    for index, pair in enumerate(sequence):
        start = time.perf_counter()
        if index:
            boxes.append(tracker.track(pair).box)
        else:
            tracker.initialize(pair, boxes[0])
        seconds.append(time.perf_counter() - start)
    return np.array(boxes), np.array(seconds)
