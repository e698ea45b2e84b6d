"""Pixels survive every encoding, row padding and byte order that cameras publish."""

import array
from types import SimpleNamespace

import cv2
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.image_encoding import (
    decode_rgb,
    decode_thermal,
    encoding_of,
    PIXELS,
    UnsupportedEncodingError,
)

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (7, 5, 3), dtype=np.uint8)


def message(pixels, encoding, *, padding=0, bigendian=False):
    """Return an Image message of these pixels, its rows padded with rubbish."""
    height, width = pixels.shape[:2]
    stored = pixels.astype(pixels.dtype.newbyteorder('>' if bigendian else '<'))
    rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(height, -1)
    rows = np.hstack([rows, np.full((height, padding), 171, np.uint8)])
    return SimpleNamespace(
        encoding=encoding,
        height=height,
        width=width,
        step=rows.shape[1],
        is_bigendian=bigendian,
        data=array.array('B', rows.tobytes()),
    )


@pytest.mark.parametrize(
    ('encoding', 'pixels'),
    [
        ('rgb8', RGB),
        ('bgr8', RGB[..., ::-1]),
        ('8UC3', RGB[..., ::-1]),
        ('rgba8', np.dstack([RGB, RGB[..., 0]])),
        ('bgra8', np.dstack([RGB[..., ::-1], RGB[..., 0]])),
        ('8UC4', np.dstack([RGB[..., ::-1], RGB[..., 0]])),
    ],
)
@pytest.mark.parametrize('padding', [0, 3])
def test_colour_is_rgb(encoding, pixels, padding):
    image = decode_rgb(message(pixels, encoding, padding=padding))
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
def test_grey_camera_as_rgb(encoding):
    np.testing.assert_array_equal(
        decode_rgb(message(RGB[..., 0], encoding)), np.dstack([RGB[..., 0]] * 3)
    )


@given(
    encoding=st.sampled_from(['mono8', '8UC1', 'mono16', '16UC1', '32FC1']),
    padding=st.integers(0, 9),
    bigendian=st.booleans(),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
)
def test_thermal_keeps_raw_values(encoding, padding, bigendian, height, width):
    kind = np.dtype(PIXELS[encoding][0])
    pixels = (RANDOM.random((height, width)) * (250 if kind.itemsize == 1 else 60000)).astype(kind)
    image = decode_thermal(message(pixels, encoding, padding=padding, bigendian=bigendian))
    assert image.dtype == kind and image.dtype.isnative
    np.testing.assert_array_equal(image, pixels)


def test_colour_mapped_thermal_becomes_luminance():
    expected = cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(decode_thermal(message(RGB, 'rgb8', padding=2)), expected)
    np.testing.assert_array_equal(decode_thermal(message(RGB[..., ::-1], 'bgr8')), expected)


def test_common_encodings_are_not_copied():
    source = message(RGB, 'rgb8', padding=1)
    assert np.shares_memory(decode_rgb(source), np.frombuffer(source.data, np.uint8))
    assert not decode_rgb(source).flags.writeable


@pytest.mark.parametrize(
    'pixels', [RGB[..., 0], RGB[..., 0].astype(np.uint16) * 200], ids=['8 bit', '16 bit']
)
def test_compressed_thermal_png_is_lossless(pixels):
    data = cv2.imencode('.png', pixels)[1].tobytes()
    image = decode_thermal(SimpleNamespace(format='mono16; png compressed ', data=data))
    np.testing.assert_array_equal(image, pixels)


def test_compressed_colour_is_rgb():
    data = cv2.imencode('.png', RGB[..., ::-1])[1].tobytes()
    image = decode_rgb(SimpleNamespace(format='rgb8; png compressed bgr8', data=data))
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize(
    'data', [b'', b'not an image', cv2.imencode('.png', RGB)[1].tobytes()[:20]]
)
def test_broken_compressed_image(data):
    with pytest.raises(TpfError, match=r"format 'jpeg'.*cannot be decoded"):
        decode_rgb(SimpleNamespace(format='jpeg', data=data))


@pytest.mark.parametrize('change', [{'step': 4}, {'height': 8}, {'width': 0}, {'data': b''}])
def test_data_that_do_not_fit_the_header(change):
    broken = message(RGB, 'rgb8')
    vars(broken).update(change)
    with pytest.raises(TpfError, match='bytes of data'):
        decode_rgb(broken)


def test_unsupported_encodings_are_refused_by_name():
    broken = message(RGB[..., 0], 'bayer_rggb8')
    for decode in decode_rgb, decode_thermal:
        with pytest.raises(UnsupportedEncodingError, match='bayer_rggb8'):
            decode(broken)
    with pytest.raises(UnsupportedEncodingError, match='mono16'):
        decode_rgb(message(RGB[..., 0].astype(np.uint16), 'mono16'))


def test_encoding_of_arrays():
    grey = RGB[..., 0]
    assert encoding_of(RGB) == 'rgb8'
    assert encoding_of(grey) == 'mono8'
    assert encoding_of(grey.astype(np.uint16)) == 'mono16'
    assert encoding_of(grey.astype(np.float32)) == '32FC1'
    with pytest.raises(TpfError, match='float64'):
        encoding_of(grey.astype(np.float64))
