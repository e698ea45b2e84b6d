"""A small recording with both cameras and ground truth."""

from pathlib import Path

import numpy as np
import pytest
from tpf_tracker_ros.bags.writer import BagWriter

START = 1_700_000_000_000_000_000
PERIOD = 33_333_333


@pytest.fixture
def write_bag(tmp_path):
    """
    Give a function (frames, name, cameras, compression, box) -> path of an mcap file.

    Frame i holds i in red and 7000 + i in thermal; thermal is 2 ms late; the box moves.
    """

    def write(
        frames=10,
        *,
        name='bag.mcap',
        cameras=('rgb', 'thermal'),
        compression=None,
        size=(64, 48),
        topics=None,
    ) -> Path:
        path = tmp_path / name
        topics = topics or {camera: f'/{camera}/image_raw' for camera in cameras}
        shape = size[::-1]
        with BagWriter(path) as bag:
            for index in range(frames):
                stamp = START + index * PERIOD
                if 'rgb' in topics:
                    rgb = np.zeros((*shape, 3), np.uint8)
                    rgb[..., 0] = index
                    bag.write_image(
                        topics['rgb'], rgb, stamp, frame_id='rgb', compression=compression
                    )
                if 'thermal' in topics:
                    bag.write_image(
                        topics['thermal'],
                        np.full(shape, 7000 + index, np.uint16),
                        stamp + 2_000_000,
                        frame_id='thermal',
                        compression=compression and 'png',
                    )
                box = None if index == 3 else np.array([index, 5, 20, 10])
                bag.write_box('/ground_truth', box, stamp, frame_id='rgb')
        return path

    return write
