"""
Pixels of image messages and image files, without ROS.

The node, the bag reader and folders of images all decode here, by one table.
A message is anything with the fields of sensor_msgs/Image (encoding, height, width, step,
is_bigendian, data) or sensor_msgs/CompressedImage (format, data): rclpy's and rosbags' classes
both are. cv_bridge is not used: its mono16 to mono8 divides by 257, which leaves two grey levels
of a scene of counts 7200-7700, and what it knows of other encodings is cv2.cvtColor's.
"""

import re
from typing import Any, NamedTuple

import cv2
import numpy as np
from tpf_tracker_ros.core import tiff
from tpf_tracker_ros.core.depth import check_depth
from tpf_tracker_ros.core.errors import TpfError

REFUSED = -1  # in place of a conversion
DEPTH_HEADER = 12  # bytes
JPEG_START, JPEG_END = b'\xff\xd8', b'\xff\xd9'


class Encoding(NamedTuple):
    """
    How an encoding lies in memory, and its conversions by cv2.cvtColor, None for none.

    rows: of the array for each row of the image, more than 1 where planes follow each other.
    """

    dtype: str
    channels: int
    to_rgb: int | None
    to_grey: int | None
    rows: float = 1


def _encodings() -> dict[str, Encoding]:
    """Every encoding of sensor_msgs/image_encodings.hpp that cv2.cvtColor knows, and nv12."""
    table = {}
    for bits, dtype in ((8, 'u1'), (16, 'u2')):
        kind = f'{bits}UC'
        # OpenCV's plain 3 and 4 channels are in blue, green, red order, as cv_bridge takes them.
        for names, channels, order in (
            ((f'rgb{bits}',), 3, 'RGB'),
            ((f'rgba{bits}',), 4, 'RGBA'),
            ((f'bgr{bits}', f'{kind}3'), 3, 'BGR'),
            ((f'bgra{bits}', f'{kind}4'), 4, 'BGRA'),
        ):
            to_rgb = None if order == 'RGB' else getattr(cv2, f'COLOR_{order}2RGB')
            to_grey = getattr(cv2, f'COLOR_{order}2GRAY')
            table |= dict.fromkeys(names, Encoding(dtype, channels, to_rgb, to_grey))
        for pattern in ('rggb', 'bggr', 'gbrg', 'grbg'):
            codes = (getattr(cv2, f'COLOR_Bayer{pattern.upper()}2{to}') for to in ('RGB', 'GRAY'))
            table[f'bayer_{pattern}{bits}'] = Encoding(dtype, 1, *codes)
    table |= dict.fromkeys(('mono8', '8UC1'), Encoding('u1', 1, cv2.COLOR_GRAY2RGB, None))
    # Counts of thermal cameras, and of nothing else.
    for names, dtype in (
        (('mono16', '16UC1'), 'u2'), (('16SC1',), 'i2'), (('32FC1',), 'f4'), (('64FC1',), 'f8'),
    ):  # fmt: skip
        table |= dict.fromkeys(names, Encoding(dtype, 1, REFUSED, None))
    for names, order in (
        (('yuv422', 'uyvy'), 'UYVY'), (('yuv422_yuy2', 'yuyv'), 'YUY2'),
        (('nv21',), 'NV21'), (('nv12',), 'NV12'),
    ):  # fmt: skip
        codes = (getattr(cv2, f'COLOR_YUV2{to}_{order}') for to in ('RGB', 'GRAY'))
        shape = (1, *codes, 1.5) if order.startswith('NV') else (2, *codes)
        table |= dict.fromkeys(names, Encoding('u1', *shape))
    return table


ENCODINGS = _encodings()
COUNTS = tuple(name for name, encoding in ENCODINGS.items() if encoding.to_rgb == REFUSED)
GREY = ('mono8', '8UC1')


class ImageFile(NamedTuple):
    """A file's suffix and contents; decoded like a message, but turned as its EXIF tag says."""

    format: str  # noqa: A003
    data: bytes


