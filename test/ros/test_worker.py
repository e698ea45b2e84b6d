"""The worker: newest pair wins, commands in order, nothing that happens to a pair ends it."""

import itertools
import time

import numpy as np
import pytest
from tpf_tracker_ros.ros.graph import wait_until
from tpf_tracker_ros.ros.worker import CATCH_UP, Target
from tpf_tracker_ros.tracking.tracker import TrackState
from worker_bench import BOX, BROKEN, IMAGE, PERIOD


def test_without_a_target_every_pair_passes_without_a_box(bench):
    b = bench()
    b.feed(1, 2, 3)
    assert b.published() == [(1, None, ''), (2, None, ''), (3, None, '')]
    assert b.tracker.seen == [] and b.worker.state is TrackState.IDLE


def test_without_a_target_a_pair_is_looked_at_now_and_then(bench, monkeypatch):
    monkeypatch.setattr('tpf_tracker_ros.ros.worker.LOOK', 1e3)
    looked_at = []
    b = bench(inspect=looked_at.append)
    b.feed(1, 2)
    assert [pair.stamp // PERIOD for pair in looked_at] == [1]
    b.worker._looked_at = -1e9
    b.feed(3, image=BROKEN)  # passes like the others
    assert len(b.published()) == 3 and not b.reports


def test_the_next_pair_starts_a_target_without_a_stamp(bench):
    b = bench()
    b.feed(1)
    b.worker.start_target(Target(BOX))
    b.feed(2, 3, 4)
    assert b.published()[1:] == [(2, 10, '1'), (3, 11, '1'), (4, 12, '1')]
    assert b.steps[1].result.score == 1 and np.array_equal(b.steps[1].result.box, BOX)


def test_init_box_starts_in_the_first_pair_and_after_each_jump_of_time(bench):
    b = bench(initial=Target(BOX))
    b.feed(5, 6)
    b.feed(1, 2, epoch=1)
    assert b.published() == [(5, 10, '1'), (6, 11, '1'), (1, 10, '2'), (2, 11, '2')]


def test_a_jump_of_time_drops_the_target(bench):
    b = bench()
    b.worker.start_target(Target(BOX))
    b.feed(5, 6)
    b.feed(1, 2, epoch=1)
    assert b.published()[2:] == [(1, None, ''), (2, None, '')]


def test_a_target_in_a_future_pair_waits_for_it(bench):
    b = bench()
    b.feed(1)
    b.worker.start_target(Target(BOX, 4 * PERIOD))
    b.settle()
    assert b.worker.waits_for == 4 * PERIOD
    b.feed(2, 3, 4, 5)
    assert b.published()[1:] == [(2, None, ''), (3, None, ''), (4, 10, '1'), (5, 11, '1')]


def test_a_target_before_the_first_pair_and_through_a_jump_of_time(bench):
    b = bench()
    b.worker.start_target(Target(BOX, 3 * PERIOD))
    b.feed(1, 2, 3)
    b.worker.start_target(Target(BOX, 9 * PERIOD))
    b.feed(1, 9, epoch=1)
    assert b.published()[2:] == [(3, 10, '1'), (1, None, ''), (9, 10, '2')]


def test_a_target_in_a_past_pair_starts_there_and_catches_up(bench):
    b = bench()
    b.feed(*range(1, 7))
    b.worker.start_target(Target(BOX, 3 * PERIOD))
    b.settle()
    assert b.tracker.seen == [4 * PERIOD, 5 * PERIOD, 6 * PERIOD]
    assert b.published()[6:] == []  # stamps only increase
    assert [(s.paired.stamp // PERIOD, s.result.box[0]) for s in b.followed[6:8]] == [
        (3, 10), (4, 11)
    ]  # fmt: skip
    b.feed(7)
    assert b.published()[6:] == [(7, 14, '1')]


def test_catching_up_strides_over_a_long_past(bench):
    b = bench(history_mb=10)
    b.feed(*range(20, 80))
    b.worker.start_target(Target(BOX, 21 * PERIOD))
    b.settle()
    caught = [stamp // PERIOD for stamp in b.tracker.seen]
    assert len(caught) == CATCH_UP and caught[0] == 22 and caught[-1] == 79
    assert all(a < c for a, c in itertools.pairwise(caught))


def test_a_stamp_without_a_pair_takes_the_nearest_or_is_refused(bench):
    b = bench(history_mb=10 * IMAGE.nbytes / 1e6)
    b.feed(*range(1, 31))
    b.worker.start_target(Target(BOX, 29 * PERIOD - 9_000_000))
    b.settle()
    assert b.followed[30].paired.stamp == 29 * PERIOD
    b.worker.start_target(Target(BOX, 2 * PERIOD))
    b.settle()
    assert 'raise target_history_mb' in b.reports[0]
    b.feed(31)
    assert b.published()[-1][0] == 31 and b.published()[-1][2] == '1'  # the old one goes on


def test_a_bad_box_is_reported_and_the_old_target_goes_on(bench):
    b = bench(initial=Target(BOX))
    b.feed(1)
    b.worker.start_target(Target(np.array([500.0, 0, 10, 10])))
    b.feed(2, 3)
    assert 'outside the 64x48 image' in b.reports[0]
    assert [identity for *_, identity in b.published()] == ['1', '1']


def test_the_newest_pair_wins_while_the_tracker_is_busy(bench):
    b = bench(initial=Target(BOX))
    b.feed(1)
    b.tracker.may_go_on.clear()
    b.submit(2)
    time.sleep(0.05)  # the worker is in it
    for index in (3, 4, 5):
        b.submit(index)
    b.tracker.may_go_on.set()
    b.settle()
    assert b.tracker.seen == [2 * PERIOD, 5 * PERIOD]
    assert (b.worker.submitted, b.worker.dropped, b.worker.finished) == (5, 2, 3)


def test_nothing_that_a_pair_does_ends_the_worker(bench):
    b = bench(initial=Target(BOX))
    b.feed(11, image=BROKEN)  # the target waits until an image can be read
    b.feed(12, 13)
    b.feed(14, image=BROKEN)
    b.feed(15)
    assert b.published() == [(12, 10, '1'), (15, 11, '1')]
    assert b.reports == [
        'rgb image is broken', 'RuntimeError: the device has hiccups', 'rgb image is broken'
    ]  # fmt: skip


def test_another_image_size_drops_the_target(bench):
    b = bench(initial=Target(BOX))
    b.feed(1, 2)
    b.feed(3, 4, image=np.zeros((96, 128, 3), np.uint8))
    assert 'changed from 64x48 to 128x96' in b.reports[0]
    assert b.published()[2:] == [(4, None, '')]


def test_stop_and_reset(bench):
    b = bench(initial=Target(BOX))
    b.feed(1)
    b.worker.stop_target()
    b.feed(2)
    b.worker.reset()
    b.feed(3)
    assert b.published() == [(1, 10, '1'), (2, None, ''), (3, 10, '2')]


def test_a_detection_counts_only_while_the_target_is_lost(bench):
    b = bench(initial=Target(BOX))
    b.feed(1)
    b.worker.detect(Target(BOX + 5))
    b.feed(2)
    assert b.published()[-1] == (2, 11, '1')
    b.tracker.say = TrackState.LOST
    b.feed(3)
    b.tracker.say = TrackState.TRACKING
    b.worker.detect(Target(BOX + 5, 3 * PERIOD))
    b.feed(4)
    assert b.published()[3:] == [(4, 16, '1')]  # the same target
    assert b.worker.state is TrackState.TRACKING


def test_in_a_flood_of_targets_the_newest_wins_and_nothing_goes_back_in_time(bench):
    b = bench()
    b.feed(*range(1, 7))
    b.tracker.may_go_on.clear()
    b.worker.start_target(Target(BOX, 2 * PERIOD))
    wait_until(lambda: b.worker.identity == '1', 5, 'the first target')  # it catches up
    for index in range(20):
        b.worker.start_target(Target(BOX + np.array([index, 0, 0, 0]), 3 * PERIOD))
    b.submit(7)
    b.tracker.may_go_on.set()
    b.settle()
    b.feed(8)
    assert b.worker.identity == '2'  # of 20 commands one was carried out
    shown = [index for index, *_ in b.published()]
    assert shown == list(range(1, 9)) and b.steps[-1].result.box[0] == 10 + 19 + 5


@pytest.mark.parametrize('order', ['reset', 'stop_target'])
def test_reset_and_stop_jump_the_queue(bench, order):
    b = bench()
    b.feed(*range(1, 7))
    b.tracker.may_go_on.clear()
    for _ in range(5):
        b.worker.start_target(Target(BOX, 2 * PERIOD))
    wait_until(lambda: b.worker.identity, 5, 'a target')
    getattr(b.worker, order)()
    b.tracker.may_go_on.set()
    b.settle()
    assert len(b.tracker.seen) == 1 and b.worker.state is TrackState.IDLE
    assert b.followed[-1] is None  # told without waiting for a pair


def test_the_history_is_bounded_in_bytes_and_keeps_the_newest(bench):
    b = bench(history_mb=3.5 * IMAGE.nbytes / 1e6)
    b.feed(*range(1, 9))
    assert str(b.worker.history) == '3 pairs, 0.0 MB, 0.1 s'
    b.worker.history.limit_mb = 0
    b.feed(9)
    assert [paired.stamp for paired in b.worker.history.pairs()] == [9 * PERIOD]


def test_settings_reach_the_tracker_between_two_pairs(bench):
    b = bench()
    b.worker.configure(lost_after=3)
    b.settle()
    assert b.tracker.settings == {'lost_after': 3}


def test_latencies_by_stage(bench):
    b = bench(initial=Target(BOX))
    b.feed(*range(1, 10))
    summary = b.worker.latencies.summary()
    assert set(summary) >= {'wait', 'convert', 'track', 'network', 'publish', 'total'}
    assert summary['network'] == '1.00 / 1.00 / 1.00'
    p50, p95, p99 = map(float, summary['total'].split(' / '))
    assert 0 < p50 <= p95 <= p99 < 1000
