"""The description of a bag names what a user looks for when tracking does not start."""

import re

import numpy as np
from tpf_tracker_ros.bags.info import describe
from tpf_tracker_ros.bags.writer import BagWriter

START = 1_700_000_000_000_000_000
IMAGE = np.zeros((8, 8, 3), np.uint8)


def test_rates_pairs_skew_and_ground_truth(write_bag):
    text = describe(write_bag(10))
    assert '30 messages in 0.30 s from 2023-11-14T22:13:20.000 UTC' in text
    assert re.search(r'/rgb/image_raw +sensor_msgs/msg/Image +10 +30 +0 +33 ms', text)
    assert 'would be tracked: rgb /rgb/image_raw, thermal /thermal/image_raw' in text
    assert '10 pairs within 15 ms' in text
    assert 'ground truth for 9 of 10 pairs' in text
    assert 'median 2.00 ms' in text and re.search(r'2\.00 \.\. +2\.10 ms  #{40} 10', text)


def test_gaps_and_frames_without_partner(tmp_path):
    with BagWriter(tmp_path / 'a.mcap') as bag:
        for index in range(40):
            stamp = START + index * 50_000_000
            if index not in (10, 20, 21):
                bag.write_image('/rgb', IMAGE, stamp, frame_id='rgb')
            skew = round(3e6 * np.sin(index))
            bag.write_image('/thermal', IMAGE[..., 0], stamp + skew, frame_id='thermal')
    text = describe(tmp_path / 'a.mcap')
    assert re.search(r'/rgb +sensor_msgs/msg/Image +37 +20 +2 +150 ms', text)
    assert '37 pairs' in text and 'thermal: 3 without a partner' in text
    bars = [int(line.split()[-1]) for line in text.splitlines() if ' .. ' in line]
    assert sum(bars) == 37 and 8 <= len(bars) <= 12


def test_what_cannot_be_tracked_is_described_all_the_same(shared_data):
    text = describe(shared_data / 'bags/rosbag2_py/test/resources/mcap/talker')
    assert re.search(r'/topic +std_msgs/msg/String +10', text)
    assert 'cannot be tracked:' in text and 'has no images' in text
