"""Pictures of a training batch: what the cameras saw, the fused image, the predicted box."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tpf_tracker_ros.core.boxes import from_centre
from tpf_tracker_ros.core.drawing import draw_result
from tpf_tracker_ros.core.files import write_file
from tpf_tracker_ros.models.layers.head import decode
from tpf_tracker_ros.models.network import TrackingNetwork
from tpf_tracker_ros.training.losses.tracking import keep_templates, merge_view
from tpf_tracker_ros.training.samples.world import Batch, SEARCH

ROWS = 6  # samples, at most


@torch.no_grad()
def draw_samples(model: TrackingNetwork, batch: Batch, path: Path) -> None:
    """Write a sheet, a row a sample: RGB, thermal and fused search view with both boxes."""
    training = model.training
    model.eval()
    merged = merge_view(model, batch, SEARCH)
    maps = model(keep_templates(model, batch, dynamic=False), merged)
    model.train(training)
    found, score = decode(maps.score, maps.size, maps.offset)
    seen = model.normalization.undo(merged) if model.fuses else batch.rgb[SEARCH]
    rows = []
    for index in range(min(ROWS, len(seen))):
        views = batch.rgb[SEARCH], batch.thermal[SEARCH], seen
        rgb, thermal, image = (_picture(view[index]) for view in views)
        boxes = (box[index].tolist() for box in (found, batch.box))
        box, truth = (from_centre(*np.array(b) * image.shape[0]) for b in boxes)
        drawn = draw_result(
            image, box, state='TRACKING', score=float(score[index]), ground_truth=truth
        )
        rows.append(np.hstack([rgb, thermal, drawn]))
    sheet = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    write_file(path, cv2.imencode('.jpg', sheet)[1].tobytes())


def _picture(image: Tensor) -> np.ndarray:
    """(3, S, S) in 0..1 as uint8 (S, S, 3)."""
    return (image.float() * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
