"""How published checkpoints name and shape their weights, as registry entries refer to it."""

from torch import Tensor
from torch.nn import functional as F


def ostrack_weights(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """
    Weights of an OSTrack, DropMAE or DropTrack file, the position grids of the model's size.

    A file of OSTrack (arXiv 2203.11991) fits as it is. One of DropMAE or DropTrack (arXiv
    2304.00571) was trained on larger crops and marks the two images with temporal embeddings:
    its grids are resized and the temporal embeddings added into them, which gives the same sums.
    """
    found = dict(found)
    for image in ('z', 'x'):
        key = f'backbone.pos_embed_{image}'
        temporal = found.pop(f'backbone.temporal_pos_embed_{image}', None)
        if key not in found or key not in expected:
            continue
        if found[key].dim() == 3:
            found[key] = _resize_grid(found[key], expected[key].shape[1])
        if temporal is not None:
            found[key] = found[key] + temporal
    return found


def _resize_grid(positions: Tensor, tokens: int) -> Tensor:
    """Embeddings (1, n², D) of a square grid bilinearly to (1, tokens, D); others as they are."""
    side, target = round(positions.shape[1] ** 0.5), round(tokens**0.5)
    if side == target or side**2 != positions.shape[1]:
        return positions
    grid = positions.float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(target, target), mode='bilinear', align_corners=False)
    return grid.flatten(2).mT
