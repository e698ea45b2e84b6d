"""A camera that gives the same image again and again: a shutter calibrates, a driver hangs."""

from dataclasses import dataclass

import numpy as np
from tpf_tracker_ros.core.frame_pair import FramePair

STEP = 4  # every so many rows and columns are compared: no camera is without noise


@dataclass
class _View:
    sample: np.ndarray
    since: int  # ns, the stamp from which on the image has been this one
    moved: bool = False  # whether it ever was another


class FrozenWatch:
    """Is shown pairs in order of time; a step back begins anew."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was shown."""
        self._views: dict[str, _View] = {}
        self._stamp = 0

    def judge(self, pair: FramePair, limit_ms: float) -> str:
        """
        Return 'rgb' or 'thermal' where that camera is frozen, else an empty string.

        It is once its image has been the same for longer than limit_ms, by the stamps, while the
        other's went on changing. limit_ms 0: never.
        """
        if pair.stamp < self._stamp:
            self.reset()
        self._stamp = pair.stamp
        if not limit_ms or pair.rgb is None or pair.thermal is None:
            return ''
        for name, image in (('rgb', pair.rgb), ('thermal', pair.thermal)):
            sample, before = image[::STEP, ::STEP], self._views.get(name)
            nan = sample.dtype.kind == 'f'
            if before is None or not np.array_equal(sample, before.sample, equal_nan=nan):
                self._views[name] = _View(sample.copy(), pair.stamp, before is not None)
        for name, other in (('rgb', 'thermal'), ('thermal', 'rgb')):
            since, latest = self._views[name].since, self._views[other]
            same_for = pair.stamp - since
            if same_for > limit_ms * 1e6 and latest.moved and latest.since - since > same_for / 2:
                return name
        return ''