def decode_rgb(message: Any) -> np.ndarray:
    """
    Return the image as uint8 (H, W, 3) in R, G, B order; a read-only view of the data for rgb8.

    Of 16 bits the upper 8 are kept. Raises TpfError on an encoding
    of another kind of camera, on one that is unknown, and on data that do not fit the header.
    """
    return _colours(
        message, 'rgb image has encoding {}, that of a thermal camera; are the two swapped?'
    )


def decode_events(message: Any) -> np.ndarray:
    """Decode a drawn event image to uint8 (H, W, 3), R, G, B. Raises as decode_rgb does."""
    return _colours(message, 'event image has encoding {}; it must be drawn, in 8 bits')


def decode_thermal(message: Any) -> np.ndarray:
    """
    Decode to uint8, uint16 or float32 (H, W) of raw values; colour maps become luminance.

    A read-only view of the data where that is possible. Raises as decode_rgb does.
    """
    name, image = _decode(message)
    image = _convert(name, image, ENCODINGS[name].to_grey)
    return image.astype(np.float32) if image.dtype in (np.int16, np.float64) else image


def decode_depth(message: Any) -> np.ndarray:
    """
    Decode a depth image to uint16 or float32 (H, W) in mm.

    A float message holds metres (REP 118), a file mm. Raises as decode_rgb does, and on 8 bits.
    """
    depth = check_depth(decode_thermal(message))
    metres = getattr(message, 'encoding', '') in ('32FC1', '64FC1')
    return depth * np.float32(1000) if metres else depth


# By what the second camera gives (TrackingNetwork.second), and for RGB.
DECODERS = {
    'rgb': decode_rgb,
    'thermal': decode_thermal,
    'depth': decode_depth,
    'events': decode_events,
}


def looks_like(message: Any) -> str:
    """
    Tell what the pixels say of the camera: 'counts' (thermal), 'colour' (RGB) or 'grey' (either).

    By the encoding, also that before compression; where it may be both, as YUV and plain JPEG, a
    picture without colours counts as grey. Raises TpfError.
    """
    name, image = _decode(message)
    sent = getattr(message, 'format', name).partition(';')[0].strip()
    sent = sent if sent in ENCODINGS else name
    if sent in COUNTS:
        return 'counts'
    if sent in GREY:
        return 'grey'
    raw = not hasattr(message, 'format')
    if re.match('rgb|bgr|bayer', sent) or (raw and ENCODINGS[name].channels > 2):
        return 'colour'
    rgb = _convert(name, image, ENCODINGS[name].to_rgb)
    # Neither noise nor compression makes more of a grey picture than this.
    return 'grey' if (np.ptp(rgb, axis=2) <= 4 + (rgb.max() >> 5)).all() else 'colour'


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


def _colours(message: Any, refusal: str) -> np.ndarray:
    name, image = _decode(message)
    code = ENCODINGS[name].to_rgb
    if code == REFUSED:
        raise TpfError(refusal.format(repr(name)))
    image = _convert(name, image, code)
    return image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)


def _convert(name: str, image: np.ndarray, code: int | None) -> np.ndarray:
    try:
        return image if code is None else cv2.cvtColor(image, code)
    except cv2.error as error:
        height, width = image.shape[:2]
        raise TpfError(
            f'{name} image of {width}x{height} cannot be converted: {error.err}'
        ) from None


def _decode(message: Any) -> tuple[str, np.ndarray]:
    """Return encoding and pixels of either kind of message, in native byte order."""
    if hasattr(message, 'format'):
        return _decompress(message)
    name = message.encoding
    if name not in ENCODINGS:
        raise TpfError(f'image has encoding {name!r}; it must be one of {", ".join(ENCODINGS)}')
    kind, channels, *_, rows = ENCODINGS[name]
    dtype = np.dtype(('>' if message.is_bigendian else '<') + kind)
    width, step, height = message.width, message.step, int(message.height * rows)
    row = width * channels * dtype.itemsize
    have = memoryview(message.data).nbytes
    # The last row may end before its padding does.
    if not row or not height or step < row or have < step * (height - 1) + row:
        raise TpfError(
            f'{name} image of {width}x{message.height} with step {step} has {have} bytes of data; '
            f'it needs rows of at least {row} bytes and one for each line'
        )
    shape, strides = (height, width), (step, channels * dtype.itemsize)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, dtype.itemsize)
    image = np.ndarray(shape, dtype, message.data, strides=strides)
    image.flags.writeable = False
    return name, image.astype(dtype.newbyteorder('='), copy=False)


