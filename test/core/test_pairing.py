"""Pairing by time: what a dropped frame, jitter, an offset, a loop or a dead camera may cost."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.pairing import FramePairer

MS = 1_000_000
PERIOD = 33_333_333


def feed(pairer, frames):
    """frames: (arrival, stream, stamp); payload = (stream, stamp)."""
    pairs = []
    for _, stream, stamp in sorted(frames):
        pairs += pairer.add(stream, stamp, (stream, stamp))
    return pairs


def stream(name, indices, *, skew=0, jitter=None, delay=None, rng=None, start=10**18):
    """Frames at their index times a period, arriving in order with a random delay."""
    frames, arrival = [], 0
    for index in indices:
        stamp = start + index * PERIOD + skew
        stamp += rng.randint(-jitter, jitter) if jitter else 0
        arrival = max(arrival, stamp + (rng.randint(0, delay) if delay else 0))
        frames.append((arrival, name, stamp))
    return frames


def indices_of(pairs, start=10**18):
    return [
        tuple(None if p is None else round((p[1] - start) / PERIOD) for p in (a.rgb, a.thermal))
        for a in pairs
    ]


def brute_force(rgb, thermal, slop):
    """Mutual nearest neighbours within slop, seen all at once."""
    pairs = []
    for r in rgb:
        t = min(thermal, key=lambda x: abs(x - r))
        if abs(t - r) <= slop and min(rgb, key=lambda x: abs(x - t)) == r:
            pairs.append((r, t))
    return pairs


@pytest.mark.parametrize('period', [200, 310, 500, 2000, 3000])  # ms
@pytest.mark.parametrize('skew', [0, 3, -3])
def test_cameras_slower_than_the_timeout_lose_no_pair(period, skew):
    pairer = FramePairer(camera_timeout_ns=300 * MS)
    pairs = []
    for index in range(30):
        frames = [('rgb', index * period * MS), ('thermal', (index * period + skew) * MS)]
        for stream, stamp in sorted(frames, key=lambda frame: frame[1]):
            pairs += pairer.add(stream, stamp + 10**9, index)
    pairs += pairer.flush()
    assert [(pair.rgb, pair.thermal) for pair in pairs] == [(i, i) for i in range(30)]


def test_a_slow_camera_that_died_is_given_up_after_one_more_frame():
    pairer = FramePairer()
    for index in range(10):
        pairer.add('rgb', index * 500 * MS, index)
        pairer.add('thermal', index * 500 * MS, index)
    alone = [len(pairer.add('rgb', index * 500 * MS, index)) for index in range(10, 14)]
    assert alone == [0, 2, 1, 1]


def test_one_dropped_frame_never_shifts_the_others():
    for slop in (1, 15, 34, 50, 100):
        pairer = FramePairer(slop_ns=slop * MS)
        rgb = stream('rgb', [i for i in range(60) if i != 20])
        pairs = feed(pairer, rgb + stream('thermal', range(60), skew=1000)) + pairer.flush()
        assert indices_of(pairs) == [(i, i) for i in range(60) if i != 20]
        assert pairer.unpaired == {'rgb': 0, 'thermal': 1}
        assert {p.skew for p in pairs} == {1000}


@given(
    seed=st.integers(0, 2**32),
    drops=st.tuples(st.sets(st.integers(0, 79)), st.sets(st.integers(0, 79))),
    skew=st.integers(-8, 8),
    jitter=st.integers(0, 2 * MS),
    slop=st.integers(12, 60),
)
def test_pairs_are_mutual_nearest_neighbours_however_they_arrive(seed, drops, skew, jitter, slop):
    rng = random.Random(seed)
    kept = [[i for i in range(80) if i not in dropped] for dropped in drops]
    rgb = stream('rgb', kept[0], jitter=jitter, delay=60 * MS, rng=rng)
    thermal = stream('thermal', kept[1], skew=skew * MS, jitter=jitter, delay=60 * MS, rng=rng)
    # A timeout that no drop reaches: cameras are not dead here.
    pairer = FramePairer(slop_ns=slop * MS, camera_timeout_ns=10**10, depth=100)
    pairs = feed(pairer, rgb + thermal) + pairer.flush()
    seen = [(pair.rgb[1], pair.thermal[1]) for pair in pairs]
    common = [i for i in kept[0] if i in kept[1]]
    assert [index for index in indices_of(pairs) if index[0] == index[1]] == [
        (i, i) for i in common
    ]
    if rgb and thermal and 2 * slop * MS < PERIOD - 2 * jitter:
        assert seen == brute_force([f[2] for f in rgb], [f[2] for f in thermal], slop * MS)
    assert pairer.paired == len(pairs)
    assert sum(pairer.unpaired.values()) == len(rgb) + len(thermal) - 2 * len(pairs)


@given(
    frames=st.lists(
        st.tuples(st.sampled_from(['rgb', 'thermal']), st.integers(-(10**10), 10**10)),
        max_size=120,
    ),
    slop=st.integers(0, 10**9),
    offset=st.integers(-(10**9), 10**9),
)
def test_anything_may_arrive(frames, slop, offset):
    """Bounded, monotonic within an epoch, no frame twice, every frame accounted for."""
    pairer = FramePairer(slop_ns=slop, thermal_offset_ns=offset, depth=5)
    pairs, used = [], []
    for number, (name, stamp) in enumerate(frames):
        pairs += pairer.add(name, stamp, (number, name, stamp))
        assert all(len(s.queue) <= 5 for s in pairer.streams.values())
    pairs += pairer.flush()
    for pair in pairs:
        members = [m for m in (pair.rgb, pair.thermal) if m is not None]
        used += members
        if len(members) == 2:
            skew = pair.thermal[2] + offset - pair.rgb[2]
            assert pair.skew == skew and abs(skew) <= slop
    assert len(set(used)) == len(used)
    lost = sum(pairer.late.values()) + sum(pairer.unpaired.values())
    assert len(used) + lost == len(frames)
    for before, after in itertools.pairwise(pairs):
        assert after.epoch >= before.epoch
        if after.epoch == before.epoch:
            times = [p.stamp + (offset if p.rgb is None else 0) for p in (before, after)]
            assert times[0] < times[1]


def test_zero_slop_pairs_equal_stamps():
    pairer = FramePairer(slop_ns=0)
    pairs = feed(pairer, stream('rgb', range(5)) + stream('thermal', range(5)))
    assert indices_of(pairs) == [(i, i) for i in range(5)]


def test_a_pair_comes_out_with_its_second_frame():
    pairer = FramePairer()
    feed(pairer, stream('rgb', range(5)) + stream('thermal', range(5), skew=8 * MS))
    assert pairer.add('rgb', 10**18 + 5 * PERIOD, 'r') == []
    (pair,) = pairer.add('thermal', 10**18 + 5 * PERIOD + 8 * MS, 't')
    assert (pair.rgb, pair.thermal, pair.stamp) == ('r', 't', 10**18 + 5 * PERIOD)


def test_constant_offset_is_taken_out():
    pairer = FramePairer(slop_ns=5 * MS, thermal_offset_ns=-80 * MS)
    pairs = feed(pairer, stream('rgb', range(20)) + stream('thermal', range(20), skew=81 * MS))
    assert indices_of(pairs)[:10] == [(i, i + 2) for i in range(10)]
    assert set(pairer.skews) == {MS}


def test_two_rates_pair_at_the_slower_one():
    pairer = FramePairer()
    rgb, thermal = stream('rgb', range(60)), stream('thermal', range(0, 60, 2), skew=3 * MS)
    pairs = feed(pairer, rgb + thermal) + pairer.flush()
    assert indices_of(pairs) == [(i, i) for i in range(0, 60, 2)]


@pytest.mark.parametrize('late_thermal', [0, 1, 3])
def test_a_bag_loop_starts_a_new_epoch_once(late_thermal):
    """Also when frames of the old round of one camera arrive after the jump of the other."""
    pairer = FramePairer()
    order = [('rgb', i) for i in range(30)] + [('thermal', i) for i in range(30)]
    order.sort(key=lambda f: (f[1], f[0]))
    once = [(name, 10**18 + i * PERIOD) for name, i in order]
    kept = 30 - late_thermal
    moved = [f for f in once if f[0] == 'thermal'][kept:]
    first = [f for f in once if f not in moved]
    frames = first + once[:1] + moved + once[1:] + once
    pairs = [p for f in frames for p in pairer.add(*f, f)] + pairer.flush()
    assert indices_of([p for p in pairs if p.epoch == 1]) == [(i, i) for i in range(30)]
    assert indices_of([p for p in pairs if p.epoch == 2]) == [(i, i) for i in range(30)]
    assert pairer.epoch == 2 and len(pairs) == 90 - late_thermal


@pytest.mark.parametrize('frames', [2, 5, 12])
def test_a_very_short_loop_still_gives_pairs(frames):
    pairer = FramePairer()
    pairs = []
    for _ in range(100):
        for f in sorted(stream('rgb', range(frames)) + stream('thermal', range(frames), skew=7)):
            pairs += pairer.add(*f[1:], f[1:])
    assert len(pairs) > frames * 5 and pairs[-1].epoch > 1


def test_one_camera_dies_and_comes_back():
    pairer = FramePairer()
    rgb = stream('rgb', [i for i in range(150) if not 50 <= i < 100], skew=2 * MS)
    pairs = indices_of(feed(pairer, rgb + stream('thermal', range(150))))
    assert pairs[:50] == [(i, i) for i in range(50)]
    assert pairs[50:100] == [(None, i) for i in range(50, 100)]
    # The first frame of the camera that is back meets a partner that has gone out alone.
    assert pairs[100:] == [(None, 100)] + [(i, i) for i in range(101, 150)]
    assert pairer.epoch == 0 and pairer.unpaired == {'rgb': 1, 'thermal': 0}


def test_a_camera_that_never_starts():
    pairs = indices_of(feed(FramePairer(), stream('rgb', range(40))))
    assert pairs == [(i, None) for i in range(40)]


def test_a_dead_camera_with_a_clock_ahead_does_not_block_the_other():
    pairer = FramePairer()
    feed(pairer, stream('thermal', range(40), start=2 * 10**18))
    pairs = feed(pairer, stream('rgb', range(100)))
    assert len(pairs) > 50 and pairs[-1].thermal is None


def test_late_and_double_frames_are_dropped():
    pairer = FramePairer()
    stamps = [0, 33, 66, 66, 50, 100]
    pairs = [p for s in stamps for n in ('rgb', 'thermal') for p in pairer.add(n, s * MS, s)]
    assert [p.rgb for p in pairs] == [0, 33, 66, 100]
    assert pairer.late == {'rgb': 2, 'thermal': 2}


def test_one_camera_mode_emits_every_frame_at_once():
    pairer = FramePairer(mode='thermal')
    pairs = [pairer.add('thermal', i * PERIOD, i) for i in range(5)]
    assert [(p.rgb, p.thermal, p.skew) for (p,) in pairs] == [(None, i, None) for i in range(5)]


def test_warns_when_slop_cannot_tell_neighbours_apart():
    pairer = FramePairer(slop_ns=40 * MS)
    assert pairer.warning is None
    feed(pairer, stream('rgb', range(10)) + stream('thermal', range(10)))
    assert 'set slop_ms to 16.7' in pairer.warning
    pairer.slop_ns = 15 * MS
    assert pairer.warning is None


def test_jitter_does_not_make_the_default_slop_too_wide():
    pairer, rng = FramePairer(), random.Random(1)
    for frame in sorted(
        stream('rgb', range(300), jitter=6 * MS, rng=rng)
        + stream('thermal', range(300), jitter=6 * MS, rng=rng)
    ):
        pairer.add(*frame[1:], None)
        assert pairer.warning is None


def test_both_cameras_pause_and_come_back_as_a_pair():
    indices = [i for i in range(90) if not 40 <= i < 70]
    pairs = feed(FramePairer(), stream('rgb', indices) + stream('thermal', indices, skew=5 * MS))
    assert indices_of(pairs) == [(i, i) for i in indices]


def test_one_camera_stays_dead_after_a_pause_of_both():
    rgb = stream('rgb', [i for i in range(90) if not 40 <= i < 70])
    pairs = indices_of(feed(FramePairer(), rgb + stream('thermal', range(40))))
    assert pairs[40:] == [(i, None) for i in range(70, 90)]


def by_arrival(pairer, frames):
    """frames: (arrival, stream, stamp)."""
    pairs = []
    for arrival, name, stamp in sorted(frames):
        pairs += pairer.add(name, stamp, (name, arrival), arrival_ns=arrival)
    return pairs


@pytest.mark.parametrize('dead', [('rgb', 'thermal'), ('thermal',)])
def test_zero_stamps_are_paired_by_arrival(dead):
    pairer = FramePairer()
    frames = stream('rgb', range(60)) + stream('thermal', range(60), skew=4 * MS)
    pairs = by_arrival(pairer, [(a, n, 0 if n in dead else s) for a, n, s in frames])
    assert indices_of(pairs[-58:]) == [(i, i) for i in range(60)][-58:]
    assert pairer.epoch <= 1 and f'the stamps of the {" and ".join(dead)}' in pairer.warning


def test_a_clock_that_stands_still_is_no_loop_and_may_run_again():
    pairer = FramePairer()
    frames = stream('rgb', range(200)) + stream('thermal', range(200), skew=MS)
    stands = 10**18 + 60 * PERIOD
    frames = [
        (a, n, stands if n == 'thermal' and 60 <= (a - 10**18) / PERIOD < 140 else s)
        for a, n, s in frames
    ]
    pairs = by_arrival(pairer, frames)
    assert pairer.epoch == 2 and pairer.warning is None  # to arrival and back
    assert len(pairs) > 185 and {r - t for r, t in indices_of(pairs)} == {0}


def test_hold_gives_each_rgb_frame_the_newest_thermal_one():
    pairer = FramePairer(policy='hold', hold_ns=150 * MS)
    rgb, thermal = stream('rgb', range(60)), stream('thermal', range(0, 40, 4), skew=-2 * MS)
    pairs = indices_of(feed(pairer, rgb + thermal))
    assert pairs[:40] == [(i, i - i % 4) for i in range(40)]
    assert pairs[40:] == [(40, 36)] + [(i, None) for i in range(41, 60)]  # too old
    assert pairer.warning is None and max(map(abs, pairer.skews)) < 150 * MS


def test_hold_waits_for_the_first_thermal_frame_and_goes_on_without_rgb():
    pairer = FramePairer(policy='hold')
    rgb, thermal = stream('rgb', range(4)), stream('thermal', range(3, 60, 4), skew=-MS)
    pairs = indices_of(feed(pairer, rgb + thermal))
    assert pairs[:4] == [(i, 3) for i in range(4)] and pairs[-1] == (None, 59)


def test_half_a_period_apart_is_reported_with_the_offset_to_set():
    pairer = FramePairer(slop_ns=10 * MS)
    feed(pairer, stream('rgb', range(100)) + stream('thermal', range(100), skew=14 * MS))
    assert '100% of the rgb images find no partner within slop_ms 10' in pairer.warning
    assert 'set thermal_offset_ms to -14.0' in pairer.warning


def test_a_slow_thermal_camera_is_reported_with_the_policy_to_choose():
    pairer = FramePairer()
    feed(pairer, stream('rgb', range(200)) + stream('thermal', range(0, 200, 4), skew=MS))
    assert 'rgb comes at 30.0 Hz, thermal at 7.5 Hz; set pairing to hold' in pairer.warning


def test_unknown_mode_is_refused():
    with pytest.raises(TpfError, match=r'rgb\+thermal, rgb, thermal'):
        FramePairer(mode='both')
