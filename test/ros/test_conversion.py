"""Image messages of every kind to frame pairs, and arrays to messages."""

import array
import time

import cv2
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.image_encoding import decode_rgb, decode_thermal, DECODERS
from tpf_tracker_ros.core.pairing import Paired
from tpf_tracker_ros.ros.conversion import Frame, PairConverter, to_image_message
from tpf_tracker_ros.ros.parameters import TABLE

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
COUNTS = np.random.default_rng(1).integers(7200, 7700, (12, 16)).astype(np.uint16)


def image(encoding, pixels, *, padding=0, big=False):
    """Return a message as a driver would fill it: rows padded, bytes in either order."""
    pixels = pixels.astype(pixels.dtype.newbyteorder('>' if big else '<'))
    rows = [row.tobytes() + b'\xaa' * padding for row in pixels]
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    message.step, message.is_bigendian = len(rows[0]), big
    message.data = array.array('B', b''.join(rows))
    return message


class Problems(list):
    """What the converter says of images that cannot be used."""

    def __call__(self, camera, problem):
        self.append((camera, problem))

    def only(self, camera):
        ((of, problem),) = self
        assert of == camera
        return problem


@pytest.mark.parametrize('padding', [0, 3, 8])
@pytest.mark.parametrize(
    ('encoding', 'pixels'),
    [
        ('rgb8', RGB),
        ('bgr8', RGB[..., ::-1]),
        ('rgba8', np.dstack([RGB, RGB[..., 0]])),
        ('bgra8', np.dstack([RGB[..., ::-1], RGB[..., 0]])),
        ('8UC3', RGB[..., ::-1]),
    ],
)
def test_colour_encodings_and_padded_rows(encoding, pixels, padding):
    assert np.array_equal(decode_rgb(image(encoding, pixels, padding=padding)), RGB)


@pytest.mark.parametrize('padding', [0, 3, 8])
@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize(
    ('encoding', 'pixels'),
    [
        ('mono8', RGB[..., 0]),
        ('8UC1', RGB[..., 1]),
        ('mono16', COUNTS),
        ('16UC1', COUNTS),
        ('32FC1', COUNTS.astype(np.float32) / 100 - 50),
    ],
)
def test_thermal_keeps_its_values_in_either_byte_order(encoding, pixels, padding, big):
    thermal = decode_thermal(image(encoding, pixels, padding=padding, big=big))
    assert thermal.dtype == pixels.dtype and np.array_equal(thermal, pixels)


def test_a_colour_mapped_thermal_image_becomes_its_luminance():
    ramp = np.tile(np.arange(0, 240, 15, dtype=np.uint8), (12, 1))
    hot = cv2.applyColorMap(ramp, cv2.COLORMAP_HOT)
    grey = decode_thermal(image('bgr8', hot))
    assert grey.shape == (12, 16) and (np.diff(grey[0].astype(int)) > 0).all()
    assert np.array_equal(grey, decode_thermal(image('rgb8', hot[..., ::-1])))


def test_event_images_keep_their_colours_where_the_model_takes_events():
    events = image('bgr8', RGB[..., ::-1])
    pair = PairConverter(values(), second='events').convert(paired(image('rgb8', RGB), events))
    assert np.array_equal(pair.thermal, RGB)
    assert PairConverter(values()).convert(paired(events, events)).thermal.ndim == 2
    with pytest.raises(TpfError, match="event image has encoding 'mono16'; it must be drawn"):
        DECODERS['events'](image('mono16', COUNTS))


def test_depth_becomes_millimetres_and_8_bits_of_it_are_refused():
    decode = DECODERS['depth']
    assert np.array_equal(decode(image('16UC1', COUNTS)), COUNTS)
    metres = image('32FC1', np.array([[7.25, np.nan]], np.float32))  # REP 118
    np.testing.assert_array_equal(decode(metres), [[7250, np.nan]])
    with pytest.raises(TpfError, match='depth image has 8 bits a pixel; it must be mm, in 16'):
        decode(image('mono8', RGB[..., 0]))


def test_grey_is_accepted_as_rgb():
    assert np.array_equal(decode_rgb(image('mono8', RGB[..., 0])), RGB[..., [0, 0, 0]])