def _decompress(message: Any) -> tuple[str, np.ndarray]:
    """Return encoding and pixels of a compressed image: jpeg, png, whatever cv2 can read."""
    data = _without_depth_header(np.frombuffer(message.data, np.uint8), message.format)
    # ANYCOLOR turns the picture as EXIF says, UNCHANGED does not: nor does image_transport.
    file = isinstance(message, ImageFile)
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if file else cv2.IMREAD_UNCHANGED
    pages = tiff.directories(data)
    if len(pages) > 1:
        raise TpfError(f'it is a TIFF of {len(pages)} images; write one a file (tiffsplit)')
    if data[:2].tobytes() == JPEG_START and JPEG_END not in data.tobytes():
        image = _without_end(data, flags)
    else:
        image = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise TpfError(
            f'compressed image of format {message.format!r} ({data.size} bytes) cannot be '
            'decoded; it must be a whole jpeg or png'
        )
    if pages and pages[0].get(tiff.PHOTOMETRIC) == tiff.MIN_IS_WHITE and image.dtype != np.uint8:
        if image.dtype != np.uint16:
            raise TpfError(f'it is a TIFF of {image.dtype} whose lowest value is white; invert it')
        image = np.uint16((1 << pages[0].get(tiff.BITS, 16)) - 1) - image
    bits, channels = 8 * image.dtype.itemsize, image.shape[2] if image.ndim == 3 else 1
    kind = {'u': 'U', 'i': 'S', 'f': 'F'}[image.dtype.kind]
    name = _as_sent(f'{bits}{kind}C{channels}', message.format)
    if name not in ENCODINGS:
        raise TpfError(
            f'compressed image is {image.dtype} {image.shape}; '
            'it must be colour of 8 or 16 bits, or 8-bit, 16-bit or float grey'
        )
    return name, image


def _without_depth_header(data: np.ndarray, sent: str) -> np.ndarray:
    """
    Take compressedDepth's 12 bytes off: a format and two numbers, before a 16-bit png.

    Those of '32FC1' hold inverse depths by these numbers, which no thermal image has.
    """
    original, _, rest = (part.strip() for part in sent.partition(';'))
    if not rest.startswith('compressedDepth'):
        return data
    if original not in ('16UC1', 'mono16') or 'rvl' in rest:
        raise TpfError(
            f'compressedDepth image of format {sent!r} is not read; publish 16UC1 with '
            'format png, or use the transport compressed'
        )
    return data[DEPTH_HEADER:]


def _without_end(data: np.ndarray, flags: int) -> np.ndarray | None:
    """
    Decode a JPEG that lacks its end marker, as some cameras send them, and only that.

    Whatever follows a whole picture changes nothing in it; in one that is cut, it is decoded.
    Zeros at its end are what was never written.
    """
    fillers = b'', b'\x5a' * 64, b'\xa5' * 64  # of a few missing bits, one may be right by chance
    ends = (np.frombuffer(filler + JPEG_END, np.uint8) for filler in fillers)
    one, *others = (cv2.imdecode(np.concatenate([data, end]), flags) for end in ends)
    whole = one is not None and all(np.array_equal(one, each) for each in others)
    return one if whole and data[-16:].any() else None


def _as_sent(name: str, sent: str) -> str:
    """
    Name the encoding of a decoded picture by its message, as image_transport takes it.

    'bayer_rggb8; jpeg compressed ' on grey data is a mosaic. 'rgb8; jpeg compressed rgb8' was
    encoded without a swap to blue, green, red, so what comes out is red, green, blue.
    """
    original, separator, rest = (part.strip() for part in sent.partition(';'))
    bits = name.partition('U')[0]
    if name in ('8UC1', '16UC1') and original.startswith('bayer_'):
        return re.sub(r'\d+$', bits, original)
    if name in ('8UC3', '16UC3') and separator and re.match('rgb|bgr', original):
        return name if 'compressed bgr' in rest else f'rgb{bits}'
    return name
