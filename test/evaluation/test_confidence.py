"""The score as a classifier of right and wrong boxes, against counts by hand."""

import numpy as np
import pytest
from tpf_tracker_ros.evaluation.confidence import (
    auroc,
    calibration_error,
    overlaps,
    reliability,
)
from tpf_tracker_ros.evaluation.plots import draw_reliability


def test_auroc_counts_pairs_and_halves_ties():
    scores, right = np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False])
    pairs = [1, 1, 0.5, 1]  # each right box against each wrong one
    assert auroc(scores, right) == pytest.approx(100 * np.mean(pairs))
    assert auroc(-scores, right) == pytest.approx(100 - 100 * np.mean(pairs))


def test_auroc_of_one_kind_alone_is_nan():
    assert np.isnan(auroc(np.array([0.5, 0.6]), np.array([True, True])))


def test_a_calibrated_score_has_no_error():
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=200_000)
    right = rng.uniform(size=scores.size) < scores
    assert calibration_error(scores, right) < 0.01
    assert calibration_error(np.ones(4), np.array([1, 1, 0, 0])) == pytest.approx(0.5)
    score, share, counts = reliability(scores, right)
    assert np.abs(score - share).max() < 0.02 and counts.sum() == scores.size


def test_frames_without_truth_have_no_overlap():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], float)
    truth = np.array([[0, 0, 10, 5], [np.nan] * 4])
    found = overlaps(boxes, truth)
    assert found[0] == pytest.approx(0.5) and np.isnan(found[1])


def test_the_reliability_diagram_shows_each_tracker_and_its_error(tmp_path):
    scores = {'a': np.array([0.9, 0.9, 0.1]), 'b': np.array([0.5, 0.5, 0.5])}
    right = {'a': np.array([1, 1, 0], bool), 'b': np.array([1, 1, 1], bool)}
    figure = draw_reliability(scores, right, 'title')
    figure.savefig(tmp_path / 'figure.png')
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels[1:] == ['a [error 0.100]', 'b [error 0.500]']
