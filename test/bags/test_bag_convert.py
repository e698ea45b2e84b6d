"""Sequences survive the way into a bag or a folder: depth, stamps, gaps, ground truth."""

import cv2
import numpy as np
import pytest
from tpf_tracker_ros.bags.convert import sequence_to_bag, sequence_to_folder
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.data.media import MediaSequence

RGB = np.full((16, 24, 3), (10, 20, 30), np.uint8)


class Listed:
    """A Sequence of given pairs."""

    name = 'listed'

    def __init__(self, pairs, ground_truth=None):
        self.pairs, self.ground_truth = pairs, ground_truth

    def __len__(self):
        return len(self.pairs)

    def __iter__(self):
        return iter(self.pairs)


def pairs_of(dtype, start=0):
    thermal = np.arange(16 * 24).reshape(16, 24)
    return [FramePair(RGB, (thermal + i).astype(dtype), start + i * 10**8) for i in range(3)]


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('compression', [None, 'jpeg', 'png'])
def test_every_depth_and_compression(tmp_path, dtype, compression):
    path = tmp_path / 'a.mcap'
    sequence_to_bag(Listed(pairs_of(dtype)), path, compression=compression)
    bag = BagSequence(path)
    raw_thermal = compression is None or dtype == np.float32
    assert bag.topics == {
        'rgb': '/rgb/image_raw' + ('/compressed' if compression else ''),
        'thermal': '/thermal/image_raw' + ('' if raw_thermal else '/compressed'),
    }
    for before, after in zip(pairs_of(dtype), bag):
        assert after.thermal.dtype == dtype
        if dtype != np.uint8 or compression != 'jpeg':
            np.testing.assert_array_equal(before.thermal, after.thermal)


def test_stamps_are_kept_unless_they_begin_at_zero(tmp_path):
    sequence_to_bag(Listed(pairs_of(np.uint8, start=77)), tmp_path / 'a.mcap')
    assert BagSequence(tmp_path / 'a.mcap').stamps == [77, 77 + 10**8, 77 + 2 * 10**8]
    sequence_to_bag(Listed(pairs_of(np.uint8)), tmp_path / 'b.mcap')
    stamps = BagSequence(tmp_path / 'b.mcap').stamps
    assert stamps[0] > 10**18 and np.diff(stamps).tolist() == [10**8] * 2


def test_folder_is_black_where_a_camera_is_missing(tmp_path):
    both = pairs_of(np.float32)
    late = FramePair(RGB, None, 0)
    dark = FramePair(None, both[2].thermal, 5)
    truth = np.array([[1, 2, 3.5, 4], [np.nan] * 4, [5, 6, 7, 8]])
    sequence_to_folder(Listed([late, both[1], dark], truth), tmp_path / 'folder')
    folder = MediaSequence(tmp_path / 'folder/visible', tmp_path / 'folder/infrared')
    first, second, third = folder
    assert not first.thermal.any() and not third.rgb.any()
    np.testing.assert_array_equal(first.rgb, RGB)
    np.testing.assert_array_equal(second.thermal, both[1].thermal)
    for name in 'init', 'visible', 'infrared':
        text = (tmp_path / f'folder/{name}.txt').read_text()
        assert text == '1,2,3.5,4\n0,0,0,0\n5,6,7,8\n'
    assert (tmp_path / 'folder/timestamps.txt').read_text() == f'0\n{10**8}\n5\n'
    assert cv2.imread(str(tmp_path / 'folder/infrared/000001.tiff'), -1).dtype == np.float32
