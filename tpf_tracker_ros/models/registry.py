"""
The registry: a model is one function under a decorator and, if it has them, one weights file.

Lists, tests and the command line walk it, so that a new model is picked up by all of them.
"""

from collections.abc import Callable
from pathlib import Path

from torch import nn
from tpf_tracker_ros.core.errors import TpfError

WEIGHTS_FOLDER = Path(__file__).parent / 'weights'

_BUILDERS: dict[str, Callable[[], nn.Module]] = {}


def register_model(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Enter a function that builds a model; its name and docstring are the model's."""
    _BUILDERS[build.__name__] = build
    return build


def list_models() -> dict[str, str]:
    """Names of all models and a line on each."""
    return {name: (build.__doc__ or '').splitlines()[0] for name, build in _BUILDERS.items()}


def create_model(name: str) -> nn.Module:
    """Return a model with fresh weights. Raises TpfError on a name that is not registered."""
    if name not in _BUILDERS:
        raise TpfError(f'unknown model {name!r}; choose one of {", ".join(_BUILDERS)}')
    return _BUILDERS[name]()


def packaged_weights(name: str) -> Path | None:
    """Return the weights that ship with the package for this model, or None."""
    path = WEIGHTS_FOLDER / f'{name}.safetensors'
    return path if path.is_file() else None
