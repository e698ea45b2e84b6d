import numpy as np
import pytest
from tpf_tracker_ros.core.thermal import ThermalRange


def counts(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 64 * 64).reshape(64, 64).astype(np.uint16)


def test_a_scene_of_a_few_degrees_fills_the_range():
    shown = ThermalRange().to_uint8(counts(7200, 7700))
    assert shown.dtype == np.uint8
    assert len(np.unique(shown)) > 200


def test_eight_bit_images_pass_unchanged():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(ThermalRange().to_uint8(image), image)


def test_something_hot_does_not_flicker_the_scene():
    thermal_range = ThermalRange(smoothing=0.9)
    scene = counts(7200, 7700)
    before = thermal_range.to_uint8(scene).astype(int)
    hot = scene.copy()
    hot[:16, :16] = 9000
    after = thermal_range.to_uint8(hot).astype(int)
    assert np.abs(after - before)[16:].mean() < 40
    alone = ThermalRange().to_uint8(hot).astype(int)
    assert np.abs(alone - before)[16:].mean() > 80


def test_nan_and_infinity_do_not_count():
    image = counts(280, 300).astype(np.float32)
    image[0, :4] = np.nan, np.inf, -np.inf, np.nan
    shown = ThermalRange().to_uint8(image)
    assert shown[0, 0] == 0 and shown[0, 1] == 255 and shown[0, 2] == 0
    assert shown[1:].std() > 50


@pytest.mark.parametrize('value', [0, 7300, 65535])
def test_a_constant_image_is_no_error(value):
    assert np.ptp(ThermalRange().to_uint8(np.full((32, 32), value, np.uint16))) == 0


@pytest.mark.parametrize('change', [(3000, 3720), (29000, 31000), (40, 80)])
def test_another_scale_is_shown_at_once(change):
    thermal_range = ThermalRange()
    thermal_range.to_uint8(counts(7200, 7560))
    assert thermal_range.to_uint8(counts(*change)).std() > 50


@pytest.mark.parametrize('level', [6000, 7300, 9000])
def test_a_blank_stream_never_becomes_a_picture_of_its_noise(level):
    thermal_range, rng = ThermalRange(), np.random.default_rng(0)
    scene = counts(7200, 7560)
    before = thermal_range.to_uint8(scene)
    for _ in range(200):
        blank = rng.integers(level - 2, level + 3, scene.shape).astype(np.uint16)
        assert thermal_range.to_uint8(blank).std() < 2
    np.testing.assert_array_equal(thermal_range.to_uint8(scene), before)


def test_a_scene_after_a_blank_start_is_shown_at_once():
    thermal_range = ThermalRange()
    thermal_range.to_uint8(counts(7300, 7302))
    assert thermal_range.to_uint8(counts(7200, 7560)).std() > 50


def test_reset_forgets():
    thermal_range = ThermalRange()
    thermal_range.to_uint8(counts(100, 200))
    thermal_range.reset()
    scene = counts(7200, 7700)
    alone = ThermalRange().to_uint8(scene)
    np.testing.assert_array_equal(thermal_range.to_uint8(scene), alone)
    thermal_range.to_uint8(counts(100, 200))
    thermal_range.reset(scene)
    np.testing.assert_array_equal(thermal_range.apply(scene), alone)
