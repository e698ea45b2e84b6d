"""Published checkpoints as weights of our models: `tpf import-weights`."""

from pathlib import Path

import torch
from torch import Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.checkpoint import check_keys, save_weights
from tpf_tracker_ros.models.pickled import LazyTensor, open_pickled
from tpf_tracker_ros.models.registry import create_model, find_model, list_models

WRAPPED = 'net', 'state_dict'  # under which training checkpoints hold weights


def import_weights(path: Path, model_name: str, out: Path) -> str:
    """
    Write the model with the weights of a published file; returns what was done.

    Nothing pickled in the file is run. Raises TpfError when the file is broken, its weights do
    not fit (missing, unexpected and wrongly shaped ones are named), or none are published.
    """
    published = find_model(model_name).published
    if published is None:
        names = ', '.join(name for name, entry in list_models().items() if entry.published)
        raise TpfError(f'there are no published weights for {model_name}; choose one of {names}')
    network = read_network(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same file gives the same weights
        model = create_model(model_name)
    state = model.state_dict()
    expected = {key: value for key, value in state.items() if published.ours(key)}
    found = published.convert(network, expected)
    check_keys(expected, found, source=str(path))
    model.load_state_dict({**state, **found})
    save_weights(model, out, metadata={'imported_from': path.name})
    parameters = sum(v.numel() for v in expected.values() if v.is_floating_point())
    adapter = (
        'the fusion adapter starts as plain averaging: ' if len(expected) < len(state) else ''
    )
    return (
        f'{len(found)} weights ({parameters / 1e6:.1f} M numbers) of {path.name} as {model_name}; '
        f'{adapter}{out}'
    )


def read_network(path: Path) -> dict[str, Tensor]:
    """Take the weights of a training checkpoint, or of a file that holds only them."""
    with open_pickled(path) as saved:
        if isinstance(saved, dict):
            saved = next((saved[key] for key in WRAPPED if key in saved), saved)
        if not isinstance(saved, dict) or not saved:
            raise TpfError(
                f'checkpoint {path} holds no weights; they are looked for under '
                f'{" and ".join(map(repr, WRAPPED))}'
            )
        for key, value in saved.items():
            if not isinstance(value, LazyTensor):
                raise TpfError(f'checkpoint {path} holds no tensor under {key!r}; give weights')
        return {str(key): value.load() for key, value in saved.items()}
