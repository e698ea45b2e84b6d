"""Pixels survive every encoding, row padding and byte order that cameras publish."""

import array
import struct
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
    ENCODINGS,
    GREY,
    ImageFile,
    looks_like,
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
    kind = np.dtype(ENCODINGS[encoding].dtype)
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


def test_unknown_encodings_are_refused_by_name():
    for decode in decode_rgb, decode_thermal:
        with pytest.raises(TpfError, match='nv24'):
            decode(message(RGB[..., 0], 'nv24'))
    with pytest.raises(TpfError, match=r'mono16.*swapped'):
        decode_rgb(message(RGB[..., 0].astype(np.uint16), 'mono16'))


def scene():
    """Return a smooth picture in colours, uint8 (24, 32, 3), that a mosaic does not blur."""
    y, x = np.mgrid[:24, :32]
    return np.dstack([60 + 4 * x, 200 - 5 * y, 40 + 2 * x + 2 * y]).astype(np.uint8)


def encoded(name):
    """Return the scene as a driver would send it."""
    rgb, (dtype, channels, *_, rows) = scene(), ENCODINGS[name]
    red, green, blue = (rgb[..., i].astype(float) for i in range(3))
    if name.startswith('bayer'):
        at = ['rgb'.index(colour) for colour in name[6:10]]
        pixels = rgb[..., 1].copy()
        for offset, channel in enumerate(at):
            row, column = divmod(offset, 2)
            pixels[row::2, column::2] = rgb[row::2, column::2, channel]
    elif name.startswith(('yuv', 'uyvy', 'yuyv', 'nv')):
        luma = 16 + 0.257 * red + 0.504 * green + 0.098 * blue
        u = 128 - 0.148 * red - 0.291 * green + 0.439 * blue
        v = 128 + 0.439 * red - 0.368 * green - 0.071 * blue
        if rows > 1:
            order = (v, u) if name == 'nv21' else (u, v)
            chroma = np.dstack([each[::2, ::2] for each in order]).reshape(12, 32)
            pixels = np.vstack([luma, chroma])
        else:
            chroma = np.where(np.arange(32) % 2, v, u)
            pair = (luma, chroma) if name in ('yuyv', 'yuv422_yuy2') else (chroma, luma)
            pixels = np.dstack(pair)
    elif channels > 1:
        pixels = rgb if name.startswith('rgb') else rgb[..., ::-1]
        pixels = np.dstack([pixels, red]) if channels == 4 else pixels
    else:
        pixels = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    pixels = pixels.astype(dtype)
    sent = message(pixels * 257 if dtype == 'u2' else pixels, name, padding=2)
    sent.height = 24
    return sent


@pytest.mark.parametrize('name', ENCODINGS)
def test_every_encoding_gives_the_scene(name):
    sent, grey = encoded(name), cv2.cvtColor(scene(), cv2.COLOR_RGB2GRAY).astype(float)
    thermal = decode_thermal(sent).astype(float) / (257 if ENCODINGS[name].dtype == 'u2' else 1)
    studio = name.startswith(('yuv', 'uyvy', 'yuyv', 'nv'))  # luminance from 16 to 235
    assert np.abs(thermal - (16 + grey * 219 / 255 if studio else grey))[2:-2, 2:-2].max() < 4
    if ENCODINGS[name].to_rgb == -1:
        with pytest.raises(TpfError, match='thermal camera'):
            decode_rgb(sent)
        return
    want = np.dstack([grey] * 3) if name in GREY else scene()
    assert np.abs(decode_rgb(sent) - want.astype(float))[2:-2, 2:-2].max() < 9


@pytest.mark.parametrize('name', [name for name in ENCODINGS if name.startswith('bayer')])
def test_a_compressed_mosaic_becomes_colours(name):
    sent = encoded(name)
    kind = np.dtype(ENCODINGS[name].dtype)
    pixels = np.ndarray((24, 32), kind, sent.data, strides=(sent.step, kind.itemsize))
    data = cv2.imencode('.png', pixels)[1].tobytes()
    packed = SimpleNamespace(format=f'{name}; png compressed ', data=data)
    np.testing.assert_array_equal(decode_rgb(packed), decode_rgb(sent))


@pytest.mark.parametrize(
    ('form', 'stored'),
    [
        ('rgb8; jpeg compressed bgr8', 'bgr'),
        ('bgr8; jpeg compressed bgr8', 'bgr'),
        ('jpeg', 'bgr'),
        ('bayer_rggb8; jpeg compressed bgr8', 'bgr'),  # made colours before it was compressed
        ('rgb8; jpeg compressed rgb8', 'rgb'),
        ('bgr8; jpeg compressed rgb8', 'rgb'),
    ],
)
def test_the_order_of_colours_in_a_jpeg(form, stored):
    pixels = scene()[..., ::-1] if stored == 'bgr' else scene()
    data = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    image = decode_rgb(SimpleNamespace(format=form, data=data))
    assert np.abs(image.astype(int) - scene()).mean() < 3


