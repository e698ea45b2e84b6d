"""
The registry of trackers: each entry is a function behind the two verbs.

A further tracker (SDSTrack, CKD, CMD) is one more decorated function.
"""

from collections.abc import Callable
import logging
from pathlib import Path

from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.engines.cuda_graph import CudaGraphEngine
from tpf_tracker_ros.engines.engine import choose_device, Engine
from tpf_tracker_ros.engines.exported import ExportedEngine
from tpf_tracker_ros.engines.frozen import FrozenEngine
from tpf_tracker_ros.models import create_model, list_models, packaged_weights
from tpf_tracker_ros.models.checkpoint import load_weights
from tpf_tracker_ros.models.tpf import Tpf
from tpf_tracker_ros.tracking.config import TrackerConfig
from tpf_tracker_ros.tracking.tpf_tracker import TpfTracker
from tpf_tracker_ros.tracking.tracker import Tracker

__all__ = ['list_models', 'load_tracker', 'register_tracker']

_BUILDERS: dict[str, Callable[[str, str, Path | None, TrackerConfig], Tracker]] = {}


def register_tracker(*names: str) -> Callable:
    """Enter a function (name, device, checkpoint, config) -> Tracker for these model names."""

    def enter(build: Callable[[str, str, Path | None, TrackerConfig], Tracker]) -> Callable:
        _BUILDERS.update(dict.fromkeys(names, build))
        return build

    return enter


def load_model(name: str, checkpoint: Path | None = None) -> Tpf:
    """Return a network with the weights of a safetensors file; default: those in the package."""
    model = create_model(name)
    path = checkpoint or packaged_weights(name)
    if path is None:
        raise TpfError(
            f'model {name!r} ships without weights; give a checkpoint, for example one made by: '
            f'tpf import-weights FILE --model {name} --out {name}.safetensors'
        )
    load_weights(model, path)
    return model


def fastest_engine(model: Tpf, device: str) -> Engine:
    """
    Return the fastest engine that needs no export: frozen on a CPU, a CUDA graph on a GPU.

    Where a graph cannot be captured the plain engine runs, and a warning says why.
    """
    if device == 'cpu':
        return FrozenEngine(model)
    try:
        return CudaGraphEngine(model, device)
    except TpfError as error:
        logging.warning('%s; steps take longer', error)
    return Engine(model, device)


@register_tracker('tpf_base', 'tpf_small', 'tpf_tiny')
def _tpf(name: str, device: str, checkpoint: Path | None, config: TrackerConfig) -> Tracker:
    if checkpoint is not None and checkpoint.is_dir():
        if device != 'cpu':
            raise TpfError(f'export {checkpoint} runs on cpu, not on {device}; give device cpu')
        model = load_model(name, checkpoint / 'weights.safetensors')
        engine = ExportedEngine(model, checkpoint)
    else:
        engine = fastest_engine(load_model(name, checkpoint), device)
    return TpfTracker(name, engine, config)


def load_tracker(
    name: str = 'tpf_tiny',
    *,
    device: str = 'auto',
    checkpoint: str | Path | None = None,
    **config: float,
) -> Tracker:
    """
    Return a tracker that is ready to initialize.

    device: 'auto', 'cpu', 'cuda', 'cuda:1'. checkpoint: a safetensors file or a folder of
    `tpf export`, which is faster on a cpu; default: the weights in the package.
    config: settings of TrackerConfig.
    Raises TpfError on an unknown model, device or setting, and on a missing or broken file.
    """
    if name not in _BUILDERS:
        raise TpfError(f'unknown model {name!r}; choose one of {", ".join(_BUILDERS)}')
    settings = TrackerConfig().changed(**config)
    path = None if checkpoint is None else Path(checkpoint)
    return _BUILDERS[name](name, choose_device(device), path, settings)
