"""What the node says about itself: DiagnosticStatus messages, and lines when they change."""

from collections.abc import Callable
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
import numpy as np
from tpf_tracker_ros.core.pairing import FramePairer
from tpf_tracker_ros.ros.cameras import Camera, NOTED, Settled
from tpf_tracker_ros.ros.journal import Journal, kind_of
from tpf_tracker_ros.ros.latencies import percentiles
from tpf_tracker_ros.system.process import resident_mb
from tpf_tracker_ros.tracking.tracker import TrackState

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
ALIVE, FINE = 'images arrive', 'nothing to complain of'
# A complaint about rates, stamps and losses must last, since each start and each hiccup has some.
SETTLE = 2.5  # s
MUCH_LOST = 0.2  # share
MUCH_SKIPPED = 0.5  # share of the pairs
LONGEST = 10.0  # s; cameras that are slower than half of it are taken for silent
# A stamp later than its arrival, or so much earlier, is of another clock; s.
EARLY, LATE = -0.1, 10.0


class Health:
    """
    Keeps what happened lately and makes DiagnosticStatus messages of it.

    name: of the node, with its namespace. Changes for the worse and for the better are logged
    once. Everything is called in the graph's thread, but for note and trouble.
    """

    def __init__(self, name: str, values: dict[str, Any], journal: Journal) -> None:
        self._name = name.lstrip('/')
        self._values, self._journal = values, journal
        self.cameras: dict[str, Camera] = {}
        self._problem, self._problems, self._problem_at = '', 0, -np.inf
        self._paired, self._paired_at = 0, time.perf_counter()
        self._counted = 0, 0  # pairs submitted and skipped until the last look
        self._before: dict[str, tuple] = {}  # (level, message without numbers) by name
        self._settled: dict[str, Settled] = {}

    def expect(self, camera: str, topic: str, gives: str) -> None:
        """Images of 'rgb' or 'thermal' are to come on this topic; gives: see Camera."""
        self.cameras[camera] = Camera(camera, topic, gives)
        self._paired_at, self._counted = time.perf_counter(), (0, 0)  # of another worker

    def note(self, problem: str) -> None:
        """Something went wrong with one message, pair or command."""
        self._problem, self._problem_at = problem, time.perf_counter()
        self._problems += 1

    def trouble(self, camera: str, kind: str, problem: str) -> None:
        """Note that images of a camera are 'unusable' or 'left out' now."""
        if camera not in self.cameras:
            return
        self.cameras[camera].note(kind, problem)
        if kind == 'unusable':
            self._problems += 1

    def silent(self, seconds: float) -> list[str]:
        """Topics on which nothing has come for so long."""
        now = time.perf_counter()
        return [each.topic for each in self.cameras.values() if each.silent_for(now) > seconds]

    def patience(self, seconds: float) -> float:
        """Return the seconds, or two periods of the slowest camera where those are more."""
        periods = [2 * (each.period or 0) for each in self.cameras.values()]
        return max(seconds, min(max(periods, default=0), LONGEST))

    def _is_silent(self, camera: Camera) -> bool:
        patience = self.patience(max(1.0, self._values['camera_timeout_ms'] / 1e3))
        return camera.silent_for(time.perf_counter()) > patience

    def tracking(self, worker: Any, pairer: FramePairer, state: str) -> DiagnosticStatus:
        """Return the content of ~/status: state and numbers of the tracker and of the pairing."""
        last, message = worker.last, state
        if worker.waits_for is not None:
            message += f': the target waits for the pair at {worker.waits_for / 1e9:.3f}'
        values = {
            'state': state,
            'target': worker.identity,
            'modality': last.modality if last else '',
            'score': f'{last.score:.3f}' if last else '',
            'template_updates': worker.template_updates,
            'pairs': worker.submitted,
            'published': worker.finished,
            'dropped': worker.dropped,
            **{f'unpaired_{name}': count for name, count in pairer.unpaired.items()},
            **{f'late_{name}': count for name, count in pairer.late.items()},
            **{f'lost_{name}': f'{each.lost:.0%}' for name, each in self.cameras.items()},
            'single': pairer.single,
            'time_jumps': pairer.epoch,
            'problems': self._problems,
            'history': worker.history,
            'resident_mb': round(resident_mb()),
        }
        if pairer.skews:
            values['skew_ms'] = percentiles(pairer.skews, 1e-6)
        for stage, text in worker.latencies.summary().items():
            values[f'{stage}_ms'] = text
        doubtful = state not in (TrackState.IDLE.value, TrackState.TRACKING.value)
        return self._status('tracker', WARN if doubtful else OK, message, values)

    def overall(
        self,
        worker: Any,
        pairer: FramePairer,
        *,
        state: str,
        stalled: str | None,
        warning: str | None,
        confusion: str | None,
        reason: Callable[[str], str],
    ) -> list[DiagnosticStatus]:
        """
        Return the content of /diagnostics: tracker, pairing, and one status for each camera.

        stalled: what the watchdog says. warning: what looks wrong about the latest images.
        confusion: what looks wrong about the graph around.
        reason: says why nothing comes on a topic.
        """
        tracker, confusion = self.tracking(worker, pairer, state), self._settle('graph', confusion)
        skipping = self._skipping(worker)
        slow = self._settle('speed', None if stalled else skipping)
        if stalled:
            tracker.level, tracker.message = ERROR, stalled
        elif time.perf_counter() - self._problem_at < NOTED:
            tracker.level, tracker.message = WARN, self._problem
        elif warned := confusion or slow:
            tracker.level, tracker.message = WARN, warned
        cameras = [self._camera(camera, reason) for camera in self.cameras.values()]
        pairing = self._pairing(pairer, warning)
        graph = self._status('graph', WARN if confusion else OK, confusion or FINE, {})
        speed = self._status('speed', WARN if slow else OK, slow or FINE, {})
        for status in (graph, speed, pairing, *cameras):
            self._log_change(status)
        return [tracker, pairing, *cameras]

    def inactive(self, message: str) -> DiagnosticStatus:
        """Return what there is to say while the node is not active."""
        return self._status('tracker', OK, message, {})

    def _skipping(self, worker: Any) -> str | None:
        """Say that the tracker keeps up with few of the pairs since the last look."""
        before, self._counted = self._counted, (worker.submitted, worker.dropped)
        submitted, skipped = (now - then for now, then in zip(self._counted, before))
        if skipped <= MUCH_SKIPPED * submitted:
            return None
        took = worker.latencies.summary().get('track', '').partition('.')[0]
        return (
            f'{skipped / submitted:.0%} of the pairs are skipped'
            + (f': a step takes {took} ms' if took else '')
            + '; take a smaller model, a GPU or slower cameras'
        )

    def _pairing(self, pairer: FramePairer, warning: str | None) -> DiagnosticStatus:
        now = time.perf_counter()
        if pairer.paired != self._paired:
            self._paired, self._paired_at = pairer.paired, now
        cameras = self.cameras.values()
        alive = len(cameras) == 2 and not any(map(self._is_silent, cameras))
        begun = [camera.first_at or now for camera in cameras]
        since = max(self._paired_at, *begun) if alive else now
        losing = any(camera.lost > MUCH_LOST for camera in cameras)  # explains what is unpaired
        problem = warning or self._settle('pairing', None if losing else pairer.warning)
        if now - since > SETTLE and not pairer.by_arrival:
            problem = self._apart(pairer)
        counts = {f'unpaired_{name}': count for name, count in pairer.unpaired.items()}
        return self._status(
            'pairing',
            WARN if problem else OK,
            problem or FINE,
            {'pairs': pairer.paired, **counts},
        )

    def _apart(self, pairer: FramePairer) -> str:
        """
        Say why no two images pair, and the cure.

        Stamps of another clock are told from late images by their arrival: those lie ahead of it,
        or so far behind that no transport takes as long.
        """
        lag = 'unknown' if pairer.lag_ns is None else f'{pairer.lag_ns / 1e6:.1f} ms'
        text = (
            f'both cameras send images, but no two within slop_ms {pairer.slop_ns / 1e6:g} '
            f'(latest thermal minus rgb stamp: {lag})'
        )
        rgb, thermal = (self.cameras[name].delay for name in ('rgb', 'thermal'))
        if rgb is None or thermal is None:
            return text
        apart, offset = thermal - rgb, self._values['thermal_offset_ms'] + 1e3 * (thermal - rgb)
        set_offset = f'set thermal_offset_ms to {offset:.0f}'
        if 1e3 * abs(apart) <= self._values['camera_timeout_ms'] / 2:
            return f'{text}; {pairer.warning or "set thermal_offset_ms or slop_ms"}'
        foreign = {
            name: delay
            for name, delay in (('rgb', rgb), ('thermal', thermal))
            if not EARLY <= delay <= LATE
        }
        if foreign:
            clocks = ' and '.join(
                f'the {name} stamps are {abs(delay):.1f} s '
                f'{"behind" if delay > 0 else "ahead of"} the clock of the node'
                for name, delay in foreign.items()
            )
            return f'{text}: {clocks}; synchronise the clocks, or {set_offset}'
        late, delay = ('thermal', thermal) if apart > 0 else ('rgb', rgb)
        period = self.cameras['rgb' if apart > 0 else 'thermal'].period or 0.033
        return (
            f'{text}: {late} images arrive {delay:.1f} s after their stamps; if they are that '
            f'late, set camera_timeout_ms above {1.2e3 * abs(apart):.0f} and queue_depth above '
            f'{1.2 * abs(apart) / period:.0f}; if their clock is behind, {set_offset}'
        )

    def _camera(self, camera: Camera, reason: Callable[[str], str]) -> DiagnosticStatus:
        values = {
            'topic': camera.topic,
            'gives': camera.gives,
            'images': camera.count,
            'hz': f'{camera.hz():.1f}',
            'lost': f'{camera.lost:.0%}',
            'delay_ms': '' if camera.delay is None else f'{1e3 * camera.delay:.1f}',
        }
        level, message = self._judge(camera, reason)
        return self._status(camera.name, level, message, values)

    def _judge(self, camera: Camera, reason: Callable[[str], str]) -> tuple[bytes, str]:
        """Return the level and the message with the cure for the worst that is wrong with it."""
        topic = camera.topic
        others = [each for each in self.cameras.values() if each is not camera]
        alive = [each.name for each in others if not self._is_silent(each)]
        if self._is_silent(camera):
            if not camera.count:
                return WARN, f'no image on {topic} yet; {reason(topic)}'
            goes_on = f'going on with {alive[0]} alone while it lasts' if alive else (
                'nothing is tracked until images come; see the camera and its driver'
            )  # fmt: skip
            return ERROR, f'no image on {topic} any more; {goes_on}'
        if not camera.count:
            return OK, 'waiting for the first image'
        if unusable := camera.trouble('unusable'):
            goes_on = f'; going on with {alive[0]} alone' if alive else ''
            return ERROR, f'images on {topic} cannot be used{goes_on}: {unusable}'
        warnings = [self._settle(camera.name, camera.loss() if camera.lost > MUCH_LOST else None)]
        if left_out := camera.trouble('left out'):
            warnings.append(f'images on {topic} {left_out}')
        warnings = list(filter(None, warnings))
        return (WARN, '; '.join(warnings)) if warnings else (OK, ALIVE)

    def _settle(self, key: str, complaint: str | None) -> str | None:
        return self._settled.setdefault(key, Settled(SETTLE))(complaint)

    def _log_change(self, status: DiagnosticStatus) -> None:
        now = (status.level, kind_of(status.message))
        before = self._before.get(status.name, (OK, ''))
        self._before[status.name] = now
        if now == before or (status.level == OK and before[0] == OK):
            return
        severity = {OK: 'info', WARN: 'warning', ERROR: 'error'}[status.level]
        self._journal.say(severity, f'{status.name.rpartition(": ")[2]}: {status.message}')

    def _status(
        self, part: str, level: bytes, message: str, values: dict[str, Any]
    ) -> DiagnosticStatus:
        """Name it after the node, so that those of several nodes can be told apart."""
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        return DiagnosticStatus(
            name=f'{self._name}: {part}',
            hardware_id=', '.join(camera.topic for camera in self.cameras.values()),
            level=level,
            message=message,
            values=pairs,
        )
