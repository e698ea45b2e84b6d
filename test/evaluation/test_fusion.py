import math

import numpy as np
import pytest
from tpf_tracker_ros.evaluation.fusion import (
    average_gradient,
    entropy,
    fusion_measures,
    q_abf,
    spatial_frequency,
    standard_deviation,
)

STRIPES = np.tile(np.array([0, 200], np.uint8), (20, 10))
STEP = np.repeat(np.array([[50, 150]], np.uint8), 10, axis=1).repeat(20, axis=0)
FLAT = np.full((20, 20), 90, np.uint8)


def test_what_equals_both_sources_keeps_all_that_the_sigmoids_allow():
    best = 0.9994 / (1 + math.exp(-15 * 0.5)) * 0.9879 / (1 + math.exp(-22 * 0.2))
    assert q_abf(STEP, STEP, STEP) == pytest.approx(best, abs=1e-9)
    assert q_abf(STEP, FLAT, STEP) == pytest.approx(best, abs=1e-9)  # a flat source asks nothing


def test_an_image_without_edges_keeps_nothing():
    assert q_abf(STEP, STEP.T, FLAT) < 1e-3
    assert math.isnan(q_abf(FLAT, FLAT, STEP))


def test_half_of_the_edges_is_half_of_the_quality():
    """A horizontal and a vertical edge far apart; the fused image holds the first alone."""
    upper, lower = np.full((2, 60, 60), 50, np.uint8)
    upper[:, 5:] = 150
    lower[:, 55:] = 150
    assert q_abf(upper, lower, upper) == pytest.approx(q_abf(upper, upper, upper) / 2, abs=1e-3)


def test_an_orientation_of_opposite_contrast_is_the_same():
    assert q_abf(STEP, STEP, 200 - STEP) == pytest.approx(q_abf(STEP, STEP, STEP), abs=1e-9)


def test_an_edge_turned_by_a_right_angle_is_lost():
    wave = np.arange(64)
    across = np.broadcast_to(wave * 3, (64, 64)).astype(np.uint8)
    assert q_abf(across, across, across.T) < 1e-4


def test_deviation_entropy_gradient_and_frequency_of_patterns():
    halves = np.array([[0, 255], [255, 0]], np.uint8)
    assert standard_deviation(halves) == 127.5
    assert entropy(halves) == 1
    assert entropy(FLAT) == 0
    assert entropy(np.arange(256, dtype=np.uint8).reshape(16, 16)) == 8
    ramp = np.tile(np.arange(0, 60, 3, dtype=np.uint8), (20, 1))
    assert average_gradient(ramp) == pytest.approx(3 / math.sqrt(2))
    assert average_gradient(ramp + ramp.T) == pytest.approx(3)
    assert spatial_frequency(STRIPES) == pytest.approx(200)
    assert spatial_frequency(ramp + ramp.T) == pytest.approx(3 * math.sqrt(2))


def test_all_measures_of_an_image():
    measures = fusion_measures(STEP, FLAT, STEP)
    assert measures['deviation'] == 50 and measures['entropy'] == 1
    assert measures['q_abf'] == pytest.approx(q_abf(STEP, FLAT, STEP))
    assert measures['gradient'] == pytest.approx(average_gradient(STEP))
    assert measures['frequency'] == pytest.approx(spatial_frequency(STEP))
