"""Published checkpoints as weights of our models: `tpf import-weights`."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.checkpoint import check_keys, save_weights
from tpf_tracker_ros.models.pickled import LazyTensor, open_pickled
from tpf_tracker_ros.models.registry import create_model, find_model, list_models

# Under which training checkpoints hold the weights.
WRAPPERS = 'net', 'state_dict', 'model', 'model_state_dict'


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
    network, unused = read_network(path, unused=published.unused)
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
    notes = [
        f'{len(found)} weights ({parameters / 1e6:.1f} M numbers) of {path.name} as {model_name}'
    ]
    if unused:
        notes.append(f'{unused} that tracking does not use were left out')
    if published.rest:
        notes.append(published.rest)
    return f'{"; ".join(notes)}: {out}'


def read_network(path: Path, *, unused: Callable[[str], bool]) -> tuple[dict[str, Tensor], int]:
    """
    Take the weights of a training checkpoint, or of a file that holds only them.

    In a checkpoint they lie under one of WRAPPERS; of a model in parallel training each
    name begins with 'module.'. unused: whether a weight of this name is left out; returns the
    others, and how many those are.
    """
    with open_pickled(path) as saved:
        network = _unwrapped(saved)
        if not network:
            raise TpfError(
                f'checkpoint {path} holds no weights; they are looked for under '
                f'{", ".join(map(repr, WRAPPERS))}, or bare'
            )
        for key, value in network.items():
            if not isinstance(value, LazyTensor):
                raise TpfError(f'checkpoint {path} holds no tensor under {key!r}; give weights')
        wanted = {key: value for key, value in network.items() if not unused(key)}
        loaded = {key: value.load() for key, value in wanted.items()}
    return loaded, len(network) - len(loaded)


def _unwrapped(saved: object) -> dict[str, object]:
    if not isinstance(saved, dict):
        return {}
    inner = (saved.get(name) for name in WRAPPERS)
    network = next((weights for weights in inner if isinstance(weights, dict)), saved)
    return {str(key).removeprefix('module.'): value for key, value in network.items()}
