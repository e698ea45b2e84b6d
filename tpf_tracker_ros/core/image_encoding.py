"""
Pixels of image messages, without ROS: the node and the bag reader both decode here.

A message is anything with the fields of sensor_msgs/Image (encoding, height, width, step,
is_bigendian, data) or sensor_msgs/CompressedImage (format, data): rclpy's and rosbags' classes
both are. cv_bridge is not used because its mono16 to mono8 divides by 257, which leaves two grey
levels of a scene of counts 7200-7700.
"""

from typing import Any

import cv2
import numpy as np
from tpf_tracker_ros.core.errors import TpfError

# encoding: (dtype, channels)
PIXELS = {
    'rgb8': ('u1', 3),
    'bgr8': ('u1', 3),
    'rgba8': ('u1', 4),
    'bgra8': ('u1', 4),
    'mono8': ('u1', 1),
    'mono16': ('u2', 1),
    '8UC1': ('u1', 1),
    '8UC3': ('u1', 3),
    '8UC4': ('u1', 4),
    '16UC1': ('u2', 1),
    '32FC1': ('f4', 1),
}
# OpenCV's plain 8UC3 and 8UC4 are in blue, green, red order, as cv_bridge takes them.
TO_RGB = {
    'bgr8': cv2.COLOR_BGR2RGB,
    '8UC3': cv2.COLOR_BGR2RGB,
    'rgba8': cv2.COLOR_RGBA2RGB,
    'bgra8': cv2.COLOR_BGRA2RGB,
    '8UC4': cv2.COLOR_BGRA2RGB,
    'mono8': cv2.COLOR_GRAY2RGB,
    '8UC1': cv2.COLOR_GRAY2RGB,
}
TO_GREY = {
    'rgb8': cv2.COLOR_RGB2GRAY,
    'rgba8': cv2.COLOR_RGBA2GRAY,
    'bgr8': cv2.COLOR_BGR2GRAY,
    '8UC3': cv2.COLOR_BGR2GRAY,
    'bgra8': cv2.COLOR_BGRA2GRAY,
    '8UC4': cv2.COLOR_BGRA2GRAY,
}


class UnsupportedEncodingError(TpfError):
    """An encoding that is not read here; cv_bridge may know it."""


def decode_rgb(message: Any) -> np.ndarray:
    """
    Return the image as uint8 (H, W, 3) in R, G, B order; a read-only view of the data for rgb8.

    Raises UnsupportedEncodingError by name and TpfError on data that do not fit the header.
    """
    encoding, image = _decode(message)
    if encoding == 'rgb8':
        return image
    if encoding not in TO_RGB:
        raise UnsupportedEncodingError(
            f'rgb image has encoding {encoding!r}; it must be one of rgb8, {", ".join(TO_RGB)}'
        )
    return cv2.cvtColor(image, TO_RGB[encoding])


def decode_thermal(message: Any) -> np.ndarray:
    """
    Decode to uint8, uint16 or float32 (H, W) of raw values; colour maps become luminance.

    A read-only view of the data where that is possible. Raises as decode_rgb does.
    """
    encoding, image = _decode(message)
    return cv2.cvtColor(image, TO_GREY[encoding]) if encoding in TO_GREY else image


def encoding_of(image: np.ndarray) -> str:
    """
    Return the encoding that an array is published and recorded with.

    uint8 (H, W, 3): 'rgb8'; (H, W) of uint8: 'mono8', uint16: 'mono16', float32: '32FC1'.
    Raises TpfError on anything else.
    """
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
        return 'rgb8'
    names = {'u1': 'mono8', 'u2': 'mono16', 'f4': '32FC1'}
    encoding = names.get(image.dtype.str[1:]) if image.ndim == 2 else None
    if encoding is None:
        raise TpfError(
            f'image is {image.dtype} {image.shape}; it must be uint8 (H, W, 3) or '
            'uint8, uint16 or float32 (H, W)'
        )
    return encoding


def _decode(message: Any) -> tuple[str, np.ndarray]:
    """Return encoding and pixels of either kind of message, in native byte order."""
    if hasattr(message, 'format'):
        return _decompress(message)
    encoding = message.encoding
    if encoding not in PIXELS:
        raise UnsupportedEncodingError(
            f'image has encoding {encoding!r}; it must be one of {", ".join(PIXELS)}'
        )
    kind, channels = PIXELS[encoding]
    dtype = np.dtype(('>' if message.is_bigendian else '<') + kind)
    height, width, step = message.height, message.width, message.step
    row = width * channels * dtype.itemsize
    have = memoryview(message.data).nbytes
    # The last row may end before its padding does.
    if not row or not height or step < row or have < step * (height - 1) + row:
        raise TpfError(
            f'{encoding} image of {width}x{height} with step {step} has {have} bytes of data; '
            f'it needs rows of at least {row} bytes and one for each line'
        )
    shape, strides = (height, width), (step, channels * dtype.itemsize)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, dtype.itemsize)
    image = np.ndarray(shape, dtype, message.data, strides=strides)
    image.flags.writeable = False
    return encoding, image.astype(dtype.newbyteorder('='), copy=False)


def _decompress(message: Any) -> tuple[str, np.ndarray]:
    """Return encoding and pixels of a compressed image: jpeg, png, whatever cv2 can read."""
    data = np.frombuffer(message.data, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None:
        raise TpfError(
            f'compressed image of format {message.format!r} ({data.size} bytes) cannot be '
            'decoded; it must be a whole jpeg or png'
        )
    encodings = {
        ('u1', 2): 'mono8',
        ('u2', 2): 'mono16',
        ('f4', 2): '32FC1',
        ('u1', 3): '8UC4' if image.shape[2:] == (4,) else '8UC3',
    }
    encoding = encodings.get((image.dtype.str[1:], image.ndim))
    if encoding is None:
        raise UnsupportedEncodingError(
            f'compressed image is {image.dtype} {image.shape}; '
            'it must be 8-bit colour, or 8-bit, 16-bit or float grey'
        )
    return encoding, image
