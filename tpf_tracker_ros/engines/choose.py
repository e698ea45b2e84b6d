"""Which device, and which engine on it: the fastest that runs there."""

import logging
from pathlib import Path

import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.engines.cuda_graph import CudaGraphEngine
from tpf_tracker_ros.engines.engine import Engine
from tpf_tracker_ros.engines.exported import ExportedEngine
from tpf_tracker_ros.engines.frozen import FrozenEngine
from tpf_tracker_ros.models.checkpoint import load_model
from tpf_tracker_ros.models.network import TrackingNetwork

log = logging.getLogger(__name__)


def choose_device(device: str) -> str:
    """'auto' as 'cuda' or 'cpu'; TpfError on a device that torch does not have."""
    if device == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise TpfError(f'device {device!r} cannot be used ({reason}); try cpu or auto') from None
    return device


def fastest_engine(network: TrackingNetwork, device: str) -> Engine:
    """
    Return the fastest engine that needs no export: frozen on a CPU, a CUDA graph on a GPU.

    Where a graph cannot be captured the plain engine runs, and a warning says why.
    """
    if device == 'cpu':
        return FrozenEngine(network)
    try:
        return CudaGraphEngine(network, device)
    except TpfError as error:
        log.warning('%s; steps take longer', error)
    return Engine(network, device)


def load_engine(name: str, device: str, checkpoint: Path | None, *, templates: int = 2) -> Engine:
    """
    Return the engine of a model with the weights of a checkpoint; None: those in the package.

    checkpoint: a safetensors file, or a folder of `tpf export`, which runs as it was exported.
    templates: how many are used at once, if the network takes so many: one costs less.
    Raises TpfError on a missing or broken file, and on one of another model.
    """
    exported = checkpoint is not None and checkpoint.is_dir()
    if exported and device != 'cpu':
        raise TpfError(f'export {checkpoint} runs on cpu, not on {device}; give device cpu')
    network = load_model(name, checkpoint / 'weights.safetensors' if exported else checkpoint)
    network.max_templates = min(templates, network.max_templates)
    return ExportedEngine(network, checkpoint) if exported else fastest_engine(network, device)
