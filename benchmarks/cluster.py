"""
How many sequences a minute a data set takes: one process, and Ray clusters of one and two nodes.

    python benchmarks/cluster.py --root /data/LasHeR/testingset --dataset lasher

The nodes are those of ray.cluster_utils.Cluster: processes of their own on this machine, one core
each. The start of the cluster is not counted, that of the workers (code, weights, PyTorch) is.
"""

import argparse
from collections.abc import Callable
from functools import partial
import os
from pathlib import Path
import tempfile
import time

import torch
from tpf_tracker_ros.evaluation.cluster import run_on_cluster
from tpf_tracker_ros.evaluation.runner import run_dataset
from tpf_tracker_ros.tracking.load import load_tracker


def main() -> None:
    """Run the data set three times, print sequences a minute, compare the boxes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', type=Path, required=True)
    parser.add_argument('--dataset', default='lasher')
    parser.add_argument('--model', default='tpf_tiny')
    args = parser.parse_args()
    torch.set_num_threads(1)  # a core each, as Ray gives its workers
    os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
    from ray.cluster_utils import Cluster

    make = partial(load_tracker, args.model)
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / name for name in ('process', 'node', 'nodes')]
        here = partial(make, device='cpu')
        report('one process', outs[0], partial(run_dataset, here, args.dataset, args.root))
        head = {'num_cpus': 0, 'include_dashboard': False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for count, out in zip((1, 2), outs[1:]):
                cluster.add_node(num_cpus=1)
                cluster.wait_for_nodes()
                run = partial(run_on_cluster, make, args.dataset, args.root)
                there = partial(run, address=cluster.address, device='cpu')
                report(f'{count} of one core by Ray', out, there)
        finally:
            cluster.shutdown()
        results = [sorted(out.glob('*.txt')) for out in outs]
        boxes = [[f.read_bytes() for f in files if '_time' not in f.name] for files in results]
        print(f'boxes are the same to the byte: {boxes[0] == boxes[1] == boxes[2]}')


def report(name: str, out: Path, run: Callable[[Path], str]) -> None:
    """Print the pace of one run."""
    start = time.perf_counter()
    run(out)
    seconds = time.perf_counter() - start
    count = sum(not path.stem.endswith('_time') for path in out.glob('*.txt'))
    print(f'{name:24} {count} sequences in {seconds:5.1f} s: {60 * count / seconds:5.1f} a minute')


if __name__ == '__main__':
    main()
