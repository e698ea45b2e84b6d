"""What happens to the target, told once: a line in the log, and a message of `~/state`."""

from collections.abc import Callable
import threading

import numpy as np
from std_msgs.msg import Header
from tpf_tracker_ros.ros.messages import Detection2D, to_detection
from tpf_tracker_ros.ros.worker import header_of, Step
from tpf_tracker_ros.tracking.tracker import TrackState

# Of ~/state beside those of TrackState: there is a target, but no pair is finished any more.
STALLED = 'STALLED'


class Events:
    """
    Compares each step with the one before; any thread may call.

    say: called with a severity and a line. publish: called with the state as a Detection2D, whose
    class_id is the state, at each change.
    """

    def __init__(
        self, say: Callable[[str, str], None], publish: Callable[[Detection2D], None]
    ) -> None:
        self._say, self._publish = say, publish
        self._lock = threading.Lock()
        self._epoch = 0
        self._identity, self._modality = '', ''
        self._header, self._box, self._score = Header(), np.zeros(4), 0.0
        self._state = TrackState.IDLE.value

    @property
    def state(self) -> str:
        """Return a TrackState's word, or STALLED."""
        return self._state

    def announce(self) -> None:
        """Publish how things are, for who joins late."""
        with self._lock:
            self._set(self._state, self._identity, True)

    def follow(self, step: Step) -> None:
        """Take a finished pair."""
        result, identity = step.result, step.identity
        state = result.state if result else TrackState.IDLE
        with self._lock:
            if step.paired.epoch != self._epoch:
                self._say('warning', 'time went back: pairing and tracking start over')
            self._epoch = step.paired.epoch
            if result:
                self._tell_changes(step)
            elif self._identity:
                self._say('info', f'target {self._identity} is dropped')
            self._header = header_of(step.paired)
            self._box, self._score = (result.box, result.score) if result else (np.zeros(4), 0.0)
            changed = (state.value, identity) != (self._state, self._identity)
            self._modality = result.modality if result else ''
            self._set(state.value, identity, changed)

    def stall(self) -> None:
        """No pair is finished any more; what is known of the target stays."""
        with self._lock:
            if self._identity:
                self._set(STALLED, self._identity, self._state != STALLED)

    def rest(self) -> None:
        """There is no target, and none is looked for: stopped, reset, or inactive."""
        with self._lock:
            if self._identity:
                self._say('info', f'target {self._identity} is dropped')
            self._box, self._score, self._modality = np.zeros(4), 0.0, ''
            idle = TrackState.IDLE.value
            self._set(idle, '', (idle, '') != (self._state, self._identity))

    def _tell_changes(self, step: Step) -> None:
        result, identity = step.result, step.identity
        x, y, w, h = result.box
        where = f'{w:.0f}x{h:.0f} px at {x:.0f},{y:.0f}'
        lost, was_lost = result.state is TrackState.LOST, self._state == TrackState.LOST
        if identity != self._identity:
            self._say('info', f'target {identity} accepted: {where}, by {result.modality}')
        elif lost and not was_lost:
            self._say('warning', f'target {identity} lost (score {result.score:.2f})')
        elif was_lost and not lost:
            self._say('info', f'target {identity} found again: {where}')
        elif result.modality != self._modality:
            severity = 'info' if '+' in result.modality else 'warning'
            self._say(severity, f'target {identity} is now tracked by {result.modality}')
        if result.template_updated:
            self._say('debug', f'target {identity}: template renewed')

    def _set(self, state: str, identity: str, changed: bool) -> None:
        self._state, self._identity = state, identity
        if changed:
            self._publish(
                to_detection(
                    self._box, self._score, self._header, identity=identity, class_id=state
                )
            )
