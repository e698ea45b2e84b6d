"""
The registry: a tracker is one function under a decorator that builds its network.

The entry also holds what goes with the network as data: the policy that drives it and its
settings, how published weights are named, the weights in the package. Lists, tests and the
command line walk it, so that a new tracker is picked up by all of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.network import TrackingNetwork

WEIGHTS_FOLDER = Path(__file__).parent / 'weights'

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class PublishedKeys:
    """
    How the weights of a published file become a model's: `tpf import-weights`.

    unused: whether the model has no use for a weight of this name in a file: it is not read.
    convert: (the file's weights, those expected) -> weights by our keys, which must be all that
    are expected. ours: whether a key of the model is among them; the others keep their start,
    which rest tells of.
    licence: of the published weights, told by every file that holds them.
    """

    unused: Callable[[str], bool] = lambda key: False
    convert: Callable[[Weights, Weights], Weights] = lambda found, expected: found
    ours: Callable[[str], bool] = bool
    rest: str = ''
    licence: str = ''


@dataclass(frozen=True)
class Entry:
    """
    One tracker.

    policy: the settings it starts from, 'robust' or 'published' (tracking/config.py); defaults:
    settings that are its own under 'robust'. published: None where there are no such weights.
    """

    name: str
    build: Callable[[], TrackingNetwork]
    policy: str = 'robust'
    defaults: Mapping[str, float | str] = field(default_factory=dict)
    published: PublishedKeys | None = None

    @property
    def line(self) -> str:
        """Return the first line of the function's docstring."""
        return (self.build.__doc__ or '').splitlines()[0]

    @property
    def weights(self) -> Path | None:
        """Return the weights in the package, or None."""
        path = WEIGHTS_FOLDER / f'{self.name}.safetensors'
        return path if path.is_file() else None


_ENTRIES: dict[str, Entry] = {}


def register_model(
    *,
    policy: str = 'robust',
    defaults: Mapping[str, float | str] | None = None,
    published: PublishedKeys | None = None,
) -> Callable[[Callable[[], TrackingNetwork]], Callable[[], TrackingNetwork]]:
    """Enter the decorated function under its name. Raises TpfError where the name is taken."""

    def enter(build: Callable[[], TrackingNetwork]) -> Callable[[], TrackingNetwork]:
        name = build.__name__
        if name in _ENTRIES:
            other = _ENTRIES[name].build.__module__
            raise TpfError(f'model {name!r} is registered by {other} already; choose another name')
        _ENTRIES[name] = Entry(name, build, policy, dict(defaults or {}), published)
        return build

    return enter


def find_model(name: str) -> Entry:
    """Return the entry of this name. Raises TpfError where there is none."""
    if name not in _ENTRIES:
        raise TpfError(f'unknown model {name!r}; choose one of {", ".join(list_models())}')
    return _ENTRIES[name]


def list_models() -> dict[str, Entry]:
    """All entries by name, in its order."""
    return dict(sorted(_ENTRIES.items()))


def create_model(name: str) -> TrackingNetwork:
    """Return a network with fresh weights. Raises TpfError on a name that is not registered."""
    model = find_model(name).build()
    model.name = name
    return model


def packaged_weights(name: str) -> Path | None:
    """Return the weights that ship with the package for this model, or None."""
    return find_model(name).weights
