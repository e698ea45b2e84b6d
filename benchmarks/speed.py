"""
Step times of our models beside OpenCV's trackers, on the same frames in one run.

    python benchmarks/speed.py --nanotrack ../shared/data/nanotrack --json speed.json

Rows: every engine of each --model (as `tpf bench` shows them), the plain one with the sequential
scan, NanoTrack and, where OpenCV has it (see peers.py), CSRT. On a busy machine read the ratios,
not the milliseconds.
"""

import argparse
import json
from pathlib import Path
import runpy
import tempfile

import numpy as np
from peers import Peer, peers
from torch import Tensor
from tpf_tracker_ros.bench.step_time import make_engines, plain_engine, summary, time_trackers
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.engines.choose import choose_device
from tpf_tracker_ros.engines.engine import Engine
from tpf_tracker_ros.models import create_model, packaged_weights
from tpf_tracker_ros.models.checkpoint import load_model
from tpf_tracker_ros.models.layers import mamba
from tpf_tracker_ros.models.layers.scan import selective_scan
from tpf_tracker_ros.models.network import TrackingNetwork
from tpf_tracker_ros.tracking.load import model_settings
from tpf_tracker_ros.tracking.search_region import SearchTracker

REFERENCE = Path(__file__).parents[1] / 'test' / 'models' / 'layers' / 'scan_reference.py'
sequential_scan = runpy.run_path(str(REFERENCE))['sequential_scan']


def sequential_engine(model: TrackingNetwork, device: str) -> Engine:
    """Return the plain engine with the scan as it is defined, one token after the other."""

    def scan(*inputs: Tensor, backend: str) -> Tensor:
        if backend == 'sequential':
            return sequential_scan(*inputs)
        return selective_scan(*inputs, backend=backend)

    mamba.selective_scan = scan
    return plain_engine(model, device, scan='sequential')


def network(name: str) -> TrackingNetwork:
    """Load packaged weights; random ones, which take the same time, where there are none."""
    return load_model(name) if packaged_weights(name) else create_model(name)


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', nargs='+', default=['tpf_tiny'])
    parser.add_argument('--device', default='auto')
    parser.add_argument('--nanotrack', type=Path)
    parser.add_argument('--frames', type=int, default=150)
    parser.add_argument('--json', type=Path)
    options = parser.parse_args()

    device = choose_device(options.device)
    trackers = {}
    for name in options.model:
        with tempfile.TemporaryDirectory() as folder:
            model = network(name)
            engines = make_engines(model, device, Path(folder))
        engines['sequential scan'] = sequential_engine(model, device)
        for kind, engine in engines.items():
            trackers[f'{name} {kind}'] = SearchTracker(engine, model_settings(name))
    for name, make in peers(options.nanotrack).items():
        trackers[f'{name} rgb'] = Peer(name, make, 'rgb')

    times = time_trackers(trackers, WorldSequence(0, frames=options.frames))
    rows = {name: summary(times[name]) for name in trackers}
    print(
        f'{"640x512, pair in, box out":28}{"p50 ms":>8}{"p95 ms":>8}{"pairs/s":>9}  times faster'
    )
    for name, row in rows.items():
        row['times_faster_than'] = {
            other: float(np.median(times[other]['total'] / times[name]['total']))
            for other in trackers
            if other.endswith((' plain', ' scan', ' rgb')) and other != name
        }
        ratios = ', '.join(f'{v:.2f} than {k}' for k, v in row['times_faster_than'].items())
        print(
            f'{name:28}{row["p50_ms"]:8.2f}{row["p95_ms"]:8.2f}'
            f'{row["frames_per_second"]:9.1f}  {ratios}'
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + '\n')


if __name__ == '__main__':
    main()
