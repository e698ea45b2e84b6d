"""A tracker by its name in the registry: its network in an engine, driven by its policy."""

from pathlib import Path

from tpf_tracker_ros.engines.choose import choose_device, load_engine
from tpf_tracker_ros.models import find_model
from tpf_tracker_ros.tracking.config import DEFAULT_MODEL, TrackerConfig, Value
from tpf_tracker_ros.tracking.search_region import SearchTracker
from tpf_tracker_ros.tracking.tracker import Tracker


def load_tracker(
    name: str = DEFAULT_MODEL,
    *,
    device: str = 'auto',
    checkpoint: str | Path | None = None,
    **config: Value,
) -> Tracker:
    """
    Return a tracker that is ready to initialize.

    device: 'auto', 'cpu', 'cuda', 'cuda:1'. checkpoint: a safetensors file or a folder of
    `tpf export`, which is faster on a cpu; default: the weights in the package.
    config: settings of TrackerConfig, on top of the model's own; policy='published' switches off
    all that is ours. A process that only tracks should leave cores to others: OMP_NUM_THREADS.
    Raises TpfError on an unknown model, device or setting, and on a missing or broken file.
    """
    settings = model_settings(name, **config)
    path = None if checkpoint is None else Path(checkpoint)
    engine = load_engine(name, choose_device(device), path, templates=settings.templates)
    return SearchTracker(engine, settings)


def model_settings(name: str, **config: Value) -> TrackerConfig:
    """Return a model's settings with those given on top. Raises TpfError on a wrong one."""
    entry = find_model(name)
    return TrackerConfig.of_model({'policy': entry.policy, **entry.defaults}, **config)