def test_a_jpeg_may_lack_its_end_marker_but_nothing_of_the_picture():
    noise = np.random.default_rng(0).integers(0, 256, (24, 32), dtype=np.uint8)
    jpeg = cv2.imencode('.jpg', noise)[1].tobytes()
    whole = decode_thermal(ImageFile('.jpg', jpeg))
    np.testing.assert_array_equal(decode_thermal(ImageFile('.jpg', jpeg[:-2])), whole)
    for cut in jpeg[:-6], jpeg[:-40], jpeg[:200], jpeg[:-200] + bytes(200):
        with pytest.raises(TpfError, match='cannot be decoded'):
            decode_thermal(ImageFile('.jpg', cut))


def with_orientation(jpeg, tag):
    """Put an EXIF block with this orientation behind the start of a JPEG."""
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0' + bytes([tag]) + bytes(6)
    return jpeg[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + jpeg[2:]


@pytest.mark.parametrize('decode', [decode_rgb, decode_thermal])
@pytest.mark.parametrize(('tag', 'turns'), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_files_are_turned_as_exif_says_and_messages_are_not(decode, tag, turns):
    jpeg = cv2.imencode('.jpg', scene()[..., ::-1])[1].tobytes()
    plain, turned = decode(ImageFile('.jpg', jpeg)), with_orientation(jpeg, tag)
    np.testing.assert_array_equal(decode(ImageFile('.jpg', turned)), np.rot90(plain, turns))
    np.testing.assert_array_equal(decode(SimpleNamespace(format='jpeg', data=turned)), plain)


def tiff_of(pixels, *, photometric=1, pages=1, subfile=0):
    """Return a plain TIFF of one strip; further pages hold the same and have this subfile type."""
    out, link = bytearray(b'II*\0\0\0\0\0'), 4
    for page in range(pages):
        at, size = len(out), pixels.nbytes
        out += pixels.tobytes() + bytes(size % 2)
        struct.pack_into('<I', out, link, len(out))
        kind, (height, width) = {'u': 1, 'i': 2, 'f': 3}[pixels.dtype.kind], pixels.shape
        tags = {254: subfile if page else 0, 256: width, 257: height}
        tags |= {258: pixels.itemsize * 8, 259: 1, 262: photometric, 273: at, 277: 1}
        tags |= {278: height, 279: size, 339: kind}
        out += struct.pack('<H', len(tags))
        for tag, value in tags.items():
            out += struct.pack('<HHII', tag, 4, 1, value)
        link = len(out)
        out += bytes(4)
    return ImageFile('.tif', bytes(out))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_tiff_of_every_depth(dtype):
    counts = (np.arange(20).reshape(4, 5) * 12).astype(dtype)
    image = decode_thermal(tiff_of(counts))
    np.testing.assert_array_equal(image, counts)
    assert image.dtype in (np.uint8, np.uint16, np.float32)


def test_tiff_whose_zero_is_white_is_inverted_at_every_depth():
    for dtype in np.uint8, np.uint16:
        counts = (np.arange(20).reshape(4, 5) * 12).astype(dtype)
        np.testing.assert_array_equal(
            decode_thermal(tiff_of(counts, photometric=0)), np.iinfo(dtype).max - counts
        )
    with pytest.raises(TpfError, match='lowest value is white'):
        decode_thermal(tiff_of(counts.astype(np.float32), photometric=0))


def test_tiff_of_several_pages_is_refused_but_a_thumbnail_is_none():
    counts = np.arange(20, dtype=np.uint16).reshape(4, 5)
    with pytest.raises(TpfError, match='TIFF of 3 images'):
        decode_thermal(tiff_of(counts, pages=3))
    np.testing.assert_array_equal(decode_thermal(tiff_of(counts, pages=2, subfile=1)), counts)


def test_encoding_of_arrays():
    grey = RGB[..., 0]
    assert encoding_of(RGB) == 'rgb8'
    assert encoding_of(grey) == 'mono8'
    assert encoding_of(grey.astype(np.uint16)) == 'mono16'
    assert encoding_of(grey.astype(np.float32)) == '32FC1'
    with pytest.raises(TpfError, match='float64'):
        encoding_of(grey.astype(np.float64))


@pytest.mark.parametrize('name', ENCODINGS)
def test_what_pixels_say_of_their_camera(name):
    grey = name in GREY
    want = 'grey' if grey else 'counts' if ENCODINGS[name].to_rgb == -1 else 'colour'
    assert looks_like(encoded(name)) == want


def test_grey_that_is_stored_in_colour_may_be_either_camera():
    grey = np.dstack([scene()[..., 0]] * 3)
    for stored, want in ((grey, 'grey'), (scene(), 'colour')):
        data = cv2.imencode('.jpg', stored)[1].tobytes()
        assert looks_like(SimpleNamespace(format='jpeg', data=data)) == want
    data = cv2.imencode('.png', grey.astype(np.uint16)[..., 0])[1].tobytes()
    assert looks_like(SimpleNamespace(format='mono16; png compressed ', data=data)) == 'counts'
    neutral = np.full((24, 32, 2), 128, np.uint8)  # a thermal camera by UVC
    assert looks_like(message(neutral, 'yuv422_yuy2')) == 'grey'
