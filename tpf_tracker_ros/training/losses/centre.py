"""
Losses of the centre head: the OSTrack family's three; and matching over known correspondences.

Labels are ours or published. Ours: the cell that holds the centre, a Gaussian without end.
Published, as in OSTrack's code: the cell nearest to G times the centre, which is the one right
and down of it half of the time, and a Gaussian cut at its radius, often one cell alone.
"""

import torch
from torch import Tensor
import torch.nn.functional as F

MIN_OVERLAP = 0.7  # IoU of a box that is off by the radius of the heat map
ALPHA, BETA = 2, 4  # exponents of the focal loss, CornerNet's


def gaussian_target(box: Tensor, grid: int, *, published: bool = False) -> Tensor:
    """
    Centre heat map (B, 1, G, G) of boxes (B, 4) cx, cy, w, h in 0..1 (CornerNet's radius).

    Exactly 1 at the centre's cell; all zero where that lies outside.
    """
    w, h = (box[:, 2:] * grid).unbind(1)
    roots = (
        _radius(1.0, w + h, w * h * (1 - MIN_OVERLAP) / (1 + MIN_OVERLAP)),
        _radius(4.0, 2 * (w + h), (1 - MIN_OVERLAP) * w * h),
        _radius(4 * MIN_OVERLAP, -2 * MIN_OVERLAP * (w + h), (MIN_OVERLAP - 1) * w * h),
    )
    radius = torch.stack(roots).amin(0).clamp(min=0).floor()[:, None, None]
    sigma = (2 * radius + 1) / 6
    cell = centre_cell(box, grid, published=published)
    line = torch.arange(grid, device=box.device)
    right = line[None, None] - cell[:, :1, None]
    down = line[:, None] - cell[:, 1:, None]
    heat = torch.exp(-(right**2 + down**2) / (2 * sigma**2))
    if published:
        heat = heat * ((right.abs() <= radius) & (down.abs() <= radius))
    inside = ((cell >= 0) & (cell < grid)).all(1)
    return (heat * inside[:, None, None])[:, None]


def centre_cell(box: Tensor, grid: int, *, published: bool = False) -> Tensor:
    """Return the cells (B, 2) x, y that stand for the centres, as whole floats."""
    centre = box[:, :2] * grid
    return centre.round() if published else centre.floor()


def _radius(a: float, b: Tensor, c: Tensor) -> Tensor:
    return (b + (b**2 - 4 * a * c).clamp(min=0).sqrt()) / 2


def focal_loss(score: Tensor, target: Tensor) -> Tensor:
    """Penalty-reduced focal loss of score maps in 0..1, over the number of centres."""
    positive = target.eq(1).float()
    hit = (1 - score) ** ALPHA * score.log() * positive
    miss = (1 - target) ** BETA * score**ALPHA * (1 - score).log() * (1 - positive)
    return -(hit + miss).sum() / positive.sum().clamp(min=1)


def giou_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - generalised IoU (B,) of boxes (B, 4) cx, cy, w, h (arXiv 1902.09630)."""
    a1, a2 = a[:, :2] - a[:, 2:] / 2, a[:, :2] + a[:, 2:] / 2
    b1, b2 = b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2
    overlap = (torch.minimum(a2, b2) - torch.maximum(a1, b1)).clamp(min=0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - overlap
    hull = (torch.maximum(a2, b2) - torch.minimum(a1, b1)).clamp(min=0).prod(1)
    return 1 - overlap / union.clamp(min=1e-9) + (hull - union) / hull.clamp(min=1e-9)


def corners(box: Tensor) -> Tensor:
    """Boxes (B, 4) cx, cy, w, h as x1, y1, x2, y2."""
    return torch.cat([box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2], 1)


def clamped(box: Tensor) -> Tensor:
    """Return what of boxes (B, 4) cx, cy, w, h lies within 0..1."""
    low, high = corners(box).clamp(0, 1).chunk(2, 1)
    return torch.cat([(low + high) / 2, high - low], 1)


def box_at(size: Tensor, offset: Tensor, cell: Tensor) -> Tensor:
    """Return the boxes (B, 4) that the maps (B, 2, G, G) predict at cells (B, 2) x, y."""
    grid = size.shape[-1]
    at = (cell[:, 1] * grid + cell[:, 0])[:, None, None].expand(-1, 2, 1)
    size = size.flatten(2).gather(2, at)[..., 0]
    offset = offset.flatten(2).gather(2, at)[..., 0]
    return torch.cat([(cell + offset) / grid, size], 1)


def matching_loss(similarity: Tensor, matches: Tensor, seen: Tensor) -> Tensor:
    """
    Cross entropy of where each template token lies in the search image.

    similarity: (B, Nx, Nz) logits; matches: (B, Nz, 2) x, y in 0..1 of the search image;
    seen: (B, Nz). The target is spread bilinearly over the four nearest search tokens.
    """
    grid = int(similarity.shape[1] ** 0.5)
    at = (matches * grid - 0.5).clamp(0, grid - 1)
    near = F.relu(1 - (at[..., :1] - torch.arange(grid, device=at.device)).abs())  # (B, Nz, G)
    down = F.relu(1 - (at[..., 1:] - torch.arange(grid, device=at.device)).abs())
    target = (down[..., :, None] * near[..., None, :]).flatten(2)  # (B, Nz, Nx)
    per_token = -(target * similarity.transpose(1, 2).log_softmax(-1)).sum(-1)
    return (per_token * seen).sum() / seen.sum().clamp(min=1)
