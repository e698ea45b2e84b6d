"""What every source of frames offers: benchmark folders, videos, bags, synthetic worlds."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair


class Sequence(Protocol):
    """
    Frame pairs in time order, decoded one at a time, with ground truth where it is known.

    ground_truth: float64 (N, 4) x, y, w, h in pixels on the pairs' grid, one row a frame
    (rows of an absent target are NaN), or None.
    """

    name: str
    ground_truth: np.ndarray | None

    def __len__(self) -> int:
        """Return number of frame pairs."""

    def __iter__(self) -> Iterator[FramePair]:
        """Pairs from the first to the last, each decoded when it is asked for."""


def starting_box(sequence: Sequence, first: int = 0) -> np.ndarray:
    """Return the ground truth (4,) of pair number `first`. Raises TpfError where there is none."""
    truth = sequence.ground_truth
    if truth is None or first >= len(truth) or not np.isfinite(truth[first]).all():
        raise TpfError(
            f'{sequence.name} has no ground truth to start on; give --init X,Y,W,H or ask'
        )
    return truth[first]
