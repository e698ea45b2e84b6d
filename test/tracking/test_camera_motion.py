import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from tpf_tracker_ros.core.boxes import centre, iou
from tpf_tracker_ros.tracking.camera_motion import between, CameraMotion, Standing, with_camera
from tpf_tracker_ros.tracking.pieces import thumbnail, thumbnail_scale

BOX = np.array([140, 100, 40, 30.0])


def scene(size: int = 400) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 255, (size // 10, size // 10)).astype(np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)


def view(image: np.ndarray, right: float, down: float, zoom: float = 1) -> np.ndarray:
    """320 x 240 px of the image, which moves by so many px of the view."""
    warp = np.array([[zoom, 0, right - 40], [0, zoom, down - 40]], np.float64)
    return cv2.warpAffine(image, warp, (320, 240))


def seen(camera: CameraMotion, thermal=None, rgb=None) -> np.ndarray | None:
    images = {'rgb': rgb, 'thermal': thermal}
    small = {name: thumbnail(image) for name, image in images.items() if image is not None}
    return camera.update(small, thumbnail_scale((320, 240)), BOX)


@settings(max_examples=15, deadline=None)
@given(st.floats(-12, 12), st.floats(-12, 12), st.floats(0.97, 1.03))
def test_the_motion_of_the_scene_is_found_to_half_a_pixel(right, down, zoom):
    camera = CameraMotion()
    assert seen(camera, view(scene(), 0, 0)) is None  # nothing to compare with
    motion = seen(camera, view(scene(), right, down, zoom))
    for x, y in ((20, 20), (300, 30), (160, 200)):
        # A px's middle lies half a pixel beside its edge, from which boxes count.
        true = zoom * (np.array([x, y]) + 39.5) + (right, down) - 39.5  # view to scene to view
        assert np.abs(motion @ (x, y, 1) - true).max() < 0.5


def test_what_moves_in_the_box_is_not_the_scene():
    camera = CameraMotion()
    for step in range(2):
        image = view(scene(), 0, 0)
        left, right = 140 + 6 * step, 180 + 6 * step
        image[100:130, left:right] = scene()[:30, :40]
        motion = seen(camera, image)
    np.testing.assert_allclose(motion, np.eye(2, 3), atol=0.05)


@pytest.mark.parametrize('thermal', [np.full((240, 320), 90, np.uint8), None])
def test_no_motion_is_told_where_no_camera_shows_both_frames(thermal):
    camera = CameraMotion()
    image = view(scene(), 0, 0)
    seen(camera, image)
    assert seen(camera, thermal, np.dstack([image] * 3)) is None


def test_noise_tells_no_motion_and_the_other_camera_does():
    rng, camera = np.random.default_rng(1), CameraMotion()
    for step in range(2):
        noise = rng.uniform(0, 255, (240, 320, 3)).astype(np.uint8)
        motion = seen(camera, view(scene(), 5 * step, 0), noise)
    np.testing.assert_allclose(motion, [[1, 0, 5], [0, 1, 0]], atol=0.3)


def test_a_box_goes_with_the_camera_as_far_as_it_is_told_to():
    motion = np.array([[1.1, 0, 7], [0, 1.1, -4]])
    whole, half = with_camera(BOX, motion, 1), with_camera(BOX, motion, 0.5)
    np.testing.assert_allclose(centre(whole), 1.1 * centre(BOX) + (7, -4))
    np.testing.assert_allclose(whole[2:], 1.1 * BOX[2:])
    np.testing.assert_allclose(centre(half), (centre(whole) + centre(BOX)) / 2)
    np.testing.assert_allclose(half[2:], np.sqrt(1.1) * BOX[2:])
    np.testing.assert_array_equal(with_camera(BOX, motion, 0), BOX)


def test_between_two_boxes():
    other = BOX + np.array([10, -20, 0, 0])
    assert iou(between(BOX, other, 0), BOX) == pytest.approx(1)
    assert iou(between(BOX, other, 1), other) == pytest.approx(1)
    np.testing.assert_allclose(centre(between(BOX, other, 0.5)), centre(BOX) + np.array([5, -10]))


def share(by_camera: tuple, by_image: tuple, score: float = 0.9, frames: int = 20) -> float:
    """Of a target that goes so many px a frame where the camera moves the scene by others."""
    standing, box = Standing(centre(BOX)), BOX
    motion = np.column_stack([np.eye(2), by_camera])
    for _ in range(frames):
        standing.carry(motion, centre(box))
        box = box + np.array([*by_image, 0, 0])
        standing.add(box, score)
    return standing.share


def test_who_goes_with_the_scene_stands_in_it():
    assert share((2, 1), (2, 1)) > 0.9
    assert share((2, 1), (2.1, 0.9)) > 0.9  # as exactly as a network finds it
    assert share((2, 1), (0, 0)) == 0  # the camera follows it
    assert share((2, 1), (-2, 1)) == 0
    assert share((0, 0), (0, 0)) == 0  # a camera that stands tells nothing
    assert share((2, 1), (2, 1), score=0.01) < 0.5  # nor does an unsure box


def test_after_a_frame_without_known_motion_the_old_places_are_forgotten():
    standing = Standing(centre(BOX))
    standing.carry(None, np.array([900, 900.0]))
    standing.carry(np.column_stack([np.eye(2), (2, 1)]), np.array([900, 900.0]))
    standing.add(np.array([882, 886, 40, 30.0]), 1.0)
    assert standing.share > 0.3
