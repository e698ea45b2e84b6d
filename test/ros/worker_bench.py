"""A worker on a bench: a tracker that counts, and all that comes out."""

import threading
import time

import numpy as np
from tpf_tracker_ros.core.boxes import check_box
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.pairing import Paired
from tpf_tracker_ros.ros.conversion import Frame
from tpf_tracker_ros.ros.graph import wait_until
from tpf_tracker_ros.ros.worker import Worker
from tpf_tracker_ros.tracking.tracker import TrackResult, TrackState

BOX = np.array([10.0, 12, 20, 16])
PERIOD = 33_000_000
IMAGE = np.zeros((48, 64, 3), np.uint8)
BROKEN = IMAGE[:0]


class Counter:
    """A tracker that moves its box by one pixel a step and says what it is told to say."""

    name, device = 'counter', 'cpu'

    def __init__(self):
        self.state = TrackState.IDLE
        self.seen, self.settings = [], {}
        self.say = TrackState.TRACKING
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def initialize(self, pair, box):
        self.box = check_box(box, pair.size)
        self.state = TrackState.TRACKING
        return TrackResult(self.box, 1.0, self.state, pair.modality)

    def track(self, pair):
        assert self.may_go_on.wait(5)
        if pair.stamp == 13 * PERIOD:
            raise RuntimeError('the device has hiccups')
        self.seen.append(pair.stamp)
        self.box = self.box + np.array([1, 0, 0, 0])
        self.state = self.say
        return TrackResult(self.box, 0.5, self.state, pair.modality, stages={'network': 1.0})

    def configure(self, **settings):
        self.settings.update(settings)

    def stop(self):
        self.state = TrackState.IDLE


class Bench:
    """A worker with a Counter; collects what comes out."""

    def __init__(self, **options):
        self.tracker, self.steps, self.rendered, self.reports = Counter(), [], [], []
        self.followed = []
        options = {'render': self.rendered.append, 'publish': self.steps.append, **options}
        self.worker = Worker(
            self.tracker,
            convert=self.convert,
            report=self.reports.append,
            follow=self.followed.append,
            **options,
        )

    def convert(self, paired):
        if not paired.rgb.size:
            raise TpfError('rgb image is broken')
        return FramePair(paired.rgb.message, None, paired.stamp)

    def submit(self, index, *, epoch=0, image=IMAGE):
        frame = Frame(image, time.perf_counter())
        self.worker.submit(Paired(frame, None, index * PERIOD, None, epoch))

    def feed(self, *indices, **more):
        """Submit slowly enough that none is dropped."""
        for index in indices:
            self.submit(index, **more)
            self.settle()

    def settle(self):
        """Wait until all that was submitted and ordered is done."""
        wait_until(lambda: not self.worker.pending, 5, 'the worker does not come to rest')

    def published(self):
        """(index, x or None, identity) of each step."""
        return [
            (step.paired.stamp // PERIOD, step.result and step.result.box[0], step.identity)
            for step in self.steps
        ]
