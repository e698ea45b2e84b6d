"""
NDTU: nearest-neighbour dynamic template updating.

KNOWN of TPF (arXiv 2503.11247): the dynamic template is the most reliable frame closest in
time to the current search frame. The exact rules below are our reconstruction.
"""

from typing import Any

import numpy as np
from tpf_tracker_ros.core.boxes import inside_image


class TemplateMemory:
    """
    Chooses when, and from which frame, the dynamic template is renewed.

    A frame is reliable when its score is at least `score`, its box lies inside the image and
    its size differs from the last reliable one by at most the factor `size_jump`. Every
    `interval` frames the most reliable frame of that interval becomes the template.
    """

    def __init__(self, *, score: float, interval: int, size_jump: float) -> None:
        self.score, self.interval, self.size_jump = score, interval, size_jump

    def reset(self, box: np.ndarray) -> None:
        """Start with the initial box (4,) as the last reliable one."""
        self.updates = 0
        self._area = box[2] * box[3]
        self._waited = 0
        self._best: tuple[float, Any] | None = None

    def reliable(self, score: float, box: np.ndarray, image_size: tuple[int, int]) -> bool:
        """Whether a frame may serve as a template."""
        growth = np.sqrt(max(box[2] * box[3], 1e-9) / self._area)
        steady = 1 / self.size_jump <= growth <= self.size_jump
        return bool(score >= self.score and steady and inside_image(box, image_size))

    def offer(
        self,
        score: float,
        box: np.ndarray,
        image_size: tuple[int, int],
        take: Any,
    ) -> Any | None:
        """
        Offer the frame just tracked; returns the template to use from now on, or None.

        take: called without arguments to get the frame's template crop, only when the frame
        is the best candidate so far.
        """
        self._waited += 1
        if self.reliable(score, box, image_size):
            self._area = box[2] * box[3]
            if self._best is None or score >= self._best[0]:
                self._best = (score, take())
        if self._waited < self.interval or self._best is None:
            return None
        template = self._best[1]
        self.skip()
        self.updates += 1
        return template

    def skip(self) -> None:
        """Begin a new interval without a candidate (UNCERTAIN or LOST frames are never one)."""
        self._waited, self._best = 0, None
