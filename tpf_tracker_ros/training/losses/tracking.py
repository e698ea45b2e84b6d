"""What a TPF network loses on a batch of the world: boxes, score map, matches of the stem."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from tpf_tracker_ros.engines.engine import MEAN, STD
from tpf_tracker_ros.models.layers.head import decode
from tpf_tracker_ros.models.tpf import Tpf, TpfOutput
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


def compute_losses(model: Tpf, batch: Batch, *, dynamic: bool) -> Losses:
    """One forward pass over a batch of the world, with or without the dynamic template."""
    templates, search = embed_views(model, batch, dynamic=dynamic)
    return losses_of(model(templates, search), batch, matches_of(model, templates, search, batch))


def losses_of(maps: TpfOutput, batch: Batch, matching: Tensor) -> Losses:
    """Give the terms of a head's maps; in float32, as half precision would round 1 - 1e-4 to 1."""
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
        matching=matching,
        iou=iou,
    )


def embed_views(model: Tpf, batch: Batch, *, dynamic: bool) -> tuple[Tensor, Tensor]:
    """Tokens of the template or templates (B, K * Nz, D) and of the search view (B, Nx, D)."""
    views = (INITIAL, DYNAMIC, SEARCH) if dynamic else (INITIAL, SEARCH)
    *templates, search = (model.embed(fuse_view(model, batch, view)) for view in views)
    return torch.cat(templates, 1), search


def matches_of(model: Tpf, templates: Tensor, search: Tensor, batch: Batch) -> Tensor:
    """Give matching loss of the stem's features; zero for a model without explicit correlation."""
    correlation = model.backbone.correlation
    if correlation is None:
        return search.new_zeros(())
    similarity = correlation.similarity(templates, search)  # (B, Nx, K * Nz)
    count = templates.shape[1] // batch.seen.shape[2]
    matches, seen = batch.matches[:, :count], batch.seen[:, :count]
    return matching_loss(similarity, matches.flatten(1, 2), seen.flatten(1, 2))


def fuse_view(model: Tpf, batch: Batch, view: int) -> Tensor:
    """Return the fused image (B, 3, S, S) of one view of a batch, normalised."""
    return model.fuse(normalized(batch.rgb[view]), normalized(batch.thermal[view]))


def normalized(image: Tensor) -> Tensor:
    """Images (B, 3, H, W) in 0..1 in the network's normalised space."""
    mean, std = _mean_and_std(image.device)
    return (image - mean) / std


def denormalized(image: Tensor) -> Tensor:
    """Return the inverse of normalized."""
    mean, std = _mean_and_std(image.device)
    return image * std + mean


@cache  # a copy from the host in each batch would wait for the GPU
def _mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    return tuple(torch.tensor(each, device=device).view(3, 1, 1) for each in (MEAN, STD))
