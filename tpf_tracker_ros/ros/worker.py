"""
The thread that tracks, fed by a slot that holds only the newest pair.

Callbacks of the graph submit pairs and commands and return at once; what was not taken when the
next pair comes is dropped and counted. So the tracker never falls behind the cameras. Rendering
has a thread of its own.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
import threading
import time

import numpy as np
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.pairing import Paired
from tpf_tracker_ros.ros.diagnostics import Latencies
from tpf_tracker_ros.ros.render import Renderer
from tpf_tracker_ros.tracking.tracker import Tracker, TrackResult, TrackState

# A target is started in the pair nearest to its stamp: its own image may have had no partner.
STAMP_TOLERANCE_NS = 100_000_000
# Most pairs tracked between the one that a target names and the newest.
CATCH_UP = 8


class Step:
    """
    One pair on its way through the worker.

    result: None while there is no target. identity: the same for one target.
    """

    def __init__(self, paired: Paired, convert: Callable[[Paired], FramePair]) -> None:
        self.paired = paired
        self.result: TrackResult | None = None
        self.identity = ''
        self._convert = convert

    @cached_property
    def pair(self) -> FramePair:
        """Return the images, converted when they are first needed. Raises TpfError."""
        return self._convert(self.paired)


@dataclass(frozen=True)
class _Target:
    """Where to start. stamp: ns, None for the next pair."""

    box: np.ndarray
    stamp: int | None
    identity: str


class Worker:
    """
    Runs a tracker over submitted pairs; see the module.

    convert: Paired to FramePair. publish: called with each finished Step. render: called after
    that with the newest one, in a thread that yields to tracking. report: called with one line
    when something went wrong, from either thread. init_box: start on it in the first pair, and
    again after each backward jump of time. history: pairs kept, so that a target may name a past
    one.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        convert: Callable[[Paired], FramePair],
        publish: Callable[[Step], None],
        render: Callable[[Step], None],
        report: Callable[[str], None],
        init_box: np.ndarray | None = None,
        history: int = 30,
    ) -> None:
        self._tracker = tracker
        self._convert, self._publish = convert, publish
        self._render, self._report = render, report
        self._init_box = init_box
        self.latencies = Latencies()
        self.submitted = self.dropped = self.finished = 0
        self.template_updates = 0
        self.last: TrackResult | None = None

        self._changed = threading.Condition()
        self._slot: Paired | None = None
        self._commands: deque[Callable[[], None]] = deque()
        self._history: deque[Paired] = deque(maxlen=history)
        self._closing = False
        self._renderer = Renderer(lambda step: self._guarded(self._rendered, step))

        # From here on the tracker's thread's own.
        self._targets = 0
        self._identity = ''
        self._size: tuple[int, int] | None = None  # of the target's images
        self._done: int | None = None  # stamp of the latest finished pair of this epoch
        self._epoch = 0
        self._wanted = self._initial_target()
        self._thread = threading.Thread(target=self._run, name='tracker', daemon=True)
        self._thread.start()

    # ---- called by the graph's thread ----

    def submit(self, paired: Paired) -> None:
        """Hand over the newest pair, of Frames."""
        with self._changed:
            self.submitted += 1
            self.dropped += self._slot is not None
            if self._history and paired.epoch != self._history[-1].epoch:
                self._history.clear()
            self._history.append(paired)
            self._slot = paired
            self._changed.notify()

    def start_target(self, box: np.ndarray, stamp: int | None) -> None:
        """Start on this box in the pair with this stamp (ns), None: in the next pair."""
        self._command(lambda: self._want(_Target(box, stamp, self._new_identity())))

    def detect(self, box: np.ndarray, stamp: int | None) -> None:
        """Take a box that a detector has seen; it matters only while the target is LOST."""
        self._command(lambda: self._redetect(box, stamp))

    def stop_target(self) -> None:
        """Track nothing until the next target."""
        self._command(self._drop_target)

    def reset(self) -> None:
        """Drop the target and begin as after the start, with init_box where it is given."""

        def reset() -> None:
            self._drop_target()
            self._wanted = self._initial_target()

        self._command(reset)

    def configure(self, **settings: float) -> None:
        """Change the tracker's settings before the next pair."""
        self._command(lambda: self._tracker.configure(**settings))

    def close(self) -> None:
        """End both threads after the steps in hand; the tracker is free again."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._renderer.close()
        self._tracker.stop()

    @property
    def state(self) -> TrackState:
        """Return what the tracker says about itself."""
        return self._tracker.state

    @property
    def waits_for(self) -> int | None:
        """Stamp in ns of the future pair in which a target waits to start."""
        wanted = self._wanted
        return wanted.stamp if wanted else None

    def _command(self, command: Callable[[], None]) -> None:
        with self._changed:
            self._commands.append(command)
            self._changed.notify()

    # ---- the tracker's thread ----

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._commands or self._slot)
                if self._closing:
                    return
                commands, self._commands = self._commands, deque()
                paired, self._slot = self._slot, None
            for command in commands:
                self._guarded(command)
            if paired:
                self._guarded(self._take, paired)

    def _guarded(self, action: Callable[..., None], *arguments: Paired | Step) -> None:
        """Whatever one pair, command or rendering does, its thread goes on."""
        try:
            action(*arguments)
        except TpfError as error:
            self._report(str(error))
        except Exception as error:  # a bug or the device; the next pair may be fine
            self._report(f'{type(error).__name__}: {error}')

    def _take(self, paired: Paired) -> None:
        self._follow(paired.epoch)
        if self._done is not None and paired.stamp <= self._done:
            return  # caught up with it already
        wanted = self._wanted
        if wanted and wanted.stamp is None:
            self._start(paired, wanted)
        elif wanted and wanted.stamp <= paired.stamp:
            self._start_in_history(wanted)
        else:
            self._advance(paired)

    def _follow(self, epoch: int) -> None:
        """After a backward jump of time nothing of before is true, but a target may still wait."""
        if epoch == self._epoch:
            return
        wanted = self._wanted
        self._drop_target()
        self._epoch, self._done = epoch, None
        self._wanted = wanted if wanted and wanted.stamp is not None else self._initial_target()

    def _advance(self, paired: Paired) -> None:
        """Track this pair, or only pass it on when there is no target."""
        step = Step(paired, self._convert)
        self.latencies.add('wait', time.perf_counter() - _arrival(step.paired))
        if self._tracker.state is not TrackState.IDLE:
            with self.latencies.timed('convert'):
                pair = step.pair
            if pair.size != self._size:
                before, _ = self._size, self._drop_target()
                raise TpfError(
                    f'image size changed from {before} to {pair.size}; '
                    'the target is dropped, give it again'
                )
            with self.latencies.timed('track'):
                step.result = self._tracker.track(pair)
        self._finish(step)

    def _finish(self, step: Step) -> None:
        self._done = step.paired.stamp
        self.finished += 1
        self.last = step.result
        step.identity = self._identity
        if step.result:
            self.template_updates += step.result.template_updated
            for stage, milliseconds in step.result.stages.items():
                self.latencies.add(stage, milliseconds / 1e3)
        with self.latencies.timed('publish'):
            self._publish(step)
        total = time.perf_counter() - _arrival(step.paired)
        self.latencies.add('total', total)
        if step.result:  # what the node takes beside the tracker
            self.latencies.add('overhead', total - sum(step.result.stages.values()) / 1e3)
        self._renderer.submit(step)

    def _start(self, paired: Paired, wanted: _Target) -> None:
        """Give the tracker its target; the box of this pair is the one that was given."""
        step = Step(paired, self._convert)
        pair = step.pair  # when it cannot be read, the target waits for the next one
        self._wanted = None
        self._tracker.initialize(pair, wanted.box)
        self._size, self._identity, self.template_updates = pair.size, wanted.identity, 0
        step.result = TrackResult(wanted.box, 1.0, TrackState.TRACKING, pair.modality)
        self._finish(step)

    def _start_in_history(self, wanted: _Target) -> None:
        """Start in the past, then track up to the newest pair, in larger strides if need be."""
        with self._changed:
            history = list(self._history)
        self._wanted = None
        first = min(history, key=lambda paired: abs(paired.stamp - wanted.stamp))
        if abs(first.stamp - wanted.stamp) > STAMP_TOLERANCE_NS:
            raise TpfError(
                f'no pair at the target stamp {wanted.stamp / 1e9:.3f}; the {len(history)} pairs '
                f'kept go from {history[0].stamp / 1e9:.3f} to {history[-1].stamp / 1e9:.3f}; '
                'send the target sooner or raise target_history'
            )
        self._start(first, wanted)
        later = [paired for paired in history if paired.stamp > first.stamp]
        if later:
            for index in np.unique(np.linspace(0, len(later) - 1, CATCH_UP).round().astype(int)):
                self._advance(later[index])

    def _want(self, wanted: _Target) -> None:
        """Start now where the pair is there already, else when it comes."""
        with self._changed:
            newest = self._history[-1] if self._history else None
        if newest:
            self._follow(newest.epoch)
        self._wanted = wanted
        if wanted.stamp is not None and newest and wanted.stamp <= newest.stamp:
            self._start_in_history(wanted)

    def _redetect(self, box: np.ndarray, stamp: int | None) -> None:
        if self._tracker.state is TrackState.LOST and self._wanted is None:
            self._want(_Target(box, stamp, self._identity))

    def _drop_target(self) -> None:
        self._tracker.stop()
        self._wanted = self._size = self.last = None
        self._identity = ''

    def _new_identity(self) -> str:
        self._targets += 1
        return str(self._targets)

    def _initial_target(self) -> _Target | None:
        if self._init_box is None:
            return None
        return _Target(self._init_box, None, self._new_identity())

    # ---- the rendering thread ----

    def _rendered(self, step: Step) -> None:
        with self.latencies.timed('render'):
            self._render(step)


def _arrival(paired: Paired) -> float:
    """When its later image came, time.perf_counter() seconds."""
    return max(frame.arrival for frame in (paired.rgb, paired.thermal) if frame is not None)
