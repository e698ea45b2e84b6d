"""What comes from a camera: how often, how late, how much of it gets lost."""

from collections import deque
from statistics import median
import time
from typing import Any

import numpy as np
from tpf_tracker_ros.ros.dds import cure_for_loss

PATIENCE = 2.0  # s until a camera that has not begun yet is reported
ENOUGH = 40  # images by which loss and delay are told
NOTED = 5.0  # s that a trouble with single images is shown


class Camera:
    """
    Watches the images of one camera as they arrive; one thread, but for trouble.

    name: 'rgb' or 'thermal'. gives: what its images show, as TrackingNetwork.second says it, or
    'rgb'. Moments are time.perf_counter() seconds.
    """

    def __init__(self, name: str, topic: str, gives: str) -> None:
        self.name, self.topic, self.gives = name, topic, gives
        self.count, self.size = 0, 0
        self.arrived_at = time.perf_counter() + PATIENCE
        self.first_at: float | None = None
        self._seen: deque[tuple[int, int]] = deque(maxlen=ENOUGH + 1)  # stamp, arrival in ns
        self._troubles: dict[str, tuple[float, str]] = {}
        self._rate = (time.perf_counter(), 0)

    def take(self, message: Any, stamp: int, arrival: float, now_ns: int) -> None:
        """Note an image; stamp and now_ns in ns, of its header and of the node's clock."""
        self.count += 1
        self.size, self.arrived_at = len(message.data), arrival
        self.first_at = self.first_at or arrival
        if not self._seen or stamp > self._seen[-1][0]:
            self._seen.append((stamp, now_ns))
        elif stamp < self._seen[-1][0]:
            self._seen.clear()

    @property
    def delay(self) -> float | None:
        """Median of arrival less stamp of the latest images, in seconds."""
        seen = list(self._seen)
        return median(now - stamp for stamp, now in seen) / 1e9 if len(seen) > 4 else None

    @property
    def period(self) -> float | None:
        """Seconds between images, by their stamps."""
        stamps = [stamp for stamp, _ in self._seen]
        steps = [b - a for a, b in zip(stamps, stamps[1:])]
        return median(steps) / 1e9 if steps else None

    @property
    def lost(self) -> float:
        """Share of the latest images that are missing, by the gaps between their stamps."""
        stamps = np.array([stamp for stamp, _ in self._seen])
        if len(stamps) <= ENOUGH:
            return 0.0
        steps = np.diff(stamps)
        # Not the shortest: it may be jitter. Frames that got lost are whole periods, or nearly.
        missing = np.floor(steps / np.percentile(steps, 15) + 0.3) - 1
        missing = missing.clip(0, None)
        return float(missing.sum() / (missing.sum() + len(steps)))

    def silent_for(self, now: float) -> float:
        """Seconds since the latest image; negative while it may still begin."""
        return now - self.arrived_at

    def hz(self) -> float:
        """Images a second since the last call."""
        (since, before), now = self._rate, time.perf_counter()
        self._rate = now, self.count
        return (self.count - before) / max(now - since, 1e-9)

    def note(self, kind: str, text: str) -> None:
        """Something is wrong with an image; any thread."""
        self._troubles[kind] = time.perf_counter(), text

    def trouble(self, kind: str) -> str | None:
        """Return what was noted in the last NOTED seconds."""
        when, text = self._troubles.get(kind, (-NOTED, ''))
        return text if time.perf_counter() - when < NOTED else None

    def loss(self) -> str:
        """One line with the cure; for when much gets lost."""
        return (
            f'{self.lost:.0%} of the images on {self.topic} get lost on the way, by their stamps '
            f'({self.size / 1e6:.1f} MB each); {cure_for_loss(self.size)}'
        )


class Settled:
    """A complaint that counts when it has been made for some seconds, and as long after it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._last, self._text = -np.inf, ''
        self._shown = False

    def __call__(self, complaint: str | None) -> str | None:
        """Give the complaint of now, if any; returns the one that counts."""
        now = time.perf_counter()
        if complaint:
            self._since = self._since or now
            self._last, self._text = now, complaint
            self._shown = self._shown or now - self._since >= self._seconds
        elif now - self._last >= self._seconds:
            self._since, self._shown = None, False
        return self._text if self._shown else None
