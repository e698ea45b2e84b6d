"""
What each model costs as a multiple of plain OSTrack of the same run: `tpf bench --against-plain`.

Plain is the network of `tpf_base` with one template and no adapter, eager, float32, one thread;
all of its tokens pass all of its blocks, as in the public code. Ratios hold on a busy machine, as
what is compared takes turns.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from torch import Tensor
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.engines.engine import example_crops, Normalize
from tpf_tracker_ros.engines.frozen import FrozenEngine
from tpf_tracker_ros.models import create_model
from tpf_tracker_ros.models.checkpoint import save_weights
from tpf_tracker_ros.models.network import TrackingNetwork
from tpf_tracker_ros.models.tpf import Tpf, TpfConfig
from tpf_tracker_ros.tracking.load import load_tracker, model_settings

REPEATS = 6
# In a process of its own: what loading takes from the first import of torch on is not counted.
START = """
import sys, time, torch
from tpf_tracker_ros.system.process import resident_mb
from tpf_tracker_ros.tracking.load import load_tracker
name, weights = sys.argv[1:]
start = time.perf_counter()
load_tracker(name, device='cpu', checkpoint=weights)
print(time.perf_counter() - start, resident_mb())
"""


@torch.inference_mode()
def cost_ratios(names: list[str]) -> dict[str, dict[str, float]]:
    """
    Return for each model, and for 'plain', ms of a search step and its ratio to plain.

    step: merging the pair, keeping nothing, searching with as many templates as its settings use.
    frozen_ms, frozen_ratio: the same by the engine that runs on a CPU, uint8 crops in, box out.
    """
    plain, rows = _plain_step(create_model('tpf_base').eval()), {}
    for name in names:  # one after the other: all of them together would take many gigabytes
        network, templates = create_model(name).eval(), model_settings(name).templates
        steps = {
            'plain': plain,
            '': _step(network, templates),
            'frozen_': _frozen_step(network, templates),
        }
        times = _in_turns(steps, REPEATS)
        rows.setdefault('plain', {'ms': float(np.median(times['plain']) * 1e3), 'ratio': 1.0})
        rows[name] = {}
        for kind in '', 'frozen_':
            rows[name][f'{kind}ms'] = float(np.median(times[kind]) * 1e3)
            rows[name][f'{kind}ratio'] = float(np.median(times[kind] / times['plain']))
    return rows


@torch.inference_mode()
def growth() -> dict[str, float]:
    """How much a step grows with four times the frame's pixels, and with four times the crop's."""
    frames = {}
    for name, size in {'frame': (640, 512), 'four frames': (1280, 1024)}.items():
        rng = np.random.default_rng(0)
        rgb = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
        pair = FramePair(rgb, rng.integers(7200, 7700, size[::-1]).astype(np.uint16))
        tracker = load_tracker('tpf_tiny', device='cpu')
        tracker.initialize(pair, np.array([200.0, 200, 60, 60]))
        frames[name] = lambda tracker=tracker, pair=pair: tracker.track(pair)
    small = TpfConfig(dim=384, heads=6, head_channels=128, pfa_channels=16)
    large = replace(small, template_size=256, search_size=512)
    crops = {'crop': _step(Tpf(small).eval()), 'four crops': _step(Tpf(large).eval())}
    by_frame, by_crop = _in_turns(frames, 60), _in_turns(crops, REPEATS)
    return {
        'frame x 4': float(np.median(by_frame['four frames']) / np.median(by_frame['frame'])),
        'crop x 4': float(np.median(by_crop['four crops'] / by_crop['crop'])),
    }


def start_cost(name: str) -> dict[str, float]:
    """Seconds to load and warm up a model in a fresh process, and MB resident afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / 'weights.safetensors'
        save_weights(create_model(name), weights)
        command = [sys.executable, '-c', START, name, str(weights)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, resident = map(float, done.stdout.split())
    return {'start_s': seconds, 'resident_mb': resident}


def table(rows: dict[str, dict[str, float]], grows: dict[str, float]) -> str:
    """Return the numbers as text."""
    lines = [
        f'{"search step, float32":22}{"ms":>9}{"of plain":>10}{"frozen ms":>11}{"of plain":>10}'
        f'{"start s":>9}{"MB":>7}'
    ]
    for name, row in rows.items():
        line = f'{name:22}{row["ms"]:9.1f}{row["ratio"]:10.3f}'
        if 'frozen_ms' in row:
            line += f'{row["frozen_ms"]:11.1f}{row["frozen_ratio"]:10.3f}'
        if 'start_s' in row:
            line += f'{row["start_s"]:9.2f}{row["resident_mb"]:7.0f}'
        lines.append(line)
    lines += [f'{what}: {ratio:.2f} times the time' for what, ratio in grows.items()]
    return '\n'.join(lines)


def _plain_step(base: Tpf) -> Callable[[], object]:
    """One template, and the RGB image instead of a fused one; with taps no token is skipped."""
    template, search = (_normalised(base, view)[0] for view in ('template', 'search'))
    kept = base.template(template)[:, None]
    return lambda: base.box_head(base.features(kept, search, taps=[])[0])


def _step(network: TrackingNetwork, templates: int = 2) -> Callable[[], object]:
    kept = network.template(network.merge(*_normalised(network, 'template')))
    kept = torch.stack([kept] * min(templates, network.max_templates), 1)
    pair = _normalised(network, 'search')
    return lambda: network.search(kept, network.merge(*pair))


def _frozen_step(network: TrackingNetwork, templates: int) -> Callable[[], object]:
    network.max_templates = min(templates, network.max_templates)
    engine = FrozenEngine(network)
    z, x = (
        [image[0].numpy() for image in example_crops(network)[view]]
        for view in ('template', 'search')
    )
    kept = [engine.keep_template(*z)] * network.max_templates
    return lambda: engine.locate(kept, *x)


def _normalised(network: TrackingNetwork, view: str) -> list[Tensor]:
    normalize = Normalize(network.normalization)
    return [normalize(image) for image in example_crops(network)[view]]


def _in_turns(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, np.ndarray]:
    """
    Seconds of processor time (repeats,) of each step, all in turn; a first round does not count.

    Time in which other processes had the core is none of a network's.
    """
    times = defaultdict(list)
    for _ in range(repeats + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            times[name].append(time.process_time() - start)
    return {name: np.array(values[1:]) for name, values in times.items()}
