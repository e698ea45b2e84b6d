"""What a network loses on a batch: boxes, score map, matches of what it compares."""

from dataclasses import dataclass

import torch
from torch import Tensor
from tpf_tracker_ros.models.layers.head import decode
from tpf_tracker_ros.models.network import Maps, TrackingNetwork
from tpf_tracker_ros.training.losses.centre import (
    box_at,
    centre_cell,
    clamped,
    corners,
    focal_loss,
    gaussian_target,
    giou_loss,
    matching_loss,
)
from tpf_tracker_ros.training.samples.world import Batch, DYNAMIC, INITIAL, SEARCH


@dataclass(frozen=True)
class TrackingConfig:
    """Weights of the terms, and which labels they are against."""

    giou_weight: float = 2.0
    l1_weight: float = 5.0
    score_weight: float = 1.0
    matching_weight: float = 0.5
    published_labels: bool = False  # OSTrack's, for its weights; see losses/centre.py


@dataclass(frozen=True)
class Losses:
    """The terms of one batch, unweighted, and the mean IoU of the predicted boxes."""

    giou: Tensor
    l1: Tensor
    score: Tensor
    matching: Tensor
    iou: Tensor


def compute_losses(
    model: TrackingNetwork, batch: Batch, *, dynamic: bool, published: bool = False
) -> Losses:
    """One forward pass over a batch of the world, with or without the dynamic template."""
    templates = keep_templates(model, batch, dynamic=dynamic)
    maps = model(templates, merge_view(model, batch, SEARCH))
    return losses_of(maps, batch, published=published)


def weigh(terms: Losses, config: TrackingConfig) -> dict[str, Tensor]:
    """'loss', the weighted sum, and the terms by name."""
    loss = (
        config.giou_weight * terms.giou
        + config.l1_weight * terms.l1
        + config.score_weight * terms.score
        + config.matching_weight * terms.matching
    )
    return {'loss': loss, **vars(terms)}


def losses_of(maps: Maps, batch: Batch, *, published: bool = False) -> Losses:
    """
    Give the terms of a network's maps; in float32, as half precision rounds 1 - 1e-4 to 1.

    published: with the labels of OSTrack's code, see losses/centre.py; there the box is the one
    where the predicted score is highest, its L1 that of the corners, the target cut to the view.
    """
    score = maps.score.float().clamp(1e-4, 1 - 1e-4)
    size, offset = maps.size.float(), maps.offset.float()
    grid = score.shape[-1]
    target = gaussian_target(batch.box, grid, published=published)
    inside = target.flatten(1).amax(1) > 0

    def mean(each: Tensor) -> Tensor:
        # Multiplied, not selected, which would wait for the GPU; no target may be in view.
        return (each * inside).sum() / inside.sum().clamp(min=1)

    found, _ = decode(score, size, offset)
    if published:
        box, truth = found, clamped(batch.box)
        l1 = (corners(box) - corners(truth)).abs()
    else:
        cell = centre_cell(batch.box, grid).long().clamp(0, grid - 1)
        box, truth = box_at(size, offset, cell), batch.box
        l1 = (box - truth).abs()
    with torch.no_grad():
        iou = mean((1 - giou_loss(found, truth)).clamp(min=0))
    return Losses(
        giou=mean(giou_loss(box, truth)),
        l1=mean(l1.mean(1)),
        score=focal_loss(score, target),
        matching=_matching(maps, batch),
        iou=iou,
    )


def keep_templates(model: TrackingNetwork, batch: Batch, *, dynamic: bool) -> Tensor:
    """Return what the network keeps of the template, or of both, (B, K, ...)."""
    views = [INITIAL, DYNAMIC] if dynamic and model.max_templates > 1 else [INITIAL]
    # As one batch: a GPU is kept busy by large ones.
    rgb, thermal = (torch.cat([images[v] for v in views]) for images in (batch.rgb, batch.thermal))
    kept = model.template(merge(model, rgb, thermal))
    return kept.unflatten(0, (len(views), -1)).transpose(0, 1)


def merge_view(model: TrackingNetwork, batch: Batch, view: int) -> Tensor:
    """Return what the network sees of one view of a batch: (B, C, S, S), normalised."""
    return merge(model, batch.rgb[view], batch.thermal[view])


def merge(model: TrackingNetwork, rgb: Tensor, thermal: Tensor) -> Tensor:
    """Return what the network sees of images (B, 3, S, S) in 0..1: (B, C, S, S), normalised."""
    return model.merge(model.normalization.apply(rgb), model.normalization.apply(thermal))


def _matching(maps: Maps, batch: Batch) -> Tensor:
    """Give matching loss of what the network compares; zero where it gives no similarity."""
    if maps.similarity is None:
        return maps.score.new_zeros(())
    count = maps.similarity.shape[2] // batch.seen.shape[2]
    matches, seen = batch.matches[:, :count], batch.seen[:, :count]
    return matching_loss(maps.similarity, matches.flatten(1, 2), seen.flatten(1, 2))
