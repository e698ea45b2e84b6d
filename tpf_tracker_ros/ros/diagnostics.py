"""What the node says about itself: latencies by stage, and DiagnosticStatus messages."""

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
import re
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
import numpy as np
from tpf_tracker_ros.core.pairing import FramePairer
from tpf_tracker_ros.ros.dds import config_file, PROFILE_VARIABLE, shared_memory_segment
from tpf_tracker_ros.system.process import resident_mb
from tpf_tracker_ros.tracking.tracker import TrackState

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
WINDOW = 300  # latest values of a stage: 10 s at 30 Hz
RECENT = 5.0  # s that a problem is shown
ALIVE = 'images arrive'
PATIENCE = 2.0  # s until a camera that has not begun yet is reported


class Latencies:
    """Percentiles of the latest durations. One thread adds to a stage, another may read it."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))

    def add(self, stage: str, seconds: float) -> None:
        """Note one duration."""
        self._seconds[stage].append(seconds)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note how long the block took."""
        start = time.perf_counter()
        yield
        self.add(stage, time.perf_counter() - start)

    def summary(self) -> dict[str, str]:
        """'p50 / p95 / p99' in ms by stage."""
        return {stage: percentiles(values, 1e3) for stage, values in list(self._seconds.items())}


def percentiles(values: deque[float], factor: float) -> str:
    """'p50 / p95 / p99' of the values times factor."""
    at = np.percentile(list(values), (50, 95, 99)) * factor
    return ' / '.join(f'{value:.2f}' for value in at)


