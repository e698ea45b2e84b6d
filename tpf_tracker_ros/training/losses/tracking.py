"""What a network loses on a batch of the world: boxes, score map, matches of the stem."""

from dataclasses import dataclass

import torch
from torch import Tensor
from tpf_tracker_ros.models.layers.head import decode
from tpf_tracker_ros.models.network import Maps, TrackingNetwork
from tpf_tracker_ros.training.losses.fusion import (
    box_at,
    focal_loss,
    gaussian_target,
    giou_loss,
    matching_loss,
)
from tpf_tracker_ros.training.samples.world import Batch, DYNAMIC, INITIAL, SEARCH


@dataclass(frozen=True)
class Losses:
    """The terms of one batch, unweighted, and the mean IoU of the predicted boxes."""

    giou: Tensor
    l1: Tensor
    score: Tensor
    matching: Tensor
    iou: Tensor


def compute_losses(model: TrackingNetwork, batch: Batch, *, dynamic: bool) -> Losses:
    """One forward pass over a batch of the world, with or without the dynamic template."""
    templates = keep_templates(model, batch, dynamic=dynamic)
    return losses_of(model(templates, merge_view(model, batch, SEARCH)), batch)


def losses_of(maps: Maps, batch: Batch) -> Losses:
    """Give the terms of a network's maps; in float32, as half precision rounds 1 - 1e-4 to 1."""
    score = maps.score.float().clamp(1e-4, 1 - 1e-4)
    size, offset = maps.size.float(), maps.offset.float()
    grid = score.shape[-1]
    target = gaussian_target(batch.box, grid)
    inside = target.flatten(1).amax(1) > 0
    cell = (batch.box[:, :2] * grid).floor().long().clamp(0, grid - 1)
    box, truth = box_at(size, offset, cell), batch.box

    def mean(each: Tensor) -> Tensor:
        # Multiplied, not selected, which would wait for the GPU; no target may be in view.
        return (each * inside).sum() / inside.sum().clamp(min=1)

    with torch.no_grad():
        found, _ = decode(score, size, offset)
        iou = mean((1 - giou_loss(found, truth)).clamp(min=0))
    return Losses(
        giou=mean(giou_loss(box, truth)),
        l1=mean((box - truth).abs().mean(1)),
        score=focal_loss(score, target),
        matching=_matching(maps, batch),
        iou=iou,
    )


def keep_templates(model: TrackingNetwork, batch: Batch, *, dynamic: bool) -> Tensor:
    """Return what the network keeps of the template, or of both, (B, K, ...)."""
    views = (INITIAL, DYNAMIC) if dynamic and model.max_templates > 1 else (INITIAL,)
    return torch.stack([model.template(merge_view(model, batch, view)) for view in views], 1)


def merge_view(model: TrackingNetwork, batch: Batch, view: int) -> Tensor:
    """Return what the network sees of one view of a batch: (B, C, S, S), normalised."""
    normalize = model.normalization.apply
    return model.merge(normalize(batch.rgb[view]), normalize(batch.thermal[view]))


def _matching(maps: Maps, batch: Batch) -> Tensor:
    """Give matching loss of the stem's features; zero for a network that compares none."""
    if maps.similarity is None:
        return maps.score.new_zeros(())
    count = maps.similarity.shape[2] // batch.seen.shape[2]
    matches, seen = batch.matches[:, :count], batch.seen[:, :count]
    return matching_loss(maps.similarity, matches.flatten(1, 2), seen.flatten(1, 2))
