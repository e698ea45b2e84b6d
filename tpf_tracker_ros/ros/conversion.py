"""
Image messages to frame pairs and back.

Pixels are read by core.image_encoding (the one reader of `data`) and written by to_image_message
(the one writer).
"""

import array
from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tpf_tracker_ros.core import registration
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.image_encoding import (
    decode_rgb,
    DECODERS,
    encoding_of,
)
from tpf_tracker_ros.core.pairing import Paired

GREY = ('mono8', '8UC1')
COLOUR = ('rgb8', 'bgr8', 'rgba8', 'bgra8')


class Frame(NamedTuple):
    """An Image or CompressedImage with the moment of its arrival, time.perf_counter() seconds."""

    message: Any
    arrival: float

    @property
    def header(self) -> Header:
        """For message_filters, which looks for it in what it pairs."""
        return self.message.header

    @property
    def size(self) -> int:
        """Bytes of the image as it came."""
        return memoryview(self.message.data).nbytes


def nanoseconds(stamp: Any) -> int:
    """Return a builtin_interfaces/Time as integer nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def to_image_message(image: np.ndarray, header: Header) -> Image:
    """
    uint8 (H, W, 3) RGB, or (H, W) uint8, uint16, float32, as a message.

    A filled array.array is the one kind of data that rclpy takes without looking at each byte:
    0.07 ms for 640x512x3 instead of 26 to 74.
    """
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(image).data.cast('B'))
    height, width = image.shape[:2]
    message = Image(header=header, height=height, width=width, encoding=encoding_of(image))
    message.step = len(data) // height
    message.is_bigendian = image.dtype.str[0] == '>'
    message.data = data
    return message


def to_camera(info: CameraInfo) -> registration.Camera:
    """Raise TpfError where it is not calibrated or its distortion model is unknown."""
    projection = np.array(info.p).reshape(3, 4)
    rotation = np.array(info.r).reshape(3, 3)
    focal = projection.diagonal()[:2]
    baseline = np.zeros(3)
    baseline[:2] = np.divide(projection[:2, 3], focal, out=np.zeros(2), where=focal > 0)
    return registration.Camera(
        size=(info.width, info.height),
        matrix=np.array(info.k).reshape(3, 3),
        distortion=np.array(info.d),
        model=info.distortion_model,
        rotation=rotation if rotation.any() else np.eye(3),
        baseline=baseline,
    )


class PairConverter:
    """
    Paired messages to a FramePair on the RGB grid.

    values: the node's parameters by name. unusable: called with a camera and one line when its
    image cannot be read or brought onto the other's grid; the pair goes on with the other one.
    second: what the thermal topic carries, as TrackingNetwork.second says it.
    warning: what looks wrong about the latest pair, or None. Threads may convert side by side,
    call configure and take_info and set second meanwhile.
    """

    def __init__(
        self,
        values: dict[str, Any],
        unusable: Callable[[str, str], None] = lambda camera, problem: None,
        *,
        second: str = 'thermal',
    ) -> None:
        self.warning: str | None = None
        self._unusable, self.second = unusable, second
        self._infos: dict[str, CameraInfo] = {}
        # What the registration was made from, and itself: one tuple, so that they always match.
        self._made: tuple[tuple | None, registration.Registration | None] = None, None
        self._rgb_size: tuple[int, int] | None = None
        self.configure(values)

    def configure(self, values: dict[str, Any]) -> None:
        """Take the registration.* parameters; the next pair is converted by them."""
        self._settings = {
            name.removeprefix('registration.'): value
            for name, value in values.items()
            if name.startswith('registration.')
        }

    def take_info(self, camera: str, info: CameraInfo) -> None:
        """Use this CameraInfo of 'rgb' or 'thermal' from now on."""
        info.header = Header()  # so that equal means equal in content
        self._infos[camera] = info

    def convert(self, paired: Paired) -> FramePair:
        """Raise TpfError where neither image can be used."""
        frames = {'rgb': paired.rgb, 'thermal': paired.thermal}
        there = [camera for camera, frame in frames.items() if frame is not None]
        images: dict[str, np.ndarray] = {}
        problems: list[str] = []
        for camera in there:
            try:
                images[camera] = self._read(camera, frames[camera].message)
            except TpfError as error:
                problems.append(str(error))
                self._unusable(camera, str(error))
        if not images:
            raise TpfError('; '.join(problems))
        self.warning = None
        if len(there) == 2:
            encodings = [getattr(frames[name].message, 'encoding', '') for name in there]
            if encodings[0] in GREY and encodings[1] in COLOUR:
                self.warning = (
                    f'rgb image is {encodings[0]} and thermal image is {encodings[1]}; '
                    'are the two image topics swapped?'
                )
        return FramePair(images.get('rgb'), images.get('thermal'), paired.stamp)

    def _read(self, camera: str, message: Any) -> np.ndarray:
        """Return an image on the RGB grid. Raises TpfError."""
        if camera == 'rgb':
            rgb = decode_rgb(message)
            self._rgb_size = rgb.shape[1::-1]
            return rgb
        thermal = self._register(DECODERS[self.second](message))
        size = thermal.shape[1::-1]
        if self._rgb_size not in (None, size):
            raise TpfError(
                f'thermal image is {size[0]}x{size[1]} but rgb is '
                f'{self._rgb_size[0]}x{self._rgb_size[1]} and no registration is set; set '
                'registration.homography, or give images of one size'
            )
        return thermal

    def info(self, header: Header) -> CameraInfo | None:
        """Return the CameraInfo of the grid of the pairs under this header; None if unknown."""
        camera = 'thermal' if self._rgb_size is None else 'rgb'
        if camera not in self._infos:
            return None
        info = copy(self._infos[camera])
        info.header = header
        return info

    def bearing(self, box: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
        """Return the unit vector (3,) from the RGB camera to a box's centre; None if unknown."""
        if 'rgb' not in self._infos:
            return None
        try:
            ray = to_camera(self._infos['rgb']).rays((box[:2] + box[2:] / 2)[None], size)[0]
        except TpfError:
            return None  # an uncalibrated camera tracks as well, only without bearings
        return ray / np.linalg.norm(ray)

    def _register(self, thermal: np.ndarray) -> np.ndarray:
        settings = self._settings
        if settings['method'] != 'homography':
            infos = self._needed_infos(settings['method'])
        elif np.array_equal(settings['homography'], np.eye(3).ravel()):
            return thermal
        else:
            infos = ()
        size = thermal.shape[1::-1]
        # With the RGB camera dead from the start, its image is taken to be as large.
        made_from = (settings, size, self._rgb_size or size, *infos)
        made = self._made
        if made[0] != made_from:
            made = self._made = made_from, _make_registration(*made_from)
        return made[1].apply(thermal)

    def _needed_infos(self, method: str) -> list[CameraInfo]:
        missing = [name for name in ('thermal', 'rgb') if name not in self._infos]
        if missing:
            topics = ' and '.join(f'{name}/camera_info' for name in missing)
            raise TpfError(
                f'registration.method is {method} but nothing came on {topics}; '
                'publish it or set registration.method to homography'
            )
        return [self._infos['thermal'], self._infos['rgb']]


def _make_registration(
    settings: dict[str, Any], size: tuple, rgb_size: tuple, *infos: CameraInfo
) -> registration.Registration:
    if not infos:
        return registration.by_homography(settings['homography'], size, rgb_size)
    cameras = tuple(map(to_camera, infos))
    distance = settings['plane_distance']
    if settings['method'] == 'camera_info':
        return registration.by_camera_info(*cameras, size, rgb_size, plane_distance=distance)
    return registration.by_calibration(
        *cameras,
        size,
        rgb_size,
        rotation=_rotation(*settings['rotation']),
        translation=np.array(settings['translation']),
        plane_distance=distance,
    )


def _rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Rotate about fixed axes, as in tf2: Rz(yaw) Ry(pitch) Rx(roll)."""
    axes = np.eye(3)
    turns = [cv2.Rodrigues(axis * angle)[0] for axis, angle in zip(axes, (roll, pitch, yaw))]
    return turns[2] @ turns[1] @ turns[0]
