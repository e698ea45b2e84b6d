import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair

RGB = np.zeros((40, 60, 3), np.uint8)
THERMAL = np.zeros((40, 60), np.uint16)


def test_size_and_modality():
    assert FramePair(RGB, THERMAL).size == (60, 40)
    assert FramePair(RGB, THERMAL).modality == 'rgb+thermal'
    assert FramePair(None, THERMAL).modality == 'thermal'
    assert FramePair(RGB, None).modality == 'rgb'
    events = FramePair(RGB, RGB)
    assert events.size == (60, 40) and events.modality == 'rgb+thermal'


@pytest.mark.parametrize(
    ('rgb', 'thermal', 'rule'),
    [
        (None, None, 'neither'),
        (RGB.astype(np.float32), None, 'must be uint8'),
        (RGB[..., 0], None, 'must be uint8'),
        (None, RGB.astype(np.uint16), 'must be uint8, uint16 or float32'),
        (None, THERMAL.astype(np.int32), 'must be uint8, uint16 or float32'),
        (RGB, THERMAL[:, :50], 'thermal image is 50x40 but rgb is 60x40 and no registration'),
    ],
)
def test_what_is_not_a_pair_is_refused(rgb, thermal, rule):
    with pytest.raises(TpfError, match=rule):
        FramePair(rgb, thermal)
