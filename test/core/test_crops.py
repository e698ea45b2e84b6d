import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from tpf_tracker_ros.core import crops
from tpf_tracker_ros.core.crops import Window

boxes = st.tuples(
    st.floats(-50, 300), st.floats(-50, 300), st.floats(1, 120), st.floats(1, 120)
).map(np.array)
aspects = st.sampled_from([1.0, 3.0])


@given(boxes, st.sampled_from([2.0, 4.0]), aspects)
def test_a_box_comes_back_from_window_coordinates(box, factor, aspect):
    window = Window.around(box, factor, aspect=aspect)
    x, y, w, h = box
    sides = np.array([window.width, window.height] * 2)
    relative = np.array([x + w / 2 - window.x, y + h / 2 - window.y, w, h]) / sides
    np.testing.assert_allclose(window.to_image(relative), box, atol=1e-9)


@given(boxes, st.sampled_from([np.uint8, np.uint16, np.float32]), aspects)
def test_a_crop_has_its_size_and_the_images_dtype(box, dtype, aspect):
    image = np.ones((60, 80), dtype)
    crop = Window.around(box, 4.0, aspect=aspect).take(image, 32)
    assert crop.shape == (32, 32) and crop.dtype == dtype


def test_a_square_has_the_factor_times_the_mean_side():
    window = Window.around(np.array([0.0, 0, 16, 9]), 4)
    assert (window.width, window.height) == (48, 48)


@pytest.mark.parametrize(
    ('box', 'sides'),
    [((0, 0, 20, 10), (80, 40)), ((0, 0, 10, 90), (70, 208)), ((0, 0, 9, 9), (36, 36))],
)
def test_a_window_has_the_boxs_shape_up_to_the_largest_aspect(box, sides):
    window = Window.around(np.array(box, float), 4, aspect=3.0)
    assert (window.width, window.height) == sides


def test_what_lies_outside_the_image_reads_as_zero():
    image = np.full((40, 40, 3), 200, np.uint8)
    crop = Window(-20, 0, 40, 40).take(image, 40)
    assert (crop[:, :20] == 0).all() and (crop[:, 20:] == 200).all()


@given(boxes, aspects, st.booleans())
def test_which_part_of_a_crop_shows_the_image(box, aspect, area):
    image = np.full((60, 80), 255, np.uint8)
    window = Window.around(box, 4.0, aspect=aspect)
    crop = window.take(image, 32, area=area)
    inside = window.inside((80, 60), 32)
    assert (crop[inside] == 255).all()
    rows, columns = crop.max(1) == 255, crop.max(0) == 255
    for shown, part, side in zip((rows, columns), inside, (window.height, window.width)):
        # And not much less than that: a pixel of the image at each end.
        assert np.arange(32)[part].size >= shown.sum() - 2 * (32 / side + 1)


@pytest.mark.parametrize('corner', [(100, 100), (-90, 0), (0, -90)])
def test_a_window_beyond_the_image_is_black(corner):
    image = np.full((40, 40, 3), 200, np.uint8)
    assert not Window(*corner, 40, 40).take(image, 16).any()


def test_a_whole_number_window_is_a_plain_slice():
    image = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40)
    np.testing.assert_array_equal(Window(4, 8, 16, 16).take(image, 16), image[8:24, 4:20])


def test_shrinking_averages_instead_of_aliasing():
    stripes = np.zeros((128, 128), np.uint8)
    stripes[:, ::2] = 200
    assert Window(0, 0, 128, 128).take(stripes, 16) == pytest.approx(100, abs=2)


def test_a_huge_window_takes_no_more_memory_than_the_image(monkeypatch):
    image = np.add.outer(np.arange(120), np.arange(160))[..., None].repeat(3, -1).astype(np.uint8)
    window = Window.around(np.array([-40.0, -60, 160, 120]), 4)
    exact = window.take(image, 64).astype(float)
    monkeypatch.setattr(crops, 'LARGEST', 1000)
    near = window.take(image, 64).astype(float)
    assert exact.any() and np.abs(exact - near).mean() < 3

    monkeypatch.undo()
    tracemalloc.start()
    Window.around(np.array([-1e5, -1e5, 2e5, 2e5]), 4).take(image, 64)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
