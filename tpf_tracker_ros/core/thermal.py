"""
Mapping raw thermal counts to 8 bits without flicker.

A linear division of 16-bit counts leaves a scene of a few degrees in two grey levels, and a
range taken anew for each frame flickers when something hot enters. So the range follows
percentiles of the frame, smoothed over time.
"""

import numpy as np


class ThermalRange:
    """
    Percentile range of a thermal stream, smoothed exponentially over frames.

    One thread moves the range, others may apply it meanwhile.

    low, high: percentiles mapped to 0 and 255. smoothing: share of the old range that each new
    frame keeps (0: none). uint8 images are displays already and pass unchanged.
    """

    def __init__(self, low: float = 1.0, high: float = 99.0, smoothing: float = 0.9) -> None:
        self.low, self.high, self.smoothing = low, high, smoothing
        self.reset()

    def reset(self, thermal: np.ndarray | None = None) -> None:
        """Forget the stream; this frame (H, W), or the next one, sets the range alone."""
        self._range = None if thermal is None else self._percentiles(thermal)

    def update(self, thermal: np.ndarray) -> None:
        """Let a whole frame (H, W) move the range. NaN and infinite pixels do not count."""
        now = self._percentiles(thermal)
        if now is None:
            return
        if self._range is None:
            self._range = now
        else:
            self._range = self.smoothing * self._range + (1 - self.smoothing) * now

    def apply(self, thermal: np.ndarray) -> np.ndarray:
        """Return a frame or a crop of it (H, W) as uint8 by the current range; NaN becomes 0."""
        if thermal.dtype == np.uint8:
            return thermal
        current = self._range
        if current is None:
            return np.zeros(thermal.shape, np.uint8)
        low, high = current
        scaled = (thermal.astype(np.float32) - low) * (255 / max(high - low, 1e-6))
        if thermal.dtype.kind == 'f':
            scaled = np.nan_to_num(scaled, nan=0, posinf=255, neginf=0)
        return scaled.clip(0, 255).astype(np.uint8)

    def to_uint8(self, thermal: np.ndarray) -> np.ndarray:
        """Update by this frame, then map it."""
        self.update(thermal)
        return self.apply(thermal)

    def _percentiles(self, thermal: np.ndarray) -> np.ndarray | None:
        """Low and high of a frame (H, W), or None where it has none to tell."""
        if thermal.dtype == np.uint8:
            return None
        sample = thermal[::4, ::4]  # a sixteenth of the pixels fixes a percentile well enough
        # np.percentile partitions, which takes ten times as long as sorting 16-bit counts.
        ordered = np.sort(
            sample[np.isfinite(sample)] if sample.dtype.kind == 'f' else sample, None
        )
        if not ordered.size:
            return None
        places = np.array([self.low, self.high]) / 100 * (ordered.size - 1)
        below = places.astype(int)
        around = ordered[[below, np.minimum(below + 1, ordered.size - 1)]].astype(np.float64)
        return around[0] + (places - below) * (around[1] - around[0])
