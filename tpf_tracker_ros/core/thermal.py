"""
Mapping raw thermal counts to 8 bits without flicker.

A linear division of 16-bit counts leaves a scene of a few degrees in two grey levels, and a
range taken anew for each frame flickers when something hot enters. So the range follows
percentiles of the frame, smoothed over time. A range that no longer overlaps the frame's is of
another scale (a change of gain, of units): the frame's own takes its place at once. A blank frame
does not move it.
"""

import numpy as np

# Share of the range's span below which a frame is blank: five of the 255 grey levels.
LEAST_SPAN = 0.02


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
        now, before = self._percentiles(thermal), self._range
        if now is None:
            return
        if before is None:
            self._range = now
            return
        span, span_before = now[1] - now[0], before[1] - before[0]
        if span < LEAST_SPAN * span_before:
            return  # blank: following it would make a picture of its noise
        apart = now[0] > before[1] or now[1] < before[0]
        keep = 0.0 if apart or span_before < LEAST_SPAN * span else self.smoothing
        self._range = keep * before + (1 - keep) * now

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
        """Update by this frame, then map it; colours stay."""
        self.update(thermal)
        return self.apply(thermal)

    def to_rgb(self, thermal: np.ndarray) -> np.ndarray:
        """Update by this frame, then map it to a grey uint8 (H, W, 3) to show; colours stay."""
        if thermal.ndim == 3:
            return thermal
        return np.repeat(self.to_uint8(thermal)[..., None], 3, axis=-1)

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
