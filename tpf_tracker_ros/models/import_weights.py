"""
Published checkpoints of the OSTrack family as weights of our models: `tpf import-weights`.

A file of OSTrack (arXiv 2203.11991) fits as it is. One of DropMAE or DropTrack (arXiv 2304.00571)
was trained on larger crops and marks the two images with temporal embeddings: its position grids
are resized and the temporal embeddings added into them, which gives the same sums.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.checkpoint import check_keys, save_weights
from tpf_tracker_ros.models.pickled import LazyTensor, open_pickled
from tpf_tracker_ros.models.registry import create_model

_PUBLISHED = ('backbone.', 'box_head.')  # the rest is ours: fusion starts as plain averaging


def import_weights(path: Path, model_name: str, out: Path) -> str:
    """
    Write the model with the backbone and head of a published file; returns what was done.

    Nothing pickled in the file is run. Raises TpfError when the file is broken or its weights
    do not fit: missing, unexpected and wrongly shaped ones are named.
    """
    network = read_network(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same file gives the same weights
        model = create_model(model_name)
    state = model.state_dict()
    expected = {key: value for key, value in state.items() if key.startswith(_PUBLISHED)}
    found = _fit_positions(network, expected)
    check_keys(expected, found, source=str(path))
    model.load_state_dict({**state, **found})
    save_weights(model, out, metadata={'model': model_name, 'imported_from': path.name})
    parameters = sum(v.numel() for v in expected.values() if v.is_floating_point())
    return (
        f'{len(found)} weights ({parameters / 1e6:.1f} M numbers) of {path.name} as {model_name}; '
        f'the fusion adapter starts as plain averaging: {out}'
    )


def read_network(path: Path) -> dict[str, Tensor]:
    """Take the weights under 'net' of a training checkpoint, or of a file that holds only them."""
    with open_pickled(path) as saved:
        network = saved.get('net', saved) if isinstance(saved, dict) else None
        if not isinstance(network, dict) or not network:
            raise TpfError(f"checkpoint {path} holds no weights; they are looked for under 'net'")
        for key, value in network.items():
            if not isinstance(value, LazyTensor):
                raise TpfError(f'checkpoint {path} holds no tensor under {key!r}; give weights')
        return {str(key): value.load() for key, value in network.items()}


def _fit_positions(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with position grids of the model's size and temporal embeddings added."""
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
