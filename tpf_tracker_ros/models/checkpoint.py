"""Reading and writing weights as safetensors, with every mismatch named."""

from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open, SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import substitute
from tpf_tracker_ros.models.network import TrackingNetwork
from tpf_tracker_ros.models.registry import create_model, find_model, list_models

RENAMED = {'segment_dynamic': 'template_type'}  # weights by their names in older files


def load_model(name: str, checkpoint: Path | None = None) -> TrackingNetwork:
    """Return a network with the weights of a safetensors file; default: those in the package."""
    path = checkpoint or find_model(name).weights
    if path is None:
        raise TpfError(
            f'model {name!r} ships without weights; give a checkpoint, for example one made by: '
            f'tpf import-weights FILE --model {name} --out {name}.safetensors'
        )
    model = create_model(name)
    load_weights(model, path)
    return model


def load_weights(
    model: TrackingNetwork, path: Path, *, part: Callable[[str], bool] | None = None
) -> None:
    """
    Load a safetensors file into the model; part: only the keys that it accepts, of any model.

    Raises TpfError when the file is missing or broken, is that of another model, or when a key
    or shape does not fit.
    """
    weights, owner = read_weights(path)
    if part is None and model.name and owner not in ('', model.name):
        raise TpfError(
            f'checkpoint {path}: this is a {owner} file, the model is {model.name}; name that one'
        )
    accept = part or bool
    weights = {key: value for key, value in weights.items() if accept(key)}
    wanted = {key: value for key, value in model.state_dict().items() if accept(key)}
    check_keys(wanted, weights, source=str(path))
    model.load_state_dict(weights, strict=False)


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """
    Return what is in a safetensors file, and the name of its model, '' where it says none.

    Raises TpfError when the file is missing or broken.
    """
    try:
        with safe_open(path, 'pt') as file:
            keys = file.keys()
            weights = {RENAMED.get(key, key): file.get_tensor(key) for key in keys}
            return weights, (file.metadata() or {}).get('model', '')
    except FileNotFoundError:
        raise TpfError(f'checkpoint {path} does not exist') from None
    except (SafetensorError, OSError) as error:
        raise TpfError(
            f'checkpoint {path} is not a readable safetensors file ({error}); convert published '
            '.pth files with: tpf import-weights FILE --model NAME --out FILE.safetensors'
            f'{substitute(path)}'
        ) from None


def save_weights(
    model: TrackingNetwork, path: Path, *, metadata: dict[str, str] | None = None
) -> None:
    """Write the model's weights, its name and a few words on where they come from."""
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    told = {'model': model.name, **(metadata or {})}
    entry = list_models().get(model.name)
    if entry and entry.published and entry.published.licence:
        told['license'] = entry.published.licence
    save_file(weights, path, metadata=told)


def check_keys(expected: dict[str, Tensor], found: dict[str, Tensor], *, source: str) -> None:
    """Raise TpfError that names missing, unexpected and wrongly shaped weights."""
    problems = []
    for title, keys in (
        ('missing', sorted(expected.keys() - found.keys())),
        ('unexpected', sorted(found.keys() - expected.keys())),
    ):
        if keys:
            more = f' and {len(keys) - 3} more' if len(keys) > 3 else ''
            problems.append(f'{title}: {", ".join(keys[:3])}{more}')
    problems += [
        f'{key} is {tuple(found[key].shape)}, the model needs {tuple(value.shape)}'
        for key, value in expected.items()
        if key in found and found[key].shape != value.shape
    ][:3]
    if problems:
        raise TpfError(f'checkpoint {source} does not fit the model; {"; ".join(problems)}')
