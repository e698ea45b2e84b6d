"""Reading and writing weights as safetensors, with every mismatch named."""

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn, Tensor
from tpf_tracker_ros.core.errors import TpfError


def load_weights(model: nn.Module, path: Path, *, part: Callable[[str], bool] = bool) -> None:
    """
    Load a safetensors file into the model; of part of it, only the keys that part accepts.

    Raises TpfError when the file is missing or broken, or when a key or shape does not fit.
    """
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise TpfError(f'checkpoint {path} does not exist') from None
    except (SafetensorError, OSError) as error:
        raise TpfError(
            f'checkpoint {path} is not a readable safetensors file ({error}); convert published '
            '.pth files with: tpf import-weights FILE --model NAME --out FILE.safetensors'
        ) from None
    weights = {key: value for key, value in weights.items() if part(key)}
    wanted = {key: value for key, value in model.state_dict().items() if part(key)}
    check_keys(wanted, weights, source=str(path))
    model.load_state_dict(weights, strict=False)


def save_weights(model: nn.Module, path: Path, *, metadata: dict[str, str]) -> None:
    """Write the model's weights and a few words on where they come from."""
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, path, metadata=metadata)


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
