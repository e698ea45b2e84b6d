"""
The thread that tracks, fed by slots that hold only the newest pair and the newest command.

Callbacks of the graph submit pairs and commands and return at once; what was not taken when the
next one comes is dropped, pairs counted. So the tracker never falls behind the cameras, nor
behind who sends targets. Rendering has a thread of its own.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
import threading
import time
from typing import Any, NamedTuple

import numpy as np
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.pairing import Paired
from tpf_tracker_ros.ros.history import History
from tpf_tracker_ros.ros.latencies import Latencies
from tpf_tracker_ros.ros.render import Renderer
from tpf_tracker_ros.tracking.tracker import Tracker, TrackResult, TrackState

# A target is started in the pair nearest to its stamp: its own image may have had no partner.
STAMP_TOLERANCE_NS = 100_000_000
# Most pairs tracked between the one that a target names and the newest.
CATCH_UP = 8
LOOK = 0.5  # s between the pairs that are looked at while there is no target
CLOSE_TIMEOUT = 5.0  # s for the step in hand, before its thread is given up


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


class Target(NamedTuple):
    """Where to start: box (4,) x, y, w, h px; stamp of its pair in ns, None: the next pair."""

    box: np.ndarray
    stamp: int | None = None


class _Wanted(NamedTuple):
    """A target that waits for its pair."""

    box: np.ndarray
    stamp: int | None
    identity: str


class Worker:
    """
    Runs a tracker over submitted pairs; see the module.

    convert: Paired to FramePair. publish: called with each finished Step, whose stamps only
    increase within an epoch. render: called after that with the newest one, in a thread that
    yields to tracking. report: called with one line when something went wrong, from either
    thread. follow: called before publish with each Step, those of the past too, and with None
    when a command has dropped the target. inspect: called with a FramePair now and then while
    there is no target: what is wrong with the cameras is to be known before. initial: start on it
    in the first pair, and again after each backward jump of time. history_mb: pairs kept, so that
    a target may name a past one.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        convert: Callable[[Paired], FramePair],
        publish: Callable[[Step], None],
        render: Callable[[Step], None],
        report: Callable[[str], None],
        follow: Callable[[Step | None], None] = lambda step: None,
        inspect: Callable[[FramePair], None] = lambda pair: None,
        initial: Target | None = None,
        history_mb: float = 64,
    ) -> None:
        self._tracker = tracker
        self._convert, self._publish = convert, publish
        self._render, self._report = render, report
        self._followed, self._inspect = follow, inspect
        self._initial = initial
        self.latencies = Latencies()
        self.submitted = self.dropped = self.finished = 0
        self.template_updates = 0
        self.last: TrackResult | None = None
        # For who watches: time.perf_counter() seconds; busy_since is None while it waits.
        self.submitted_at = self.finished_at = time.perf_counter()
        self.busy_since: float | None = None
        self.failure = ''  # the latest report since a pair was finished

        self._changed = threading.Condition()
        self._slot: Paired | None = None
        self._order: Callable[[], None] | None = None  # the newest of target, reset and stop
        self._detection: Target | None = None
        self._settings: dict[str, float] = {}
        self.history = History(history_mb)
        self._closing = False
        self._renderer = Renderer(lambda step: self._guarded(self._rendered, step))

        # From here on the tracker's thread's own.
        self._targets = 0
        self._identity = ''
        self._size: tuple[int, int] | None = None  # of the target's images
        self._done: int | None = None  # stamp of the latest pair tracked in this epoch
        self._shown: int | None = None  # of the latest one published
        self._epoch = 0
        self._looked_at = -LOOK  # time.perf_counter() seconds
        self._wanted = self._initial_target()
        self._thread = threading.Thread(target=self._run, name='tracker', daemon=True)
        self._thread.start()

    # ---- called by the graph's thread ----

    def submit(self, paired: Paired) -> None:
        """Hand over the newest pair, of Frames."""
        with self._changed:
            self.submitted += 1
            self.submitted_at = time.perf_counter()
            self.dropped += self._slot is not None
            self.history.add(paired)
            self._slot = paired
            self._changed.notify()

    def start_target(self, target: Target) -> None:
        """Start on it, in place of whatever was ordered before and has not begun yet."""
        self._put_order(lambda: self._want(_Wanted(*target, self._new_identity())))

    def set_initial(self, target: Target | None) -> None:
        """Begin with this one after a reset and after a jump of time."""
        self._initial = target

    def detect(self, detection: Target) -> None:
        """Take a box that a detector has seen; it matters only while the target is LOST."""
        with self._changed:
            self._detection = detection
            self._changed.notify()

    def stop_target(self) -> None:
        """Track nothing until the next target."""

        def stop() -> None:
            self._drop_target()
            self._followed(None)

        self._put_order(stop)

    def reset(self) -> None:
        """Drop the target and begin as after the start, with the initial one where it is given."""

        def reset() -> None:
            self._drop_target()
            self._wanted = self._initial_target()
            self._followed(None)

        self._put_order(reset)

    def configure(self, **settings: float) -> None:
        """Change the tracker's settings before the next pair."""
        with self._changed:
            self._settings |= settings
            self._changed.notify()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> bool:
        """
        End both threads after the steps in hand; the tracker is free again.

        Returns False where a step hangs for longer than timeout seconds: its thread is given up,
        and the tracker must not be used any more.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        ended = not self._thread.is_alive() and self._renderer.close(timeout)
        if ended:
            self._tracker.stop()
        return ended

    @property
    def state(self) -> TrackState:
        """Return what the tracker says about itself."""
        return self._tracker.state

    @property
    def identity(self) -> str:
        """Return the id of the target, empty where there is none."""
        return self._identity

    @property
    def waits_for(self) -> int | None:
        """Stamp in ns of the future pair in which a target waits to start."""
        wanted = self._wanted
        return wanted.stamp if wanted else None

    @property
    def pending(self) -> bool:
        """Whether something is in hand or waits to be."""
        with self._changed:
            return self.busy_since is not None or self._has_work()

    def _put_order(self, order: Callable[[], None]) -> None:
        with self._changed:
            self._order, self._detection = order, None
            self._changed.notify()

    def _has_work(self) -> bool:
        return any((self._order, self._detection, self._settings, self._slot))

    # ---- the tracker's thread ----

    def _run(self) -> None:
        while True:
            with self._changed:
                self.busy_since = None
                self._changed.wait_for(lambda: self._closing or self._has_work())
                if self._closing:
                    return
                self.busy_since = time.perf_counter()
                settings, self._settings = self._settings, {}
                order, self._order = self._order, None
                detection, self._detection = self._detection, None
                paired, self._slot = self._slot, None
            if settings:
                self._guarded(partial(self._tracker.configure, **settings))
            if order:
                self._guarded(order)
            if detection:
                self._guarded(self._redetect, detection)
            if paired:
                self._guarded(self._take, paired)

    def _guarded(self, action: Callable[..., None], *arguments: Any) -> None:
        """Whatever one pair, command or rendering does, its thread goes on."""
        try:
            action(*arguments)
        except TpfError as error:
            self._fail(str(error))
        except Exception as error:  # a bug or the device; the next pair may be fine
            self._fail(f'{type(error).__name__}: {error}')

    def _fail(self, problem: str) -> None:
        self.failure = problem
        if not self._closing:
            self._report(problem)

    def _take(self, paired: Paired) -> None:
        self._follow(paired.epoch)
        if self._done is not None and paired.stamp <= self._done:
            return  # caught up with it already
        self.latencies.add('wait', time.perf_counter() - _arrival(paired))
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
        self._epoch, self._done, self._shown = epoch, None, None
        self._wanted = wanted if wanted and wanted.stamp is not None else self._initial_target()

    def _advance(self, paired: Paired) -> None:
        """Track this pair, or only pass it on when there is no target."""
        step = Step(paired, self._convert)
        if self._tracker.state is TrackState.IDLE:
            self._look(step)
        else:
            with self.latencies.timed('convert'):
                pair = step.pair
            if pair.size != self._size:
                (width, height), _ = self._size, self._drop_target()
                raise TpfError(
                    f'image size changed from {width}x{height} to {pair.size[0]}x{pair.size[1]}; '
                    'the target is dropped, give it again'
                )
            with self.latencies.timed('track'):
                step.result = self._tracker.track(pair)
        self._finish(step)

    def _look(self, step: Step) -> None:
        if time.perf_counter() - self._looked_at >= LOOK:
            self._looked_at = time.perf_counter()
            with suppress(TpfError):  # whoever converts has said which camera it is
                self._inspect(step.pair)

    def _finish(self, step: Step) -> None:
        """Publish the step, unless one of its stamp is out already or nobody waits any more."""
        self._done = step.paired.stamp
        self.last = step.result
        step.identity = self._identity
        self.finished_at, self.failure = time.perf_counter(), ''
        if self._closing:
            return
        self._followed(step)
        if self._shown is not None and self._done <= self._shown:
            return
        self._shown = self._done
        self.finished += 1
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

    def _start(self, paired: Paired, wanted: _Wanted) -> None:
        """Give the tracker its target; the box of this pair is the one that was given."""
        step = Step(paired, self._convert)
        pair = step.pair  # when it cannot be read, the target waits for the next one
        self._wanted = None
        step.result = self._tracker.initialize(pair, wanted.box)
        self._size, self._identity, self.template_updates = pair.size, wanted.identity, 0
        self._finish(step)

    def _start_in_history(self, wanted: _Wanted) -> None:
        """
        Start in the past, then track up to the newest pair, in larger strides if need be.

        Only what is newer than all that was published is published. A newer command ends it.
        """
        with self._changed:
            history = self.history.pairs()
        self._wanted = None
        first = min(history, key=lambda paired: abs(paired.stamp - wanted.stamp))
        if abs(first.stamp - wanted.stamp) > STAMP_TOLERANCE_NS:
            raise TpfError(
                f'no pair at the target stamp {wanted.stamp / 1e9:.3f}; the {len(history)} pairs '
                f'kept go from {history[0].stamp / 1e9:.3f} to {history[-1].stamp / 1e9:.3f}; '
                'send the target sooner or raise target_history_mb'
            )
        self._start(first, wanted)
        later = [paired for paired in history if paired.stamp > first.stamp]
        if later:
            for index in np.unique(np.linspace(0, len(later) - 1, CATCH_UP).round().astype(int)):
                if self._order or self._closing:
                    return
                self._advance(later[index])

    def _want(self, wanted: _Wanted) -> None:
        """Start now where the pair is there already, else when it comes."""
        with self._changed:
            newest = self.history.newest
        if newest:
            self._follow(newest.epoch)
        self._wanted = wanted
        if wanted.stamp is not None and newest and wanted.stamp <= newest.stamp:
            self._start_in_history(wanted)

    def _redetect(self, detection: Target) -> None:
        if self._tracker.state is TrackState.LOST and self._wanted is None:
            self._want(_Wanted(*detection, self._identity))

    def _drop_target(self) -> None:
        self._tracker.stop()
        self._wanted = self._size = self.last = None
        self._identity = ''

    def _new_identity(self) -> str:
        self._targets += 1
        return str(self._targets)

    def _initial_target(self) -> _Wanted | None:
        initial = self._initial
        return None if initial is None else _Wanted(*initial, self._new_identity())

    # ---- the rendering thread ----

    def _rendered(self, step: Step) -> None:
        with self.latencies.timed('render'):
            self._render(step)


def header_of(paired: Paired) -> Any:
    """Return the header of the RGB image, or of the thermal one where RGB is absent."""
    return (paired.rgb or paired.thermal).header


def _arrival(paired: Paired) -> float:
    """When its later image came, time.perf_counter() seconds."""
    return max(frame.arrival for frame in (paired.rgb, paired.thermal) if frame is not None)
