"""Thermal images on the RGB grid: by homography, by calibration and plane, by CameraInfo."""

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst
import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.registration import (
    by_calibration,
    by_camera_info,
    by_homography,
    Camera,
    check_homography,
    register_by,
)


def scene(size, dtype=np.uint16):
    """Return a smooth image (H, W): interpolation errs little."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return (7450 + 200 * np.sin(x / 17) * np.cos(y / 13)).astype(dtype)


def camera(size, focal, **more):
    matrix = np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1.0]])
    return Camera(size, matrix, **more)


def rotation(x=0.0, y=0.0, z=0.0):
    return cv2.Rodrigues(np.array([x, y, z]))[0]


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_identity_leaves_every_type_as_it_is(dtype):
    image = np.random.default_rng(0).integers(0, 256, (48, 64)).astype(dtype)
    warped = by_homography(np.eye(3), (64, 48), (64, 48)).apply(image)
    assert warped.dtype == dtype and np.array_equal(warped, image)


@settings(max_examples=30)
@given(
    scale=st.floats(0.4, 3),
    shift=st.tuples(st.floats(-60, 60), st.floats(-60, 60)),
    tilt=st.tuples(st.floats(-3e-4, 3e-4), st.floats(-3e-4, 3e-4)),
    sign=st.sampled_from([-1.0, 1e3]),
)
def test_a_homography_is_what_warp_perspective_does(scale, shift, tilt, sign):
    matrix = np.array([[scale, 0.05, shift[0]], [-0.05, scale, shift[1]], [*tilt, 1]])
    image = scene((160, 120), np.float32)
    expected = cv2.warpPerspective(image, matrix, (200, 150), borderMode=cv2.BORDER_REPLICATE)
    warped = by_homography(sign * matrix, (160, 120), (200, 150)).apply(image)
    inside = cv2.warpPerspective(np.ones_like(image), matrix, (200, 150)) == 1
    assert np.abs(warped - expected)[inside].max(initial=0) < 1.0  # of 400 counts


def test_different_sizes_meet_on_the_rgb_grid():
    image = scene((160, 120))
    double = by_homography(np.diag([2.0, 2.0, 1.0]), (160, 120), (320, 240)).apply(image)
    assert double.shape == (240, 320)
    assert np.abs(double[::2, ::2].astype(int) - image).max() <= 1


def test_beyond_the_thermal_image_no_count_appears_that_was_not_there():
    image = scene((160, 120))
    shifted = np.array([[1, 0, 80], [0, 1, 40], [0, 0, 1.0]])
    warped = by_homography(shifted, (160, 120), (320, 240)).apply(image)
    assert image.min() <= warped.min() and warped.max() <= image.max()


@settings(max_examples=20)
@given(
    angles=st.tuples(*[st.floats(-0.1, 0.1)] * 3),
    translation=st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    distance=st.floats(2, 50),
)
def test_a_plane_gives_the_homography_of_that_plane(angles, translation, distance):
    """K_rgb (R + t n' / d) K_thermal^-1 of the textbook."""
    rgb, thermal = camera((200, 150), 180.0), camera((160, 120), 150.0)
    turn, shift = rotation(*angles), np.array(translation)
    plane = turn + np.outer(shift, [0, 0, 1]) / distance
    expected = by_homography(
        rgb.matrix @ plane @ np.linalg.inv(thermal.matrix), (160, 120), (200, 150)
    )
    registration = by_calibration(
        thermal, rgb, (160, 120), (200, 150),
        rotation=turn, translation=shift, plane_distance=distance,
    )  # fmt: skip
    image, ones = scene((160, 120), np.float32), np.ones((120, 160), np.float32)
    ones[[0, -1]] = ones[:, [0, -1]] = 0  # the border repeats, so it marks what lies outside
    inside = expected.apply(ones) == 1
    assert np.abs(registration.apply(image) - expected.apply(image))[inside].max(initial=0) < 1.0


def test_a_far_plane_leaves_the_rotation_alone():
    rgb, thermal = camera((200, 150), 180.0), camera((160, 120), 150.0)
    turn = rotation(0.02, -0.05, 0.03)
    far, infinite = (
        by_calibration(
            thermal, rgb, (160, 120), (200, 150),
            rotation=turn, translation=np.array([0.1, 0, 0]), plane_distance=distance,
        ).apply(scene((160, 120), np.float32))
        for distance in (1e6, 0.0)
    )  # fmt: skip
    assert np.abs(far - infinite).max() < 1.0


@pytest.mark.parametrize(
    ('model', 'coefficients'),
    [('plumb_bob', [-0.3, 0.1, 1e-3, -1e-3, 0]), ('equidistant', [0.05, -0.01, 0, 0])],
)
def test_distortion_of_both_lenses_is_taken_out(model, coefficients):
    """A point of the scene is seen where each lens puts it; the registration joins the two."""
    size = (160, 120)
    lens = {'model': model, 'distortion': np.array(coefficients)}
    rgb, thermal = camera(size, 120.0), camera(size, 110.0, **lens)
    points = np.array([[0.3, -0.2, 1], [-0.4, 0.3, 1], [0.1, 0.1, 1], [0, -0.35, 1.0]])
    registration = by_calibration(
        thermal, rgb, size, size, rotation=np.eye(3), translation=np.zeros(3)
    )
    for point in points:
        x, y = thermal.project(point[None], size)[0]
        u, v = np.mgrid[0:120, 0:160][::-1]
        spot = np.exp(-((u - x) ** 2 + (v - y) ** 2) / 18).astype(np.float32)
        found = np.unravel_index(registration.apply(spot).argmax(), (120, 160))[::-1]
        assert np.abs(found - rgb.project(point[None], size)[0]).max() < 1.0


def test_rays_and_project_are_inverse():
    pixels = np.array([[10.0, 20], [80, 60], [150, 100]])
    for more in ({}, {'distortion': np.array([-0.2, 0.05, 1e-3, 0, 0.01])},
                 {'model': 'equidistant', 'distortion': np.array([0.1, 0.01])}):  # fmt: skip
        lens = camera((160, 120), 120.0, **more)
        assert np.allclose(
            lens.project(lens.rays(pixels, (160, 120)), (160, 120)), pixels, atol=0.05
        )
        half = lens.project(lens.rays(pixels / 2, (80, 60)), (160, 120))
        assert np.allclose(half, pixels, atol=0.05)


def test_a_camera_info_pair_brings_its_rotation_and_baseline():
    turn = rotation(0.0, 0.04, 0.0)
    rgb = camera((200, 150), 180.0)
    thermal = camera((160, 120), 150.0, rotation=turn, baseline=np.array([-0.2, 0, 0]))
    by_hand = by_calibration(
        thermal, rgb, (160, 120), (200, 150),
        rotation=turn, translation=np.array([0.2, 0, 0]), plane_distance=5.0,
    )  # fmt: skip
    info = by_camera_info(thermal, rgb, (160, 120), (200, 150), plane_distance=5.0)
    image = scene((160, 120))
    assert np.array_equal(info.apply(image), by_hand.apply(image))


@given(nst.arrays(np.float64, (3, 3), elements=st.floats(-1e3, 1e3)))
def test_any_nine_numbers_register_or_are_refused(matrix):
    try:
        registration = by_homography(matrix, (32, 24), (40, 30))
    except TpfError as error:
        assert 'singular' in str(error)
        return
    assert registration.apply(scene((32, 24))).shape == (30, 40)


def test_a_thermal_image_without_any_rgb_image_is_warped_too():
    """As the node does: with thermal alone, offline boxes were those of another grid."""
    image, matrix = scene((64, 48)), [1, 0, 5, 0, 1, 3, 0, 0, 1]
    alone = register_by(matrix)(image, None)
    np.testing.assert_array_equal(alone, register_by(matrix)(image, (64, 48)))
    np.testing.assert_array_equal(alone[3:, 5:], image[:-3, :-5])


@pytest.mark.parametrize(
    'numbers', [[1.0] * 8, [float('nan')] * 9, [0.0] * 9, [1, 2, 3, 2, 4, 6, 0, 0, 1]]
)
def test_a_bad_homography_is_refused_by_name(numbers):
    with pytest.raises(TpfError, match=r'registration\.homography'):
        check_homography(numbers)


def test_bad_cameras_and_sizes_are_refused():
    with pytest.raises(TpfError, match='not calibrated'):
        Camera((640, 512), np.zeros((3, 3)))
    with pytest.raises(TpfError, match='fisheye_12'):
        camera((640, 512), 500.0, model='fisheye_12')
    with pytest.raises(TpfError, match='64x48 but the registration is for 160x120'):
        by_homography(np.eye(3), (160, 120), (160, 120)).apply(scene((64, 48)))
