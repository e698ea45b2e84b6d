"""
Pairing of RGB and thermal frames by time: nearest neighbour with a mutual check.

Payloads are opaque (messages, file offsets, arrays), so the node and the bag reader pair with
this one class. A decision is taken as soon as no later frame can change it, hence the pairs do
not depend on how the two streams interleave on arrival. One dropped frame costs one pair and
never shifts the following ones; output never goes back in time.
"""

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any

from tpf_tracker_ros.core.errors import TpfError

STREAMS = ('rgb', 'thermal')
MODES = ('rgb+thermal', *STREAMS)

# A step back this long is a new start of time (bag loop, reset of a simulation); a shorter one
# is a frame that arrived out of order.
JUMP_NS = 100_000_000
# The next frame of a stream comes no sooner than this part of the shortest interval seen lately,
# once this many were seen: the first ones may all be too long, from drops.
BOUND, ENOUGH = 0.75, 4


@dataclass(frozen=True)
class Paired:
    """
    Two payloads of one instant; one of them is None where a camera is absent.

    stamp: ns, as given to add for the rgb frame (for the thermal frame where rgb is None).
    skew: thermal minus rgb time in ns after the offsets, None where one is absent.
    epoch: grows by one at each backward jump of time; a tracker starts over when it changes.
    """

    rgb: Any
    thermal: Any
    stamp: int
    skew: int | None
    epoch: int


class _Stream:
    """The waiting frames of one camera: (corrected time, stamp, payload), oldest first."""

    def __init__(self) -> None:
        self.offset = 0
        self.queue: deque[tuple[int, int, Any]] = deque()
        self.last: int | None = None  # corrected time of the newest frame
        self.intervals: deque[int] = deque(maxlen=16)
        self.stale_from: int | None = None  # still in the time before the other's jump
        self.late = 0
        self.unpaired = 0

    def drop(self) -> None:
        self.queue.popleft()
        self.unpaired += 1

    def clear(self) -> None:
        self.unpaired += len(self.queue)
        self.queue.clear()


