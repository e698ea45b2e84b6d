"""
OpenCV's trackers behind the two verbs: the peers that accuracy and speed are measured against.

A peer sees one camera only. CSRT needs opencv-contrib-python-headless, which replaces
opencv-python-headless: give it an environment of its own.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.tracking.tracker import TrackResult, TrackState


class Peer:
    """
    An OpenCV tracker on the 'rgb' or the 'thermal' image of each pair.

    A frame in which it reports a loss keeps the box before.
    """

    device = 'cpu'

    def __init__(self, name: str, make: Callable, modality: str) -> None:
        self.name, self.make, self.modality = f'{name} {modality}', make, modality

    def _image(self, pair: FramePair) -> np.ndarray:
        if self.modality == 'rgb':
            return cv2.cvtColor(pair.rgb, cv2.COLOR_RGB2BGR)
        return cv2.cvtColor(self.range.to_uint8(pair.thermal), cv2.COLOR_GRAY2BGR)

    def initialize(self, pair: FramePair, box: np.ndarray) -> TrackResult:
        """Start on this box (x, y, w, h px), which OpenCV wants in whole pixels."""
        self.range, self.tracker, self.box = ThermalRange(), self.make(), np.asarray(box)
        self.tracker.init(self._image(pair), [int(value) for value in np.round(box)])
        return TrackResult(self.box, 1.0, TrackState.TRACKING, self.modality)

    def track(self, pair: FramePair) -> TrackResult:
        """Find the target in the next pair."""
        found, box = self.tracker.update(self._image(pair))
        if found:
            self.box = np.array(box, dtype=np.float64)
        state = TrackState.TRACKING if found else TrackState.LOST
        return TrackResult(self.box, float(found), state, self.modality)


def peers(nanotrack: Path) -> dict[str, Callable]:
    """
    Name -> function that makes a fresh OpenCV tracker; says which cannot run here.

    nanotrack: folder of nanotrack_backbone_sim.onnx and nanotrack_head_sim.onnx.
    """
    makers = {}
    parts = [nanotrack / f'nanotrack_{part}_sim.onnx' for part in ('backbone', 'head')]
    if all(part.is_file() for part in parts):
        params = cv2.TrackerNano_Params()
        params.backbone, params.neckhead = map(str, parts)
        makers['NanoTrack'] = lambda: cv2.TrackerNano_create(params)
    if hasattr(cv2, 'TrackerCSRT_create'):
        makers['CSRT'] = cv2.TrackerCSRT_create
    for name, need in (('NanoTrack', parts[0]), ('CSRT', 'opencv-contrib-python-headless<5')):
        if name not in makers:
            print(f'{name} is missing: it needs {need}')
    return makers
