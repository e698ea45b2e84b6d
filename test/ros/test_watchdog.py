"""The watchdog tells a step that hangs, and what else the worker waits for."""

import time

from tpf_tracker_ros.ros.graph import wait_until
from tpf_tracker_ros.ros.watchdog import Watchdog
from tpf_tracker_ros.ros.worker import Target
from worker_bench import BOX, BROKEN


def test_a_step_that_hangs_is_told_and_does_not_keep_the_worker_from_closing(bench):
    b = bench(initial=Target(BOX))
    dog = Watchdog(b.worker, step=0.0)
    b.feed(1)
    assert dog.complaint([], 0.2) is None
    b.tracker.may_go_on.clear()
    b.submit(2)
    wait_until(lambda: dog.complaint([], 0.2), 5, 'a complaint')
    assert 'has been in one step for 0.' in dog.complaint([], 0.2)
    assert Watchdog(b.worker, step=30.0).complaint([], 0.2) is None  # as slow as ever
    assert b.worker.close(timeout=0.1) is False
    b.tracker.may_go_on.set()
    wait_until(lambda: not b.worker._thread.is_alive(), 5, 'the end of the thread')
    assert b.published() == [(1, 10, '1')]  # nothing is published after the end


def test_the_watchdog_says_what_it_waits_for(bench):
    b = bench(initial=Target(BOX))
    dog = Watchdog(b.worker, step=0.0)
    time.sleep(0.1)
    assert dog.complaint(['/rgb'], 0.05) is None  # not begun yet
    b.feed(1)
    time.sleep(0.1)
    assert 'nothing comes on /rgb and /thermal' in dog.complaint(['/rgb', '/thermal'], 0.05)
    assert 'no two of them pair' in dog.complaint([], 0.05)
    b.feed(2, image=BROKEN)
    assert 'each one fails: rgb image is broken' in dog.complaint([], 0.05)
    b.feed(3)
    assert dog.complaint([], 0.05) is None
