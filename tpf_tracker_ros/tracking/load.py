"""A tracker by its name in the registry: its network in an engine, driven by its policy."""

from pathlib import Path

from tpf_tracker_ros.engines.choose import choose_device, load_engine
from tpf_tracker_ros.models import find_model
from tpf_tracker_ros.tracking.config import TrackerConfig
from tpf_tracker_ros.tracking.tpf_tracker import TpfTracker
from tpf_tracker_ros.tracking.tracker import Tracker


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
    entry = find_model(name)
    settings = TrackerConfig().changed(**{**entry.defaults, **config})
    path = None if checkpoint is None else Path(checkpoint)
    return TpfTracker(load_engine(name, choose_device(device), path), settings)
