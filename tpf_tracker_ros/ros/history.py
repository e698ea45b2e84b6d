"""The latest pairs as they came, bounded in bytes: a target may name one of the past."""

from collections import deque

from tpf_tracker_ros.core.pairing import Paired


class History:
    """
    The newest pairs of one epoch, oldest first, within limit_mb megabytes; the newest always.

    Pairs hold Frames, whose messages hold the images as they came over the wire.
    """

    def __init__(self, limit_mb: float) -> None:
        self.limit_mb = limit_mb
        self._pairs: deque[tuple[Paired, int]] = deque()
        self._bytes = 0

    def add(self, paired: Paired) -> None:
        """Keep this pair; a new epoch forgets those of before."""
        if self._pairs and paired.epoch != self._pairs[-1][0].epoch:
            self.clear()
        size = sum(frame.size for frame in (paired.rgb, paired.thermal) if frame is not None)
        self._pairs.append((paired, size))
        self._bytes += size
        while self._bytes > 1e6 * self.limit_mb and len(self._pairs) > 1:
            self._bytes -= self._pairs.popleft()[1]

    def clear(self) -> None:
        """Forget all."""
        self._pairs.clear()
        self._bytes = 0

    def pairs(self) -> list[Paired]:
        """Give them, oldest first."""
        return [paired for paired, _ in self._pairs]

    @property
    def newest(self) -> Paired | None:
        """Return the newest pair."""
        return self._pairs[-1][0] if self._pairs else None

    def __str__(self) -> str:
        """Tell how much it holds: '38 pairs, 61.2 MB, 1.2 s'."""
        stamps = [paired.stamp for paired, _ in list(self._pairs)]
        seconds = (stamps[-1] - stamps[0]) / 1e9 if stamps else 0.0
        return f'{len(stamps)} pairs, {self._bytes / 1e6:.1f} MB, {seconds:.1f} s'
