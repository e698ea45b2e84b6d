"""What is written comes back, in any reader, and stays readable when writing fails."""

import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from tpf_tracker_ros.bags.storage import Bag
from tpf_tracker_ros.bags.typestore import box_of
from tpf_tracker_ros.bags.writer import BagWriter
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.image_encoding import decode_rgb, decode_thermal

STAMP = 1_700_000_000_123_456_789
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (48, 64, 3), dtype=np.uint8)
THERMAL = {
    'mono8': RGB[..., 0],
    'mono16': RANDOM.integers(0, 65536, (48, 64), dtype=np.uint16),
    '32FC1': RANDOM.random((48, 64), dtype=np.float32),
}


def only_message(path):
    bag = Bag(path)
    (message,) = bag.messages()
    return message, bag.decode(message)


@pytest.mark.parametrize('encoding', THERMAL)
def test_thermal_image_comes_back(tmp_path, encoding):
    with BagWriter(tmp_path / 'a.mcap') as bag:
        bag.write_image('/thermal', THERMAL[encoding], STAMP, frame_id='lwir')
    message, image = only_message(tmp_path / 'a.mcap')
    assert (message.topic, message.time) == ('/thermal', STAMP)
    assert (image.header.stamp.sec, image.header.stamp.nanosec) == divmod(STAMP, 10**9)
    assert (image.header.frame_id, image.encoding) == ('lwir', encoding)
    np.testing.assert_array_equal(decode_thermal(image), THERMAL[encoding])


def test_flipped_image_comes_back(tmp_path):
    with BagWriter(tmp_path / 'a.mcap') as bag:
        bag.write_image('/rgb', RGB[:, ::-1], STAMP, frame_id='rgb')
    np.testing.assert_array_equal(decode_rgb(only_message(tmp_path / 'a.mcap')[1]), RGB[:, ::-1])


def test_compressed_images(tmp_path):
    smooth = np.full((48, 64, 3), (200, 100, 50), np.uint8)
    with BagWriter(tmp_path / 'a.mcap') as bag:
        bag.write_image('/rgb', smooth, STAMP, frame_id='rgb', compression='jpeg')
        bag.write_image('/ir', THERMAL['mono16'], STAMP, frame_id='ir', compression='png')
        for encoding, compression in ('mono16', 'jpeg'), ('32FC1', 'png'), ('mono8', 'gif'):
            with pytest.raises(TpfError, match=compression):
                bag.write_image(
                    '/ir', THERMAL[encoding], STAMP, frame_id='ir', compression=compression
                )
    bag = Bag(tmp_path / 'a.mcap')
    images = {message.topic: bag.decode(message) for message in bag.messages()}
    assert images['/rgb/compressed'].format == 'rgb8; jpeg compressed bgr8'
    assert np.abs(decode_rgb(images['/rgb/compressed']) - smooth.astype(int)).max() < 8
    np.testing.assert_array_equal(decode_thermal(images['/ir/compressed']), THERMAL['mono16'])


def test_boxes_are_detections_with_a_centre(tmp_path):
    box = np.array([10.5, 20, 30, 40.25])
    with BagWriter(tmp_path / 'a.mcap') as bag:
        bag.write_box('/gt', box, STAMP, frame_id='rgb')
        bag.write_box('/gt', None, STAMP + 1, frame_id='rgb')
        bag.write_box('/gt', np.full(4, np.nan), STAMP + 2, frame_id='rgb')
    bag = Bag(tmp_path / 'a.mcap')
    first, *absent = (bag.decode(message) for message in bag.messages())
    (detection,) = first.detections
    assert detection.bbox.center.position.x == 25.5 and detection.bbox.size_y == 40.25
    assert (detection.id, detection.results[0].hypothesis.score) == ('target', 1.0)
    assert first.header == detection.header
    np.testing.assert_array_equal(box_of(detection), box)
    assert [message.detections for message in absent] == [[], []]


def test_camera_info(tmp_path):
    with BagWriter(tmp_path / 'a.mcap') as bag:
        bag.write_camera_info('/c', (64, 48), STAMP, frame_id='rgb')
    info = only_message(tmp_path / 'a.mcap')[1]
    assert (info.width, info.height, info.distortion_model) == (64, 48, '')
    assert not info.k.any()  # uncalibrated


def test_existing_file_is_kept_unless_told(tmp_path, write_bag):
    path = write_bag(2)
    before = path.read_bytes()
    with pytest.raises(TpfError, match=r'bag\.mcap exists'):
        BagWriter(path)
    assert path.read_bytes() == before
    with BagWriter(path, overwrite=True) as bag:
        bag.write_box('/gt', None, STAMP, frame_id='rgb')
    assert len(list(Bag(path).messages())) == 1
    assert list(tmp_path.iterdir()) == [path], 'nothing else is left lying about'


def test_bag_is_complete_after_an_exception(tmp_path):
    with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / 'a.mcap') as bag:
        bag.write_image('/rgb', RGB, STAMP, frame_id='rgb')
        raise KeyboardInterrupt
    with Reader(tmp_path / 'a.mcap') as reader:
        assert reader.message_count == 1


# In the middle of a chunk, and within the index at the end.
@pytest.mark.parametrize('limit', [3_000_000, 9_510_000])
def test_full_disk_leaves_a_bag_that_any_reader_opens(tmp_path, file_size_limit, limit):
    path = tmp_path / 'full.mcap'
    image = RANDOM.integers(0, 256, (320, 320, 3), dtype=np.uint8)
    told = pytest.raises(TpfError, match=r'full\.mcap: .*stays readable')
    with file_size_limit(limit), told, BagWriter(path) as bag:
        for index in range(31):
            bag.write_image('/rgb', image, STAMP + index, frame_id='rgb')
    with Reader(path) as reader:
        kept = [message for _, _, message in reader.messages()]
    assert len(kept) >= limit // image.nbytes - 5
    assert path.stat().st_size <= limit


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    path = tmp_path / 'file' / 'a.mcap'
    with pytest.raises(TpfError, match=r'cannot write .*file'), BagWriter(path):
        pass
