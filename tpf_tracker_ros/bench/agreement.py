"""
How well an engine agrees with the plain float32 one: box by box, from the same state.

Two trackers that run freely part for good where the target is lost, however small the
difference that did it; so the plain one leads, and the other answers for the same crops.
"""

from pathlib import Path

import numpy as np
from torch import Tensor
from tpf_tracker_ros.core.boxes import from_centre, iou
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.sequence import Sequence
from tpf_tracker_ros.engines.engine import Engine
from tpf_tracker_ros.engines.exported import ExportedEngine, read_info
from tpf_tracker_ros.models.checkpoint import load_model
from tpf_tracker_ros.models.network import TrackingNetwork
from tpf_tracker_ros.tracking.load import model_settings
from tpf_tracker_ros.tracking.search_region import SearchTracker

LEAST_OVERLAP, LEAST_OVERLAP_INT8 = 0.99, 0.97  # mean IoU with the boxes of the plain path


def agreement(network: TrackingNetwork, engine: Engine, sequence: Sequence) -> float:
    """Mean IoU of the engine's boxes with the plain path's over a sequence with ground truth."""
    both = _Both(network, engine)
    tracker = SearchTracker(both, model_settings(network.name))
    for index, pair in enumerate(sequence):
        if index == 0:
            tracker.initialize(pair, sequence.ground_truth[0])
        else:
            tracker.track(pair)
    return float(np.mean(both.overlaps))


def check_export(folder: Path, sequence: Sequence) -> float:
    """
    Mean IoU of an export's boxes with the plain path's over a sequence.

    Raises TpfError when it is below 0.99, or 0.97 for int8.
    """
    info = read_info(folder)
    network = load_model(info['model'], folder / 'weights.safetensors')
    network.max_templates = info.get('templates', network.max_templates)
    overlap = agreement(network, ExportedEngine(network, folder, native=False), sequence)
    least = LEAST_OVERLAP_INT8 if info['int8'] else LEAST_OVERLAP
    if overlap < least:
        raise TpfError(
            f'{folder}: boxes agree with the plain path to a mean IoU of {overlap:.4f} only, '
            f'below {least}; do not use it' + (', export without --int8' if info['int8'] else '')
        )
    return overlap


class _Both(Engine):
    """The plain engine, which has another one do the same on the side."""

    def __init__(self, network: TrackingNetwork, other: Engine) -> None:
        super().__init__(network, other.device)
        self.other = other
        self.overlaps: list[float] = []

    def keep_template(self, rgb: np.ndarray, thermal: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return what both engines keep; a tracker hands it back as it is."""
        return super().keep_template(rgb, thermal), self.other.keep_template(rgb, thermal)

    def locate(
        self, templates: list[tuple[Tensor, Tensor]], rgb: np.ndarray, thermal: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Answer as the plain engine does; note the overlap of the other's box."""
        own, others = (list(kept) for kept in zip(*templates))
        box, score = super().locate(own, rgb, thermal)
        other_box, _ = self.other.locate(others, rgb, thermal)
        self.overlaps.append(float(iou(from_centre(*box), from_centre(*other_box))))
        return box, score
