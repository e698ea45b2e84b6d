"""What a search keeps of its target from one frame to the next."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.tracking.camera_motion import Standing


@dataclass
class Appearance:
    """The target as one set of cameras shows it, and how the network errs about it."""

    templates: list[Any]  # as the engine keeps them: the initial one, the dynamic one
    error: np.ndarray = field(default_factory=lambda: np.zeros(4))  # of found boxes, to correct
    shown_error: np.ndarray = field(default_factory=lambda: np.zeros(4))  # of published ones
    shape: np.ndarray | None = None  # (2,) as pieces.shape_of gives, of a patch


@dataclass
class Target:
    """All that is known of the target from one frame to the next."""

    first: FramePair  # in which it was given, with the images that were used
    first_box: np.ndarray  # (4,) x, y, w, h px
    box: np.ndarray  # (4,), may reach beyond the image
    margin: float  # px of a published box that stay inside the image
    modality: str  # the images now in use
    appearances: dict[str, Appearance]  # by modality
    standing: Standing  # in the scene, or not
    contrasts: dict[str, float]  # of the first frame by camera, grey levels
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))  # px expected of a step
    recent: list[tuple[float, np.ndarray]] = field(default_factory=list)  # scores, boxes before
    log_odds: float | None = None  # of the smoothed score

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the frames, px."""
        return self.first.size

    @property
    def appearance(self) -> Appearance:
        """How it looks in the images now in use."""
        return self.appearances[self.modality]