class Health:
    """
    Keeps what happened lately and makes DiagnosticStatus messages of it.

    Changes for the worse and for the better are logged once. Everything is called in the graph's
    thread, but for note.
    """

    def __init__(self, values: dict[str, Any], logger: Any) -> None:
        self._values, self._logger = values, logger
        self._topics: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._arrivals: dict[str, float] = {}  # of the latest image, time.perf_counter() seconds
        self._problem, self._problems, self._problem_at = '', 0, -np.inf
        self._paired = 0
        self._before: dict[str, tuple] = {}  # (level, message without numbers) by name
        self._rates: dict[str, tuple[float, int]] = {}

    def expect(self, camera: str, topic: str) -> None:
        """Images of 'rgb' or 'thermal' are to come on this topic."""
        self._topics[camera], self._counts[camera] = topic, 0
        self._arrivals[camera] = time.perf_counter() + PATIENCE

    def arrived(self, camera: str, size: int, when: float) -> None:
        """Note an image of size bytes that came at time.perf_counter() when."""
        self._counts[camera] += 1
        self._arrivals[camera] = when
        if self._counts[camera] > 1:
            return
        segment = shared_memory_segment()
        if segment and size > segment:
            self._logger.warning(
                f'{camera} images of {size} bytes do not fit into the shared-memory segment of '
                f'{segment} bytes, so many will be lost; start the node and the camera with '
                f'{PROFILE_VARIABLE}={config_file("fastdds.xml")}'
            )

    def note(self, problem: str) -> None:
        """Something went wrong with one message, pair or command."""
        self._problem, self._problem_at = problem, time.perf_counter()
        self._problems += 1

    def tracking(self, worker: Any, pairer: FramePairer) -> DiagnosticStatus:
        """Return the content of ~/status: state and numbers of the tracker and of the pairing."""
        state, last = worker.state, worker.last
        message = state.value
        if worker.waits_for is not None:
            message += f': the target waits for the pair at {worker.waits_for / 1e9:.3f}'
        values = {
            'state': state.value,
            'modality': last.modality if last else '',
            'score': f'{last.score:.3f}' if last else '',
            'template_updates': worker.template_updates,
            'pairs': worker.submitted,
            'published': worker.finished,
            'dropped': worker.dropped,
            **{f'unpaired_{name}': count for name, count in pairer.unpaired.items()},
            **{f'late_{name}': count for name, count in pairer.late.items()},
            'single': pairer.single,
            'time_jumps': pairer.epoch,
            'problems': self._problems,
            'resident_mb': round(resident_mb()),
        }
        if pairer.skews:
            values['skew_ms'] = percentiles(pairer.skews, 1e-6)
        for stage, text in worker.latencies.summary().items():
            values[f'{stage}_ms'] = text
        doubtful = state in (TrackState.UNCERTAIN, TrackState.LOST)
        return _status('tpf_tracker', WARN if doubtful else OK, message, values)

    def overall(
        self, worker: Any, pairer: FramePairer, warning: str | None, node: Any
    ) -> list[DiagnosticStatus]:
        """
        Return the content of /diagnostics: tracker, pairing, and one status for each camera.

        warning: what looks wrong about the latest images.
        """
        tracker = self.tracking(worker, pairer)
        tracker.name = 'tpf_tracker: tracker'
        if time.perf_counter() - self._problem_at < RECENT:
            tracker.level, tracker.message = WARN, self._problem
        cameras = [self._camera(camera, node) for camera in self._topics]
        alive = len(cameras) == 2 and all(camera.message == ALIVE for camera in cameras)
        pairing = self._pairing(pairer, alive, warning)
        for status in (pairing, *cameras):
            self._log_change(status)
        return [tracker, pairing, *cameras]

    def _pairing(self, pairer: FramePairer, alive: bool, warning: str | None) -> DiagnosticStatus:
        before, self._paired = self._paired, pairer.paired
        problem = pairer.warning or warning
        if alive and pairer.paired == before:
            lag = 'unknown' if pairer.lag_ns is None else f'{pairer.lag_ns / 1e6:.1f} ms'
            problem = (
                f'both cameras send images, but no two within slop_ms {pairer.slop_ns / 1e6:g} '
                f'(latest thermal minus rgb stamp: {lag}); synchronise their clocks, or set '
                'thermal_offset_ms or slop_ms'
            )
        counts = {f'unpaired_{name}': count for name, count in pairer.unpaired.items()}
        return _status(
            'tpf_tracker: pairing',
            WARN if problem else OK,
            problem or 'nothing to complain of',
            {'pairs': pairer.paired, **counts},
        )

    def _camera(self, camera: str, node: Any) -> DiagnosticStatus:
        topic, count, now = self._topics[camera], self._counts[camera], time.perf_counter()
        since, before = self._rates.get(camera, (now - 1, count))
        self._rates[camera] = (now, count)
        values = {'topic': topic, 'images': count, 'hz': f'{(count - before) / (now - since):.1f}'}
        if now - self._arrivals[camera] <= max(1.0, self._values['camera_timeout_ms'] / 1e3):
            message = ALIVE if count else 'waiting for the first image'
            return _status(f'tpf_tracker: {camera}', OK, message, values)
        if not count:
            level, message = WARN, f'no image on {topic} yet; {_reason(node, topic)}'
        else:
            others = [name for name in self._topics if name != camera]
            level, message = ERROR, f'no image on {topic} any more'
            if others:
                message += f'; going on with {others[0]} alone while it lasts'
        return _status(f'tpf_tracker: {camera}', level, message, values)

    def _log_change(self, status: DiagnosticStatus) -> None:
        now = (status.level, re.sub(r'\d', '', status.message))
        before = self._before.get(status.name, (OK, ''))
        self._before[status.name] = now
        if now == before or (status.level == OK and before[0] == OK):
            return
        text = f'{status.name.removeprefix("tpf_tracker: ")}: {status.message}'
        if status.level == OK:  # rclpy refuses two severities from one line
            self._logger.info(text)
        else:
            self._logger.warning(text)


def _reason(node: Any, topic: str) -> str:
    """Why nothing comes on a topic."""
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return 'nobody publishes it; remap it to the topic of your camera'
    kinds = {publisher.topic_type for publisher in publishers}
    return f'{len(publishers)} publish it as {", ".join(sorted(kinds))}'


def _status(name: str, level: bytes, message: str, values: dict[str, Any]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, values=pairs)
