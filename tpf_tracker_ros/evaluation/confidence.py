"""
How well a tracker's score tells whether its box is right.

A frame's box is right when it overlaps the truth by more than half (IoU > 0.5). A score that is
calibrated is the share of right boxes among those of that score (arXiv 1706.04599).
"""

import numpy as np
from tpf_tracker_ros.core.boxes import iou

RIGHT, WRONG = 0.5, 0.1  # IoU above and below
BINS = 10  # of scores


def overlaps(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Overlap, the IoU (N,), of boxes and truth (N, 4) x, y, w, h; NaN where truth has no box."""
    return np.where(np.isfinite(truth).all(1), iou(boxes, np.nan_to_num(truth)), np.nan)


def auroc(scores: np.ndarray, right: np.ndarray) -> float:
    """
    Chance in percent that a right box has a higher score than a wrong one, ties counting half.

    scores, right: (N,); NaN where one of the two kinds is missing.
    """
    right = np.asarray(right, bool)
    if right.all() or not right.any():
        return float('nan')
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[place]  # from 1 on, those of ties their mean
    good, bad = right.sum(), (~right).sum()
    return float(100 * (ranks[right].sum() - good * (good + 1) / 2) / (good * bad))


def reliability(
    scores: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean score, share of right boxes and count (BINS,) of each tenth of 0..1; NaN where none."""
    scores, right = np.asarray(scores, float), np.asarray(right, float)
    place = np.clip((scores * BINS).astype(int), 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    with np.errstate(invalid='ignore'):
        score = np.bincount(place, scores, BINS) / counts
        share = np.bincount(place, right, BINS) / counts
    return score, share, counts


def calibration_error(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean over frames of |mean score - share of right boxes| of the frame's bin, in 0..1."""
    score, share, counts = reliability(scores, right)
    return float(np.nansum(counts * np.abs(score - share)) / max(1, counts.sum()))
