"""Rendering beside tracking: of the newest step, at a lower priority, disturbing nothing."""

import os
import queue
import sys
import threading

import pytest
from tpf_tracker_ros.ros.worker import Target
from worker_bench import BOX, PERIOD


class SlowRendering:
    """Takes until may_go_on is set; tells when one begins."""

    def __init__(self):
        self.begun, self.may_go_on = threading.Semaphore(0), threading.Event()
        self.stamps = []

    def __call__(self, step):
        self.begun.release()
        assert self.may_go_on.wait(5)
        self.stamps.append(step.paired.stamp // PERIOD)


def test_tracking_does_not_wait_for_rendering_and_the_newest_step_is_rendered(bench):
    slow = SlowRendering()
    b = bench(initial=Target(BOX), render=slow)
    b.feed(1)
    assert slow.begun.acquire(timeout=5)  # the first one is in hand
    b.feed(*range(2, 10))
    assert [index for index, *_ in b.published()] == list(range(1, 10))
    assert b.worker.dropped == 0 and slow.stamps == []
    slow.may_go_on.set()
    assert slow.begun.acquire(timeout=5)
    b.worker.close()
    assert slow.stamps == [1, 9]


def test_a_rendering_of_before_a_jump_of_time_disturbs_nothing(bench):
    slow = SlowRendering()
    b = bench(initial=Target(BOX), render=slow)
    b.feed(8)
    assert slow.begun.acquire(timeout=5)
    b.feed(9)
    b.feed(1, 2, epoch=1)
    b.worker.reset()
    b.feed(3, epoch=1)
    slow.may_go_on.set()
    assert slow.begun.acquire(timeout=5)
    b.worker.close()
    assert slow.stamps == [8, 3] and b.reports == []
    assert b.published()[2:] == [(1, 10, '2'), (2, 11, '2'), (3, 10, '3')]


def test_an_error_while_rendering_is_one_report_and_the_next_step_is_rendered(bench):
    rendered = queue.Queue()

    def render(step):
        rendered.put(step.paired.stamp // PERIOD)
        if step.paired.stamp == PERIOD:
            raise RuntimeError('no picture')

    b = bench(initial=Target(BOX), render=render)
    for index in range(1, 4):
        b.submit(index)
        assert rendered.get(timeout=5) == index
    assert b.reports == ['RuntimeError: no picture']


def test_close_waits_for_the_rendering_in_hand_and_ends_both_threads(bench):
    threads = threading.active_count()
    slow = SlowRendering()
    b = bench(initial=Target(BOX), render=slow)
    assert threading.active_count() == threads + 2
    b.feed(1)
    assert slow.begun.acquire(timeout=5)
    b.feed(2)
    closing = threading.Thread(target=b.worker.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive() and slow.stamps == []
    slow.may_go_on.set()
    closing.join(5)
    assert threading.active_count() == threads and slow.stamps == [1]
    assert 'render' in b.worker.latencies.summary()


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux has priorities of threads')
def test_rendering_has_a_lower_priority_than_tracking(bench):
    nice = queue.Queue()

    def note(*_):
        nice.put(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    b = bench(render=note, publish=note)
    b.submit(1)
    tracking, rendering = nice.get(timeout=5), nice.get(timeout=5)
    assert rendering > tracking
