"""
Registration: thermal images onto the pixel grid of the RGB camera.

Whatever is known (a homography, a calibration and a plane, a pair of CameraInfo) becomes one
dense map from RGB pixels to thermal pixels, and one remap per frame.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from tpf_tracker_ros.core.errors import TpfError

DISTORTION_MODELS = ('', 'plumb_bob', 'rational_polynomial', 'equidistant')


def check_homography(numbers: np.ndarray | list[float]) -> np.ndarray:
    """Nine numbers, row by row, as float64 (3, 3). Raises TpfError when it cannot be inverted."""
    matrix = np.asarray(numbers, dtype=np.float64)
    if matrix.size != 9 or not np.isfinite(matrix).all():
        raise TpfError(
            f'registration.homography has {matrix.size} values; it must be 9 finite numbers, row '
            'by row, that take thermal pixels to rgb pixels'
        )
    matrix = matrix.reshape(3, 3)
    # Pixel units make the entries differ by 1e6 in a sound homography, so scale decides nothing.
    scaled = matrix / max(np.abs(matrix).max(), 1e-300)
    if np.linalg.cond(scaled) > 1e12:
        raise TpfError(
            'registration.homography is singular: it takes the image to a line or a point; '
            'give one that can be inverted, or the identity for registered cameras'
        )
    return matrix


@dataclass(frozen=True)
class Camera:
    """
    A calibrated camera, as in sensor_msgs/CameraInfo.

    size: (width, height) px of the calibration. matrix: K (3, 3), float64. distortion: D.
    model: distortion model by its ROS name. rotation: R (3, 3), camera to rectified frame.
    baseline: (3,) m, origin of the common rectified frame in this camera, from P.
    Raises TpfError on an uncalibrated camera (K of zeros) and an unknown model.
    """

    size: tuple[int, int]
    matrix: np.ndarray
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(5))
    model: str = 'plumb_bob'
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    baseline: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def __post_init__(self) -> None:
        if min(self.size) < 1 or not self.matrix[0, 0] > 0 or not self.matrix[1, 1] > 0:
            raise TpfError(
                'camera_info is not calibrated (its size or K is 0); calibrate the camera or '
                'set registration.method to homography'
            )
        if self.model not in DISTORTION_MODELS:
            raise TpfError(
                f'camera_info has distortion model {self.model!r}; '
                f'it must be one of {", ".join(DISTORTION_MODELS[1:])}'
            )

    def scaled_matrix(self, size: tuple[int, int]) -> np.ndarray:
        """K (3, 3) for images of another size (width, height) of the same field of view."""
        return np.diag([size[0] / self.size[0], size[1] / self.size[1], 1.0]) @ self.matrix

    def rays(self, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Rays (N, 3) with z = 1 through pixels (N, 2) of an image of this size."""
        points = np.ascontiguousarray(pixels, np.float64)[:, None]
        undistort = (
            cv2.fisheye.undistortPoints if self.model == 'equidistant' else cv2.undistortPoints
        )
        flat = undistort(points, self.scaled_matrix(size), self._coefficients())[:, 0]
        return np.column_stack([flat, np.ones(len(flat))])

    def project(self, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Pixels (N, 2) of points (N, 3); NaN for points that are not in front of the camera."""
        matrix, zero = self.scaled_matrix(size), np.zeros(3)
        front = points[:, 2] > 1e-9
        usable = np.where(front[:, None], points, (0.0, 0.0, 1.0))
        usable = np.ascontiguousarray(usable / usable[:, 2:])[:, None]
        if self.model == 'equidistant':
            pixels, _ = cv2.fisheye.projectPoints(usable, zero, zero, matrix, self._coefficients())
        else:
            pixels, _ = cv2.projectPoints(usable, zero, zero, matrix, self._coefficients())
        return np.where(front[:, None], pixels[:, 0], np.nan)

    def _coefficients(self) -> np.ndarray:
        wanted = 4 if self.model == 'equidistant' else max(5, len(self.distortion))
        return np.pad(self.distortion, (0, max(0, wanted - len(self.distortion))))[:wanted]


class Registration:
    """
    Brings thermal images of one size onto the RGB grid; made by one of the by_* functions.

    map_xy: float32 (H, W, 2), the thermal pixel for each RGB pixel, NaN where there is none.
    thermal_size: (width, height) of the images that apply accepts.
    """

    def __init__(self, map_xy: np.ndarray, thermal_size: tuple[int, int]) -> None:
        self.thermal_size = thermal_size
        # NaN is undefined in cv2; a far pixel is beyond the border like any other. Fixed-point
        # maps are half as large and faster.
        reachable = np.nan_to_num(map_xy, nan=-1e4).clip(-1e4, 1e4).astype(np.float32)
        self._maps = cv2.convertMaps(reachable, None, cv2.CV_16SC2)

    def apply(self, thermal: np.ndarray) -> np.ndarray:
        """
        Warp a thermal image (h, w), uint8, uint16 or float32, to the RGB grid (H, W), same dtype.

        Beyond the thermal image its border repeats, so that the thermal range stays what it is
        and no edge appears that is not there. Raises TpfError on another size.
        """
        if thermal.shape[1::-1] != self.thermal_size:
            raise TpfError(
                f'thermal image is {thermal.shape[1]}x{thermal.shape[0]} but the registration is '
                f'for {self.thermal_size[0]}x{self.thermal_size[1]}'
            )
        return cv2.remap(thermal, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def by_homography(
    homography: np.ndarray, thermal_size: tuple[int, int], rgb_size: tuple[int, int]
) -> Registration:
    """homography: (3, 3), thermal px to RGB px. Sizes: (width, height). Raises TpfError."""
    matrix = check_homography(homography)
    # Make w positive in front of both cameras; the middle of the thermal image is there.
    if matrix[2] @ (thermal_size[0] / 2, thermal_size[1] / 2, 1) < 0:
        matrix = -matrix
    points = np.column_stack([_grid(rgb_size), np.ones(rgb_size[0] * rgb_size[1])])
    points @= np.linalg.inv(matrix).T
    front = points[:, 2:] > 1e-12
    thermal = np.where(front, points[:, :2] / np.where(front, points[:, 2:], 1), np.nan)
    return Registration(_as_map(thermal, rgb_size), thermal_size)


Register = Callable[[np.ndarray, tuple[int, int] | None], np.ndarray]


def register_by(homography: np.ndarray | list[float]) -> Register:
    """
    Return a function (thermal image, RGB (width, height)) -> image on the RGB grid.

    Every thermal image of a stream is warped, those without an RGB image, too: where none came
    yet, and its size is None, that camera is taken to have as many pixels.
    The map is made once for each pair of sizes. Raises TpfError on a bad homography.
    """
    matrix = check_homography(homography)
    make = lru_cache(maxsize=4)(lambda *sizes: by_homography(matrix, *sizes))

    def register(thermal: np.ndarray, rgb_size: tuple[int, int] | None) -> np.ndarray:
        size = thermal.shape[1::-1]
        return make(size, rgb_size or size).apply(thermal)

    return register


def by_calibration(
    thermal: Camera,
    rgb: Camera,
    thermal_size: tuple[int, int],
    rgb_size: tuple[int, int],
    *,
    rotation: np.ndarray,
    translation: np.ndarray,
    plane_distance: float = 0.0,
) -> Registration:
    """
    Calibrated cameras that see one plane, square to the thermal camera's axis.

    rotation: (3, 3), translation: (3,) m; X_rgb = rotation @ X_thermal + translation.
    plane_distance: m from the thermal camera, 0 for a plane far away. Distortion is taken out.
    """
    rays = rgb.rays(_grid(rgb_size), rgb_size)
    directions = rays @ rotation  # R^T ray
    if plane_distance > 0:
        # The ray leaves the RGB camera, at -R^T t in the thermal frame, and meets z = distance.
        origin = -rotation.T @ np.asarray(translation, dtype=np.float64)
        with np.errstate(divide='ignore', invalid='ignore'):
            reach = (plane_distance - origin[2]) / directions[:, 2:]
            directions = np.where(reach > 0, origin + reach * directions, -1.0)
    pixels = thermal.project(directions, thermal_size)
    # Far outside its field of view a distortion polynomial folds back into the image.
    corners = thermal.rays(np.array([[0, 0], thermal_size], np.float64), thermal_size)
    widest = 1.2 * np.hypot(*corners[:, :2].T).max()
    pixels[np.hypot(*directions[:, :2].T) > widest * directions[:, 2]] = np.nan
    return Registration(_as_map(pixels, rgb_size), thermal_size)


def by_camera_info(
    thermal: Camera,
    rgb: Camera,
    thermal_size: tuple[int, int],
    rgb_size: tuple[int, int],
    *,
    plane_distance: float = 0.0,
) -> Registration:
    """Rotation and baseline from the R and P of a jointly calibrated CameraInfo pair."""
    return by_calibration(
        thermal,
        rgb,
        thermal_size,
        rgb_size,
        rotation=rgb.rotation.T @ thermal.rotation,
        translation=rgb.rotation.T @ (rgb.baseline - thermal.baseline),
        plane_distance=plane_distance,
    )


def _grid(size: tuple[int, int]) -> np.ndarray:
    """Pixel coordinates (W*H, 2), row by row."""
    width, height = size
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def _as_map(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return pixels.reshape(size[1], size[0], 2).astype(np.float32)
