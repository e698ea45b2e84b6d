"""
How long a step takes, where the time goes, and what an engine gains: `tpf bench`.

Everything that is compared runs turn by turn on the same frames, so that ratios hold on a busy
machine, too. Steps run from the image pair to the box, 640x512.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
import importlib.util
from pathlib import Path
import shutil
import tempfile
import time

import numpy as np
import torch
from torch import Tensor
from tpf_tracker_ros.bench.agreement import agreement
from tpf_tracker_ros.bench.macs import count_macs
from tpf_tracker_ros.core.sequence import Sequence
from tpf_tracker_ros.engines.cuda_graph import CudaGraphEngine
from tpf_tracker_ros.engines.engine import Engine, example_crops
from tpf_tracker_ros.engines.export import export_model, has_large_products, quantize_onnx
from tpf_tracker_ros.engines.exported import ExportedEngine
from tpf_tracker_ros.engines.frozen import FrozenEngine
from tpf_tracker_ros.models import create_model
from tpf_tracker_ros.models.layers.mamba import MambaMixer
from tpf_tracker_ros.models.network import TrackingNetwork
from tpf_tracker_ros.system.process import resident_mb
from tpf_tracker_ros.tracking.config import TrackerConfig
from tpf_tracker_ros.tracking.search_region import SearchTracker
from tpf_tracker_ros.tracking.tracker import Tracker

WARM_UP = 5  # steps that do not count


def bench_model(
    network: TrackingNetwork, device: str, sequence: Sequence, config: TrackerConfig
) -> dict:
    """
    Return times of all engines of a network, its parts' share of the eager step, memory and MACs.

    Milliseconds. times_faster: the median over frames of the plain step's time over the
    engine's. agreement: mean IoU with the plain path's boxes for the same crops.
    """
    network.max_templates = min(config.templates, network.max_templates)
    with tempfile.TemporaryDirectory() as folder:
        engines = make_engines(network, device, Path(folder))
    trackers = {kind: SearchTracker(engine, config) for kind, engine in engines.items()}
    times = time_trackers(trackers, sequence)
    rows = {kind: summary(times[kind]) for kind in trackers}
    for kind, row in rows.items():
        row['times_faster'] = float(np.median(times['plain']['total'] / times[kind]['total']))
        row['agreement'] = agreement(engines['plain'].network, engines[kind], sequence)
    return {
        'model': network.name,
        'device': torch.cuda.get_device_name(device) if device != 'cpu' else 'cpu',
        'threads': torch.get_num_threads(),
        'parameters': sum(p.numel() for p in network.parameters()),
        'macs': step_macs(network.name, templates=config.templates),
        'parts_ms': time_parts(Engine(network, device).network, device),
        'engines': rows,
        'resident_mb': resident_mb(),
    }


def plain_engine(network: TrackingNetwork, device: str, scan: str = 'chunked') -> Engine:
    """Return the baseline: eager, float32, of PyTorch's operators alone, no kernels of Mamba."""
    engine = Engine(network, device)
    for layer in engine.network.modules():
        if isinstance(layer, MambaMixer):
            layer.backend = scan
    return engine


def make_engines(network: TrackingNetwork, device: str, folder: Path) -> dict[str, Engine]:
    """All engines that run here, the plain one first; exports are made in the folder."""
    engines = {'plain': plain_engine(network, device), 'eager': Engine(network, device)}
    if device != 'cpu':
        engines['cuda graph fp16'] = CudaGraphEngine(network, device)
        engines['cuda graph bf16'] = CudaGraphEngine(network, device, torch.bfloat16)
        return engines
    engines['frozen'] = FrozenEngine(network)
    int8 = has_large_products(network)
    if int8:
        export_model(network, folder / 'torchscript int8', form='torchscript', int8=True)
    if importlib.util.find_spec('onnxruntime') and importlib.util.find_spec('onnxscript'):
        export_model(network, folder / 'onnx', form='onnx')
        if int8:
            shutil.copytree(folder / 'onnx', folder / 'onnx int8')
            for step in ('template', 'search'):
                quantize_onnx(folder / 'onnx int8' / f'{step}.onnx')
    for path in sorted(folder.iterdir()):
        engines[path.name] = ExportedEngine(network, path)
    return engines


