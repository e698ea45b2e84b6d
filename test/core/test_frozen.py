import numpy as np
import pytest
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.frozen import FrozenWatch

PERIOD = 33_333_333  # ns


def film(count, stands, dtype=np.uint16):
    """Noise, but for the cameras that stand still."""
    rng = np.random.default_rng(0)
    images = {}
    for index in range(count):
        for name, shape, kind in (('rgb', (48, 64, 3), np.uint8), ('thermal', (48, 64), dtype)):
            if name not in images or name not in stands:
                images[name] = rng.integers(0, 200, shape).astype(kind)
                if dtype == np.float32 and name == 'thermal':
                    images[name][0] = np.nan
        yield FramePair(images['rgb'], images['thermal'], index * PERIOD)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('camera', ['rgb', 'thermal'])
def test_a_camera_is_frozen_after_the_limit_while_the_other_one_moves(camera, dtype):
    watch = FrozenWatch()
    told = [watch.judge(pair, 400) for pair in film(30, [camera], dtype)]
    assert told == [''] * 13 + [camera] * 17  # 12 periods are 400 ms


@pytest.mark.parametrize('stands', [[], ['rgb', 'thermal']])
def test_cameras_that_both_move_or_both_look_at_stillness_are_not_frozen(stands):
    watch = FrozenWatch()
    assert not any(watch.judge(pair, 400) for pair in film(40, stands))


def test_it_is_over_with_the_first_other_image_and_begins_anew_with_time():
    watch = FrozenWatch()
    pairs = list(film(30, ['thermal']))
    assert [watch.judge(pair, 400) for pair in pairs][-1] == 'thermal'
    moved = FramePair(pairs[-1].rgb, pairs[-1].thermal + 1, 30 * PERIOD)
    assert watch.judge(moved, 400) == ''
    assert [watch.judge(pair, 400) for pair in pairs[:13]] == [''] * 13


def test_zero_switches_it_off():
    watch = FrozenWatch()
    assert not any(watch.judge(pair, 0) for pair in film(30, ['thermal']))
