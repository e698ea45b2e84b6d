"""
A tracker is two verbs: initialize(pair, box) and track(pair) -> TrackResult.

The node, `tpf track`, evaluation and the demo all call this one object; nothing here draws or
knows ROS.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
from tpf_tracker_ros.core.frame_pair import FramePair


class TrackState(str, Enum):
    """How much the last result can be trusted; published as it is."""

    IDLE = 'IDLE'
    TRACKING = 'TRACKING'
    UNCERTAIN = 'UNCERTAIN'
    LOST = 'LOST'


@dataclass(frozen=True)
class TrackResult:
    """
    What one call of initialize or track returns.

    box: float64 (4,) x, y, w, h in pixels of the pair; where LOST, see return_lost.
    score: confidence in 0..1, max of window * score map.
    modality: 'rgb+thermal', 'rgb' or 'thermal', the images that were used.
    frozen: the camera that was left out since it gives the same image again and again, or ''.
    template_updated: whether NDTU took a new dynamic template after this frame.
    stages: milliseconds in 'crop' (thermal range, cutting), 'network' (from crops to boxes,
    templates too) and 'update' (box, state, choice of a template).
    """

    box: np.ndarray
    score: float
    state: TrackState
    modality: str
    template_updated: bool = False
    stages: dict[str, float] = field(default_factory=dict)
    frozen: str = ''


class Tracker(Protocol):
    """What every registered tracker offers."""

    name: str
    device: str
    second: str  # what the second camera must give, see TrackingNetwork
    fuses: bool  # whether its network fuses the two images into one
    state: TrackState

    def initialize(self, pair: FramePair, box: np.ndarray) -> TrackResult:
        """
        Start on this box (x, y, w, h px) in this pair; returns it with score 1.

        Raises TpfError on a bad box.
        """

    def track(self, pair: FramePair) -> TrackResult:
        """Find the target in the next pair. Raises TpfError before initialize."""

    def fuse(self, pair: FramePair) -> np.ndarray | None:
        """
        Return the whole frame as the network sees it fused: uint8 (H, W, 3) RGB.

        None where the network fuses no pixels. Works before initialize, too. One other thread
        may call it while any of the rest runs.
        """

    def configure(self, **changes: bool | float | str) -> None:
        """Change settings while running. Raises TpfError on unknown names."""

    def stop(self) -> None:
        """Drop the target: the state is IDLE until the next initialize."""
