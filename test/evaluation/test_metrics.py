"""Precision and success of one sequence, against values worked out by hand."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from tpf_tracker_ros.evaluation.metrics import normalised_errors, precision, success_auc

TRUTH = np.array([[10, 20, 40, 30], [12, 21, 40, 30], [14, 22, 40, 30], [16, 23, 40, 30]], float)


def moved(boxes, dx, dy=0.0):
    return boxes + np.array([dx, dy, 0, 0])


def test_perfect_boxes_miss_only_the_overlap_above_one():
    assert success_auc(TRUTH, TRUTH) == pytest.approx(100 * 20 / 21)
    assert precision(TRUTH, TRUTH) == 100


def test_half_overlap_passes_ten_thresholds():
    # shifted by a third of the width: IoU (2/3) / (4/3) = 0.5, above 0, 0.05, ..., 0.45
    assert success_auc(moved(TRUTH, 40 / 3), TRUTH) == pytest.approx(100 * 10 / 21)


def test_twenty_pixels_are_still_precise():
    boxes = np.stack([moved(row, shift) for row, shift in zip(TRUTH, (0, 20, 20.5, 100))])
    assert precision(boxes, TRUTH) == 50
    assert precision(boxes, TRUTH, threshold=25) == 75


def test_normalised_by_the_size_of_the_target():
    assert normalised_errors(moved(TRUTH, 8, 6), TRUTH) == pytest.approx(np.hypot(0.2, 0.2))


def test_frames_without_the_target_do_not_count():
    truth = TRUTH.copy()
    truth[1], truth[2] = np.nan, 0
    boxes = TRUTH.copy()
    boxes[1:3] = 500
    assert success_auc(boxes, truth) == success_auc(TRUTH, TRUTH)
    assert precision(boxes, truth) == 100


@given(shift=st.floats(0, 60), scale=st.floats(0.5, 4))
def test_further_away_is_never_better_and_the_unit_does_not_matter(shift, scale):
    near, far = (success_auc(moved(TRUTH, s), TRUTH) for s in (shift, shift + 5))
    assert 0 <= far <= near <= 100
    # thresholds cut finely: scaling may move a frame across at most one of them
    assert success_auc(moved(TRUTH, shift) * scale, TRUTH * scale) == pytest.approx(near, abs=4.8)