@pytest.mark.parametrize(
    ('pixels', 'read'),
    [(RGB[..., ::-1], decode_rgb), (COUNTS, decode_thermal), (RGB[..., 0], decode_thermal)],
)
def test_a_png_is_read_without_loss(pixels, read):
    data = cv2.imencode('.png', pixels)[1].tobytes()
    decoded = read(CompressedImage(format='png', data=array.array('B', data)))
    expected = RGB if pixels.ndim == 3 else pixels
    assert decoded.dtype == expected.dtype and np.array_equal(decoded, expected)


def test_compressed_depth_is_a_png_behind_a_header():
    data = b'\0' * 12 + cv2.imencode('.png', COUNTS)[1].tobytes()
    message = CompressedImage(format='16UC1; compressedDepth png', data=array.array('B', data))
    assert np.array_equal(decode_thermal(message), COUNTS)
    message.format = '32FC1; compressedDepth png'
    with pytest.raises(TpfError, match='publish 16UC1'):
        decode_thermal(message)


def test_a_jpeg_is_read():
    smooth = cv2.resize(RGB[:2, :2], (64, 48))
    data = cv2.imencode('.jpg', smooth[..., ::-1])[1].tobytes()
    message = CompressedImage(format='rgb8; jpeg compressed bgr8', data=array.array('B', data))
    assert np.abs(decode_rgb(message).astype(int) - smooth).mean() < 5


def test_what_cannot_be_read_is_refused_by_name():
    with pytest.raises(TpfError, match='nv24'):
        decode_rgb(image('nv24', RGB[..., :2]))
    with pytest.raises(TpfError, match=r"'mono16'.*swapped"):
        decode_rgb(image('mono16', COUNTS))
    for data in (b'', b'\x89PNG\r\n\x1a\n broken'):
        with pytest.raises(TpfError, match='cannot be decoded'):
            decode_rgb(CompressedImage(format='png', data=array.array('B', data)))


@given(
    height=st.integers(0, 2**32 - 1),
    width=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**32 - 1),
    length=st.integers(0, 64),
    encoding=st.sampled_from(['rgb8', 'mono8', 'mono16', '32FC1', 'bgra8', '']),
)
def test_headers_that_lie_never_crash(height, width, step, length, encoding):
    message = Image(height=height, width=width, step=step, encoding=encoding)
    message.data = array.array('B', bytes(length))
    for read in (decode_rgb, decode_thermal):
        try:
            shape = read(message).shape[:2]
        except TpfError:
            continue
        assert shape == (height, width) and length >= step * (height - 1) + width


def test_a_truncated_image_is_refused():
    message = image('mono16', COUNTS)
    message.data = message.data[:-10]
    with pytest.raises(TpfError, match='16x12'):
        decode_thermal(message)


@pytest.mark.parametrize('pixels', [RGB, RGB[..., 0], COUNTS, COUNTS.astype(np.float32)])
def test_messages_come_back_as_they_went(pixels):
    header = Header(frame_id='camera')
    message = to_image_message(pixels, header)
    assert message.header == header
    assert message.step * message.height == len(message.data)
    read = decode_rgb if pixels.ndim == 3 else decode_thermal
    assert np.array_equal(read(message), pixels)
    assert np.array_equal(read(to_image_message(pixels[::-1, ::-1], header)), pixels[::-1, ::-1])


def test_reading_and_writing_copy_nothing_byte_by_byte():
    """The slow ways take 26 to 81 ms for this image."""
    pixels = np.zeros((512, 640, 3), np.uint8)
    took = []
    for _ in range(10):
        start = time.perf_counter()
        decode_rgb(to_image_message(pixels, Header()))
        took.append(time.perf_counter() - start)
    assert min(took) < 0.01


# ---- pairs ----


def values(**changes):
    return {**{name: row.default for name, row in TABLE.items()}, **changes}


def paired(rgb=None, thermal=None):
    frames = [None if m is None else Frame(m, 0.0) for m in (rgb, thermal)]
    return Paired(*frames, stamp=7, skew=None, epoch=0)


def info(width, height, focal):
    return CameraInfo(
        width=width, height=height, distortion_model='plumb_bob', d=[0.0] * 5,
        k=[focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0],
    )  # fmt: skip


