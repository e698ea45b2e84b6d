"""
How good a run of boxes is: precision, normalised precision and success over thresholds.

Boxes and ground truth are float (N, 4) arrays of x, y, w, h in pixels; rates lie in 0..1 and
only what is named percent is in percent. What each benchmark does with first, absent and
invalid frames is in protocol.py; here a frame counts unless its ground truth is absent.
"""

from collections.abc import Callable

import numpy as np
from tpf_tracker_ros.core.boxes import centre, iou, present

CENTRE_THRESHOLDS = np.arange(51.0)  # px
NORMALISED_THRESHOLDS = np.linspace(0, 0.5, 51)  # parts of the ground truth's width and height
OVERLAP_THRESHOLDS = np.linspace(0, 1, 21)


def centre_errors(boxes: np.ndarray, ground_truth: np.ndarray) -> np.ndarray:
    """Distances (N,) between box centres in pixels."""
    return np.hypot(*(centre(boxes) - centre(ground_truth)).T)


def normalised_errors(boxes: np.ndarray, ground_truth: np.ndarray) -> np.ndarray:
    """Distances (N,) between box centres, in parts of the ground truth's width and height."""
    # Written as in the public toolkit, pixel centres included: in single precision the order of
    # the steps decides on frames that lie exactly on a threshold.
    size = ground_truth[:, 2:] + 1e-8
    offsets = (centre(boxes) - 0.5) / size - (centre(ground_truth) - 0.5) / size
    return np.hypot(*offsets.T)


def curve(values: np.ndarray, thresholds: np.ndarray, passes: Callable) -> np.ndarray:
    """Share (T,) of the values (N,) for which passes(value, threshold), e.g. np.less_equal."""
    return passes(values[:, None], thresholds).mean(0)


def precision(boxes: np.ndarray, ground_truth: np.ndarray, threshold: float = 20) -> float:
    """Percent of the frames with the target whose centre error is at most threshold px."""
    shown = present(ground_truth)
    return 100 * float((centre_errors(boxes[shown], ground_truth[shown]) <= threshold).mean())


def success_auc(boxes: np.ndarray, ground_truth: np.ndarray) -> float:
    """Area under the success curve in percent, over the frames that show the target."""
    shown = present(ground_truth)
    overlaps = iou(boxes[shown], ground_truth[shown])
    return 100 * float(curve(overlaps, OVERLAP_THRESHOLDS, np.greater).mean())
