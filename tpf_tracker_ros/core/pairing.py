"""
Pairing of RGB and thermal frames by time: nearest neighbour with a mutual check.

Payloads are opaque (messages, file offsets, arrays), so the node and the bag reader pair with
this one class. A decision is taken as soon as no later frame can change it, hence the pairs do
not depend on how the two streams interleave on arrival. One dropped frame costs one pair and
never shifts the following ones; output never goes back in time.

For a thermal camera much slower than the RGB one there is the policy 'hold': each RGB frame goes
out at once, with the newest thermal frame that is not too old.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from tpf_tracker_ros.core.errors import TpfError

STREAMS = ('rgb', 'thermal')
MODES = ('rgb+thermal', *STREAMS)
POLICIES = ('nearest', 'hold')

# A step back this long is a new start of time (bag loop, reset of a simulation); a shorter one
# is a frame that arrived out of order.
JUMP_NS = 100_000_000
# The next frame of a stream comes no sooner than this part of the shortest interval seen lately,
# once this many were seen: the first ones may all be too long, from drops.
BOUND, ENOUGH = 0.75, 4
# A clock that gives the same stamp so often in a row stands still; so many new ones: it runs.
STUCK = 5
# slop may exceed half the period by so much before it is called too wide, since both jitter.
MARGIN = 1.25
RECENT = 64  # frames over which periods, distances and the unpaired share are taken
MANY_UNPAIRED = 0.2  # share
# With cameras slower than camera_timeout_ns the other one may be so many periods behind.
PERIODS, LONGEST_NS = 1.5, 5_000_000_000
SLOWER = 1.5  # a camera whose period is so many times the other's has another rate


@dataclass(frozen=True)
class Paired:
    """
    Two payloads of one instant; one of them is None where a camera is absent.

    stamp: ns, as given to add for the rgb frame (for the thermal frame where rgb is None); its
    arrival where the stamps are of no use.
    skew: thermal minus rgb time in ns after the offsets, None where one is absent.
    epoch: grows by one at each backward jump of time; a tracker starts over when it changes.
    """

    rgb: Any
    thermal: Any
    stamp: int
    skew: int | None
    epoch: int


def pairing_settings(milliseconds: Mapping[str, float]) -> dict[str, int]:
    """Return settings of FramePairer (slop_ns, …) from those that users give (slop_ms, …)."""
    return {f'{name[:-3]}_ns': round(value * 1e6) for name, value in milliseconds.items()}


class _Stream:
    """The waiting frames of one camera: (corrected time, stamp, payload), oldest first."""

    def __init__(self) -> None:
        self.offset = 0
        self.queue: deque[tuple[int, int, Any]] = deque()
        self.last: int | None = None  # corrected time of the newest frame
        self.before: int | None = None  # that of the latest one to arrive
        self.resumed: int | None = None  # corrected time of the first frame after a pause
        self.intervals: deque[int] = deque(maxlen=16)
        self.times: deque[int] = deque(maxlen=RECENT)  # corrected, of the latest frames
        self.fates: deque[bool] = deque(maxlen=RECENT)  # whether they found a partner
        self.stale_from: int | None = None  # still in the time before the other's jump
        self.late = 0
        self.unpaired = 0
        self.stuck = False  # its stamps are zero or stand still
        self._stamp: int | None = None
        self._same = 0  # stamps in a row that contradict `stuck`

    @property
    def period(self) -> float | None:
        """Median ns between frames, over the time in which none paused."""
        times = list(self.times)
        steps = [b - a for a, b in zip(times, times[1:]) if b > a]
        return median(steps) if len(steps) >= ENOUGH else None

    def judge_clock(self, stamp: int) -> None:
        """Tell a clock that stands still from one that runs; a stamp of zero is no time at all."""
        stands = stamp <= 0 or stamp == self._stamp
        self._same = self._same + 1 if stands != self.stuck else 0
        self._stamp = stamp
        if self._same >= STUCK or (stamp <= 0 and not self.stuck):
            self.stuck, self._same = not self.stuck, 0

    def note(self, time: int, pause: int) -> None:
        """Take a frame of this time; a longer silence than pause before it was a pause."""
        if self.last is not None:
            usual = 3 * median(self.intervals) if len(self.intervals) >= ENOUGH else 0
            if time - self.last > max(pause, usual):
                self.resumed = time
            self.intervals.append(time - self.last)
        self.last = time
        self.times.append(time)

    def forget(self) -> None:
        """Begin anew: time has."""
        self.clear()
        self.last = self.resumed = self.stale_from = None
        self.times.clear()

    def lose(self) -> None:
        """Count one frame that stays without a partner."""
        self.unpaired += 1
        self.fates.append(False)

    def drop(self) -> None:
        self.queue.popleft()
        self.lose()

    def clear(self) -> None:
        self.unpaired += len(self.queue)
        self.queue.clear()


class FramePairer:
    """
    Feed frames of both cameras in arrival order, get pairs in time order.

    mode: 'rgb+thermal', or 'rgb' / 'thermal' alone (every frame comes out at once, unpaired).
    policy: 'nearest' or 'hold', see the module.
    slop_ns: largest distance in time of a pair; frames without a partner within it are dropped.
    *_offset_ns: added to the stamps of that stream before they are compared.
    camera_timeout_ns: when one stream is this far behind the other, the other goes on alone,
        until the missing camera is back; but no less than one and a half of its own periods.
    hold_ns: with 'hold', largest distance in time of the thermal frame; beyond it RGB goes alone.
    depth: most frames of one stream that wait for a partner; keep it above the number that
        arrive within camera_timeout_ns, or the first ones after a camera's death are lost.

    Not thread safe.
    """

    def __init__(
        self,
        *,
        mode: str = 'rgb+thermal',
        policy: str = 'nearest',
        slop_ns: int = 15_000_000,
        rgb_offset_ns: int = 0,
        thermal_offset_ns: int = 0,
        camera_timeout_ns: int = 300_000_000,
        hold_ns: int = 250_000_000,
        depth: int = 16,
    ) -> None:
        for name, value, known in (('mode', mode, MODES), ('policy', policy, POLICIES)):
            if value not in known:
                raise TpfError(f'{name} {value!r} is unknown; choose one of {", ".join(known)}')
        self.mode, self.policy = mode, policy
        self.depth = depth
        self.streams = {name: _Stream() for name in STREAMS}
        self.configure(
            slop_ns=slop_ns,
            rgb_offset_ns=rgb_offset_ns,
            thermal_offset_ns=thermal_offset_ns,
            camera_timeout_ns=camera_timeout_ns,
            hold_ns=hold_ns,
        )
        self.by_arrival = False  # whether the stamps of a stream are of no use
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
        hold_ns: int = 250_000_000,
    ) -> None:
        """Change these between two frames."""
        self.slop_ns, self.camera_timeout_ns = slop_ns, camera_timeout_ns
        self.hold_ns = hold_ns
        self.streams['rgb'].offset = rgb_offset_ns
        self.streams['thermal'].offset = thermal_offset_ns

    def add(
        self, stream: str, stamp_ns: int, payload: Any, *, arrival_ns: int | None = None
    ) -> list[Paired]:
        """
        Take one frame of 'rgb' or 'thermal'; returns what is complete now, oldest first.

        arrival_ns: when it came, on one clock for both. It takes the place of the stamps of both
        streams while one of them has stamps that are zero or stand still.
        """
        here = self.streams[stream]
        other = self.streams['thermal' if stream == 'rgb' else 'rgb']
        if arrival_ns is not None:
            self._choose_clock(here, stamp_ns)
            stamp_ns = arrival_ns if self.by_arrival else stamp_ns
        time = stamp_ns + here.offset
        if self._stepped_back(here, time):
            self._start_over(here, other, time)
        if here.last is not None and time <= here.last:
            here.late += 1
            return []
        here.note(time, self.camera_timeout_ns)
        if here.stale_from is not None:
            if time - here.stale_from <= self.camera_timeout_ns:
                here.late += 1
                return []
            here.stale_from = None
        self._start = time if self._start is None else self._start
        self._newest = time if self._newest is None else max(self._newest, time)

        here.queue.append((time, stamp_ns, payload))
        holds = self.policy == 'hold' and self.mode == 'rgb+thermal'
        pairs = self._hold(here) if holds else self._match(final=False)
        if self._absent(here, other):
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
        """One line with the cure when stamps, slop_ns or the rates of the cameras do not fit."""
        if self.mode != 'rgb+thermal':
            return None
        if self.by_arrival:
            names = ' and '.join(name for name, s in self.streams.items() if s.stuck)
            return (
                f'the stamps of the {names} images are zero or stand still, so images are paired '
                'by their arrival; let the camera driver fill header.stamp'
            )
        return self._wide_slop() or self._many_unpaired()

    def _wide_slop(self) -> str | None:
        """When slop_ns is too wide for the frame rate to tell neighbours apart."""
        periods = [s.period for s in self.streams.values() if s.period]
        if self.policy == 'hold' or not periods or 2 * self.slop_ns <= MARGIN * min(periods):
            return None
        return (
            f'slop {self.slop_ns / 1e6:g} ms exceeds half of the {min(periods) / 1e6:.1f} ms '
            f'between frames; set slop_ms to {min(periods) / 2e6:.1f} or less'
        )

    def _many_unpaired(self) -> str | None:
        """When a camera goes to waste: its rate is another, or it is half a period apart."""
        rgb, thermal = (self.streams[name] for name in STREAMS)
        shares = {
            name: 1 - sum(s.fates) / len(s.fates)
            for name, s in self.streams.items()
            if len(s.fates) == RECENT
        }
        if self.policy == 'hold' or max(shares.values(), default=0) < MANY_UNPAIRED:
            return None
        name = max(shares, key=shares.get)
        text = f'{shares[name]:.0%} of the {name} images find no partner within slop_ms'
        periods = {key: s.period for key, s in self.streams.items()}
        if all(periods.values()) and max(periods.values()) > SLOWER * min(periods.values()):
            hz = {key: f'{1e9 / period:.1f} Hz' for key, period in periods.items()}
            text += f': rgb comes at {hz["rgb"]}, thermal at {hz["thermal"]}'
            if periods['thermal'] > periods['rgb']:
                return f'{text}; set pairing to hold, which tracks every rgb image'
            return f'{text}; let both cameras run at one rate'
        apart = self.distance_ns
        if apart is None or abs(apart) < self.slop_ns / 2:
            return f'{text} {self.slop_ns / 1e6:g}; see whether images get lost on the way'
        offset = (thermal.offset - rgb.offset - apart) / 1e6
        return (
            f'{text} {self.slop_ns / 1e6:g}: the cameras are {abs(apart) / 1e6:.1f} ms apart; '
            f'trigger them together, or set thermal_offset_ms to {offset:.1f}'
        )

    @property
    def distance_ns(self) -> float | None:
        """Median of thermal less rgb time over the latest rgb frames and their nearest ones."""
        rgb, thermal = (list(self.streams[name].times) for name in STREAMS)
        if len(rgb) < ENOUGH or len(thermal) < ENOUGH:
            return None
        nearest = []
        for time in rgb:
            at = bisect_left(thermal, time)
            before, after = thermal[max(0, at - 1)], thermal[min(at, len(thermal) - 1)]
            nearest.append(min(before - time, after - time, key=abs))
        return median(nearest)

    def _choose_clock(self, here: _Stream, stamp: int) -> None:
        """Pair by arrival while the stamps of a stream in use say nothing; both or none."""
        here.judge_clock(stamp)
        by_arrival = any(stream.stuck for stream in self.streams.values())
        if by_arrival != self.by_arrival:
            self.by_arrival = by_arrival
            for stream in self.streams.values():
                stream.forget()
            self.epoch += self._start is not None
            self._start = self._newest = self._last_out = None

    def _stepped_back(self, here: _Stream, time: int) -> bool:
        """Whether time starts anew with this frame of the stream."""
        if here.last is not None and time < here.last - JUMP_NS:
            return True
        # Loops shorter than JUMP_NS, and a stream whose clock is behind that of a dead one:
        # nothing would ever come out again.
        again, here.before = time == here.before, time
        if again:  # a double, or a clock that stands still
            return False
        behind = self._newest is not None and time <= self._newest
        self._behind = self._behind + 1 if behind else 0
        return self._behind >= 2 * self.depth

    def _start_over(self, here: _Stream, other: _Stream, time: int) -> None:
        jumped_second = here.stale_from is not None  # the other stream has jumped before
        here.forget()
        self._behind = 0
        if jumped_second:
            return
        self.epoch += 1
        self._start = self._newest = self._last_out = None
        if other.last is not None and other.last > time:
            other.clear()
        other.resumed = None
        other.times.clear()
        if other.last is not None and other.last > time + JUMP_NS:
            other.stale_from = other.last
        else:
            other.last = None

    def _absent(self, here: _Stream, other: _Stream) -> bool:
        """Whether to go on without the other stream: not when both have paused together."""
        if self.mode != 'rgb+thermal':
            return True
        seen = self._start if here.resumed is None else max(self._start, here.resumed)
        if other.last is not None and other.stale_from is None:
            seen = max(seen, other.last)
        slow = min(PERIODS * (here.period or 0), LONGEST_NS)
        return here.last - seen > max(self.camera_timeout_ns, slow)

    def _hold(self, here: _Stream) -> list[Paired]:
        """Give each waiting rgb frame the newest thermal one, which stays for the next."""
        rgb, thermal = self.streams['rgb'], self.streams['thermal']
        while len(thermal.queue) > 1:
            thermal.queue.popleft()
        pairs = []
        while here is rgb and rgb.queue and thermal.queue:
            held = thermal.queue[0]
            fresh = abs(held[0] - rgb.queue[0][0]) <= self.hold_ns
            pairs += self._emit(rgb.queue.popleft(), held if fresh else None)
        return pairs

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
        if self.policy == 'hold' and stream == 'rgb':
            self.streams['thermal'].queue.clear()  # too old, whatever hold_ns is
        while queue:
            frame = queue.popleft()
            pairs += self._emit(*((frame, None) if stream == 'rgb' else (None, frame)))
        return pairs

    def _emit(self, rgb: tuple | None, thermal: tuple | None) -> list[Paired]:
        time, stamp, _ = rgb or thermal
        if self._last_out is not None and time <= self._last_out:
            for stream, frame in zip(STREAMS, (rgb, thermal)):
                if frame is not None:
                    self.streams[stream].lose()
            return []
        self._last_out = time
        skew = None
        if rgb and thermal:
            skew = thermal[0] - rgb[0]
            self.paired += 1
            self.skews.append(skew)
            for stream in self.streams.values():
                stream.fates.append(True)
        else:
            self.single += 1
        return [Paired(rgb and rgb[2], thermal and thermal[2], stamp, skew, self.epoch)]