def test_a_pair_of_one_size_needs_no_registration():
    pair = PairConverter(values()).convert(paired(image('rgb8', RGB), image('mono16', COUNTS)))
    assert np.array_equal(pair.rgb, RGB) and np.array_equal(pair.thermal, COUNTS)
    assert (pair.stamp, pair.modality) == (7, 'rgb+thermal')


def test_swapped_topics_are_suspected_when_both_are_8_bit():
    converter = PairConverter(values())
    converter.convert(paired(image('mono8', RGB[..., 0]), image('rgb8', RGB)))
    assert 'swapped' in converter.warning
    converter.convert(paired(image('rgb8', RGB), image('mono8', RGB[..., 0])))
    assert converter.warning is None


def test_different_sizes_without_registration_are_refused():
    small = paired(image('rgb8', RGB), image('mono16', COUNTS[:6]))
    problems = Problems()
    converter = PairConverter(values(), problems)
    assert converter.convert(small).modality == 'rgb'
    assert '16x6 but rgb is 16x12 and no registration' in problems.only('thermal')
    # The RGB camera dies: what does not fit its grid still does not.
    with pytest.raises(TpfError, match='no registration'):
        converter.convert(paired(None, small.thermal.message))


@pytest.mark.parametrize(
    ('rgb', 'thermal', 'camera', 'words', 'modality'),
    [
        (image('rgb8', RGB), image('32SC1', COUNTS), 'thermal', "encoding '32SC1'", 'rgb'),
        (image('rgb32', COUNTS), image('mono16', COUNTS), 'rgb', "encoding 'rgb32'", 'thermal'),
        (Image(height=12, width=16, encoding='rgb8', step=48), image('mono16', COUNTS), 'rgb',
         '0 bytes of data', 'thermal'),
    ],
)  # fmt: skip
def test_the_pair_goes_on_with_the_image_that_can_be_read(rgb, thermal, camera, words, modality):
    problems = Problems()
    pair = PairConverter(values(), problems).convert(paired(rgb, thermal))
    assert pair.modality == modality and words in problems.only(camera)


def test_a_homography_brings_thermal_to_the_rgb_grid_also_without_rgb():
    double = [2.0, 0, 0, 0, 2.0, 0, 0, 0, 1.0]
    converter = PairConverter(values(**{'registration.homography': double}))
    small = image('mono16', COUNTS[:6, :8])
    both = converter.convert(paired(image('rgb8', RGB), small))
    assert np.array_equal(both.thermal[::2, ::2], COUNTS[:6, :8])
    alone = converter.convert(paired(None, small))  # the RGB camera has died
    assert np.array_equal(alone.thermal, both.thermal)


def test_camera_info_registers_once_it_is_there():
    problems = Problems()
    converter = PairConverter(values(**{'registration.method': 'calibration'}), problems)
    frames = paired(image('rgb8', RGB), image('mono16', COUNTS[:6, :8]))
    assert converter.convert(frames).modality == 'rgb'
    assert 'thermal/camera_info and rgb/camera_info' in problems.only('thermal')
    converter.take_info('rgb', info(16, 12, 20.0))
    converter.take_info('thermal', info(8, 6, 10.0))
    assert np.array_equal(converter.convert(frames).thermal[::2, ::2], COUNTS[:6, :8])
    converter.take_info('thermal', info(8, 6, 5.0))  # twice the field of view
    assert converter.convert(frames).thermal[2, 4] == COUNTS[2, 3]
    converter.take_info('thermal', CameraInfo(width=8, height=6))
    assert converter.convert(frames).modality == 'rgb'
    assert 'not calibrated' in problems.pop()[1]


def test_the_bearing_points_through_the_centre_of_the_box():
    converter = PairConverter(values())
    box = np.array([420.0, 240, 120, 32])  # centre 160 px right of the principal point
    assert converter.bearing(box, (640, 512)) is None
    converter.take_info('rgb', info(640, 512, 160.0))
    assert np.allclose(converter.bearing(box, (640, 512)), [0.5**0.5, 0, 0.5**0.5])
    converter.take_info('rgb', CameraInfo())
    assert converter.bearing(box, (640, 512)) is None