def time_trackers(
    trackers: dict[str, Tracker], sequence: Sequence
) -> dict[str, dict[str, np.ndarray]]:
    """Milliseconds (frames,) by stage, and of the whole step as 'total', of each tracker."""
    stages: dict[str, list[dict]] = {name: [] for name in trackers}
    for index, pair in enumerate(sequence):
        for name, tracker in trackers.items():
            if index == 0:
                tracker.initialize(pair, sequence.ground_truth[0])
                continue
            start = time.perf_counter()
            result = tracker.track(pair)
            total = (time.perf_counter() - start) * 1e3
            if index > WARM_UP:
                stages[name].append({**result.stages, 'total': total})
    return {
        name: {stage: np.array([row[stage] for row in rows]) for stage in rows[0]}
        for name, rows in stages.items()
    }


def summary(times: dict[str, np.ndarray]) -> dict[str, float]:
    """Medians by stage, p50 and p95 of the whole step, and frames a second."""
    row = {f'{stage}_ms': float(np.median(values)) for stage, values in times.items()}
    row['p50_ms'] = row.pop('total_ms')
    row['p95_ms'] = float(np.percentile(times['total'], 95))
    row['frames_per_second'] = 1e3 / float(np.mean(times['total']))
    return row


@torch.inference_mode()
def time_parts(network: TrackingNetwork, device: str, repeats: int = 20) -> dict[str, float]:
    """Median milliseconds of each part of a search step of a network on the device."""
    times = defaultdict(list)
    parts = network.parts(*_search_inputs(network, device))
    for _ in range(repeats):
        for name, run in parts.items():
            times[name].append(_milliseconds(run, device))
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def _search_inputs(network: TrackingNetwork, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Templates as the network keeps them, and normalised RGB and thermal of a search crop."""
    crops = example_crops(network, device)
    template, search = (
        [image.permute(0, 3, 1, 2).float() for image in crops[view]]
        for view in ('template', 'search')
    )
    kept = network.template(network.merge(*template))
    return torch.stack([kept] * network.max_templates, 1), *search


def _milliseconds(run: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    run()
    if device != 'cpu':
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) * 1e3


@torch.inference_mode()
def step_macs(name: str, *, templates: int = 2) -> dict[str, int]:
    """Multiply-adds of one step by kind, and those of merging the two images."""
    with torch.device('meta'):
        network = create_model(name).eval()
    network.max_templates = min(templates, network.max_templates)
    kept, rgb, thermal = _search_inputs(network, 'meta')
    counts = count_macs(lambda: network.search(kept, network.merge(rgb, thermal)))
    merge = count_macs(lambda: network.merge(rgb, thermal))
    return {**counts, 'merge': merge['convolution'] + merge['linear']}


def table(results: Iterable[dict]) -> str:
    """Return the results of bench_model as text."""
    lines = []
    for result in results:
        macs = sum(result['macs'][kind] for kind in ('convolution', 'linear', 'attention'))
        lines.append(
            f'{result["model"]} on {result["device"]}, {result["threads"]} threads: '
            f'{result["parameters"] / 1e6:.2f} M parameters, {macs / 1e9:.2f} GMACs a step '
            f'(merging {result["macs"]["merge"] / 1e9:.2f}), '
            f'{result["resident_mb"]:.0f} MB resident'
        )
        parts = result['parts_ms']
        whole = sum(parts.values())
        shares = ', '.join(f'{part} {value / whole:.0%}' for part, value in parts.items())
        lines.append(f'  of the eager network: {shares}')
        lines.append(
            f'  {"engine":18}{"p50 ms":>8}{"p95 ms":>8}{"pairs/s":>9}{"crop":>7}{"network":>9}'
            f'{"update":>7}{"faster":>8}{"IoU":>7}'
        )
        for kind, row in result['engines'].items():
            lines.append(
                f'  {kind:18}{row["p50_ms"]:8.2f}{row["p95_ms"]:8.2f}'
                f'{row["frames_per_second"]:9.1f}{row["crop_ms"]:7.2f}{row["network_ms"]:9.2f}'
                f'{row["update_ms"]:7.2f}{row["times_faster"]:7.2f}x{row["agreement"]:7.3f}'
            )
    return '\n'.join(lines)