class FramePairer:
    """
    Feed frames of both cameras in arrival order, get pairs in time order.

    mode: 'rgb+thermal', or 'rgb' / 'thermal' alone (every frame comes out at once, unpaired).
    slop_ns: largest distance in time of a pair; frames without a partner within it are dropped.
    *_offset_ns: added to the stamps of that stream before they are compared.
    camera_timeout_ns: when one stream is this far behind the other, the other goes on alone,
        until the missing camera is back.
    depth: most frames of one stream that wait for a partner; keep it above the number that
        arrive within camera_timeout_ns, or the first ones after a camera's death are lost.

    Not thread safe.
    """

    def __init__(
        self,
        *,
        mode: str = 'rgb+thermal',
        slop_ns: int = 15_000_000,
        rgb_offset_ns: int = 0,
        thermal_offset_ns: int = 0,
        camera_timeout_ns: int = 300_000_000,
        depth: int = 16,
    ) -> None:
        if mode not in MODES:
            raise TpfError(f'mode {mode!r} is unknown; choose one of {", ".join(MODES)}')
        self.mode = mode
        self.depth = depth
        self.streams = {name: _Stream() for name in STREAMS}
        self.configure(
            slop_ns=slop_ns,
            rgb_offset_ns=rgb_offset_ns,
            thermal_offset_ns=thermal_offset_ns,
            camera_timeout_ns=camera_timeout_ns,
        )
        self.epoch = 0
        self.paired = 0
        self.single = 0
        self.skews: deque[int] = deque(maxlen=256)  # ns, of the latest pairs
        self._start: int | None = None  # time of the first frame of this epoch
        self._last_out: int | None = None  # time of the latest output of this epoch
        self._newest: int | None = None  # newest time of either stream in this epoch
        self._behind = 0  # frames in a row that are not newer than that

    def configure(
        self,
        *,
        slop_ns: int,
        rgb_offset_ns: int,
        thermal_offset_ns: int,
        camera_timeout_ns: int,
    ) -> None:
        """Change these between two frames."""
        self.slop_ns, self.camera_timeout_ns = slop_ns, camera_timeout_ns
        self.streams['rgb'].offset = rgb_offset_ns
        self.streams['thermal'].offset = thermal_offset_ns

    def add(self, stream: str, stamp_ns: int, payload: Any) -> list[Paired]:
        """Take one frame of 'rgb' or 'thermal'; returns what is complete now, oldest first."""
        here = self.streams[stream]
        other = self.streams['thermal' if stream == 'rgb' else 'rgb']
        time = stamp_ns + here.offset
        if self._stepped_back(here, time):
            self._start_over(here, other, time)
        if here.last is not None and time <= here.last:
            here.late += 1
            return []
        if here.last is not None:
            here.intervals.append(time - here.last)
        here.last = time
        if here.stale_from is not None:
            if time - here.stale_from <= self.camera_timeout_ns:
                here.late += 1
                return []
            here.stale_from = None
        self._start = time if self._start is None else self._start
        self._newest = time if self._newest is None else max(self._newest, time)

        here.queue.append((time, stamp_ns, payload))
        pairs = self._match(final=False)
        if self._absent(other, time):
            pairs += self._match(final=True) + self._alone(stream)
        while len(here.queue) > self.depth:
            here.drop()
        return pairs

    def flush(self) -> list[Paired]:
        """Give the pairs that only waited for later frames: call it at the end of a recording."""
        pairs = self._match(final=True)
        for stream in self.streams.values():
            stream.clear()
        return pairs

    @property
    def late(self) -> dict[str, int]:
        """Frames by stream that arrived out of order, twice, or from before a jump."""
        return {name: stream.late for name, stream in self.streams.items()}

    @property
    def unpaired(self) -> dict[str, int]:
        """Frames by stream that had no partner within slop_ns."""
        return {name: stream.unpaired for name, stream in self.streams.items()}

    @property
    def lag_ns(self) -> int | None:
        """Newest thermal minus newest rgb time, after the offsets."""
        rgb, thermal = (self.streams[name].last for name in STREAMS)
        return None if rgb is None or thermal is None else thermal - rgb

    @property
    def warning(self) -> str | None:
        """One line when slop_ns is too wide for the frame rate to tell neighbours apart."""
        periods = [
            median(s.intervals) for s in self.streams.values() if len(s.intervals) >= ENOUGH
        ]
        if self.mode != 'rgb+thermal' or not periods or 2 * self.slop_ns <= min(periods):
            return None
        return (
            f'slop {self.slop_ns / 1e6:g} ms exceeds half of the {min(periods) / 1e6:.1f} ms '
            f'between frames; set slop_ms to {min(periods) / 2e6:.1f} or less'
        )

    def _stepped_back(self, here: _Stream, time: int) -> bool:
        """Whether time starts anew with this frame of the stream."""
        if here.last is not None and time < here.last - JUMP_NS:
            return True
        # Loops shorter than JUMP_NS, and a stream whose clock is behind that of a dead one:
        # nothing would ever come out again.
        behind = self._newest is not None and time <= self._newest
        self._behind = self._behind + 1 if behind else 0
        return self._behind >= 2 * self.depth

    def _start_over(self, here: _Stream, other: _Stream, time: int) -> None:
        here.clear()
        here.last = None
        self._behind = 0
        if here.stale_from is not None:  # the other stream has jumped before: same jump
            here.stale_from = None
            return
        self.epoch += 1
        self._start = self._newest = self._last_out = None
        if other.last is not None and other.last > time:
            other.clear()
        if other.last is not None and other.last > time + JUMP_NS:
            other.stale_from = other.last
        else:
            other.last = None

    def _absent(self, other: _Stream, now: int) -> bool:
        """Whether to go on without the other stream."""
        if self.mode != 'rgb+thermal':
            return True
        seen = self._start
        if other.last is not None and other.stale_from is None:
            seen = max(seen, other.last)
        return now - seen > self.camera_timeout_ns

    def _match(self, *, final: bool) -> list[Paired]:
        """
        Pair what is sure.

        Part 1 takes the earliest waiting frame a; its nearest neighbour can only be the head
        b of the other queue. Part 2: a is dropped if b is too far, or nearer to a's successor.
        Part 3: without a successor yet, wait while one could still come nearer to b than a.
        """
        rgb, thermal = self.streams['rgb'], self.streams['thermal']
        pairs = []
        while rgb.queue and thermal.queue:
            early, late = rgb, thermal
            if thermal.queue[0][0] < rgb.queue[0][0]:
                early, late = thermal, rgb
            a, b = early.queue[0][0], late.queue[0][0]
            distance = b - a
            has_successor = len(early.queue) > 1
            if distance > self.slop_ns or (
                has_successor and abs(early.queue[1][0] - b) < distance
            ):
                early.drop()
            elif final or has_successor or 2 * distance <= self._soonest_next():
                pairs += self._emit(rgb.queue.popleft(), thermal.queue.popleft())
            else:
                break
        return pairs

    def _soonest_next(self) -> float:
        """Nanoseconds after a frame before which its stream has no next one."""
        intervals = [stream.intervals for stream in self.streams.values()]
        if min(map(len, intervals)) < ENOUGH:
            return 0.0
        return BOUND * min(map(min, intervals))

    def _alone(self, stream: str) -> list[Paired]:
        """All waiting frames of this stream without a partner."""
        pairs = []
        queue = self.streams[stream].queue
        while queue:
            frame = queue.popleft()
            pairs += self._emit(*((frame, None) if stream == 'rgb' else (None, frame)))
        return pairs

    def _emit(self, rgb: tuple | None, thermal: tuple | None) -> list[Paired]:
        time, stamp, _ = rgb or thermal
        if self._last_out is not None and time <= self._last_out:
            for stream, frame in zip(STREAMS, (rgb, thermal)):
                self.streams[stream].unpaired += frame is not None
            return []
        self._last_out = time
        skew = None
        if rgb and thermal:
            skew = thermal[0] - rgb[0]
            self.paired += 1
            self.skews.append(skew)
        else:
            self.single += 1
        return [Paired(rgb and rgb[2], thermal and thermal[2], stamp, skew, self.epoch)]
