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

    low, high: percentiles mapped to 0 and 255. smoothing: share of the old range that each new
    frame keeps (0: none). uint8 images are displays already and pass unchanged.
    """

    def __init__(self, low: float = 1.0, high: float = 99.0, smoothing: float = 0.9) -> None:
        self.low, self.high, self.smoothing = low, high, smoothing
        self.reset()

    def reset(self) -> None:
        """Forget the stream; the next frame sets the range alone."""
        self._range: np.ndarray | None = None

    def update(self, thermal: np.ndarray) -> None:
        """Let a whole frame (H, W) move the range. NaN and infinite pixels do not count."""
        if thermal.dtype == np.uint8:
            return
        sample = thermal[::4, ::4]  # a sixteenth of the pixels fixes a percentile well enough
        sample = sample[np.isfinite(sample)]
        if sample.size == 0:
            return
        now = np.percentile(sample, (self.low, self.high))
        if self._range is None:
            self._range = now
        else:
            self._range = self.smoothing * self._range + (1 - self.smoothing) * now

    def apply(self, thermal: np.ndarray) -> np.ndarray:
        """Return a frame or a crop of it (H, W) as uint8 by the current range; NaN becomes 0."""
        if thermal.dtype == np.uint8:
            return thermal
        if self._range is None:
            return np.zeros(thermal.shape, np.uint8)
        low, high = self._range
        scaled = (thermal.astype(np.float32) - low) * (255 / max(high - low, 1e-6))
        return np.nan_to_num(scaled, nan=0, posinf=255, neginf=0).clip(0, 255).astype(np.uint8)

    def to_uint8(self, thermal: np.ndarray) -> np.ndarray:
        """Update by this frame, then map it."""
        self.update(thermal)
        return self.apply(thermal)
