"""
How well an engine agrees with the plain float32 one: box by box, from the same state.

Two trackers that run freely part for good where the target is lost, however small the
difference that did it; so the plain one leads, and the other answers for the same crops.
"""

import numpy as np
from torch import Tensor
from tpf_tracker_ros.core.boxes import from_centre, iou
from tpf_tracker_ros.core.sequence import Sequence
from tpf_tracker_ros.engines.engine import Engine
from tpf_tracker_ros.models.tpf import Tpf
from tpf_tracker_ros.tracking.config import TrackerConfig
from tpf_tracker_ros.tracking.tpf_tracker import TpfTracker


def agreement(model: Tpf, engine: Engine, sequence: Sequence) -> float:
    """Mean IoU of the engine's boxes with the plain path's over a sequence with ground truth."""
    both = _Both(model, engine)
    tracker = TpfTracker('plain', both, TrackerConfig())
    for index, pair in enumerate(sequence):
        if index == 0:
            tracker.initialize(pair, sequence.ground_truth[0])
        else:
            tracker.track(pair)
    return float(np.mean(both.overlaps))


class _Both(Engine):
    """The plain engine, which has another one do the same on the side."""

    def __init__(self, model: Tpf, other: Engine) -> None:
        super().__init__(model, other.device)
        self.other = other
        self.overlaps: list[float] = []

    def embed_template(self, rgb: np.ndarray, thermal: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return the tokens of both engines; a tracker hands them back as they are."""
        return super().embed_template(rgb, thermal), self.other.embed_template(rgb, thermal)

    def locate(
        self, templates: list[tuple[Tensor, Tensor]], rgb: np.ndarray, thermal: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Answer as the plain engine does; note the overlap of the other's box."""
        own, others = (list(tokens) for tokens in zip(*templates))
        box, score = super().locate(own, rgb, thermal)
        other_box, _ = self.other.locate(others, rgb, thermal)
        self.overlaps.append(float(iou(from_centre(*box), from_centre(*other_box))))
        return box, score
