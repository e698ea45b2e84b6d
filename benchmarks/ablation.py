"""
What each part of the training brings: the same budget for every variant, several seeds.

    python benchmarks/ablation.py --start FIRST --adapter MAD --pairs PAIRS --out runs/ablation

Every variant starts from the backbone and head of --start and trains all of it on the synthetic
world: with plain averaging instead of an adapter, with a fresh adapter, with the adapter of
stage 1 (--adapter, made by `tpf train mad`), and with that and DRF; the last is also tracked
without NDTU. Measured on films of the world and, with --pairs, on scenes panned over real pairs,
whose seeds nothing was trained or tuned on. Runs go on where they were interrupted.
"""

import argparse
from dataclasses import replace
import json
from pathlib import Path

import numpy as np
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.data.panned import DEGRADATIONS, panned_set
from tpf_tracker_ros.evaluation.metrics import success_auc
from tpf_tracker_ros.evaluation.runner import run_sequence
from tpf_tracker_ros.tracking.load import load_tracker
from tpf_tracker_ros.training.samples.world import WorldConfig
from tpf_tracker_ros.training.stages.drf import Drf, DrfConfig
from tpf_tracker_ros.training.stages.supervised import Supervised, SupervisedConfig
from tpf_tracker_ros.training.trainer import Trainer

HELD_OUT = 200  # first seed of the films
PANNED_SEED = 300
FULL = 'PFA, MAD, DRF'


class Filmed:
    """A sequence kept in memory: every variant tracks it again."""

    def __init__(self, sequence) -> None:
        self.name, self.ground_truth = sequence.name, sequence.ground_truth
        self.pairs = list(sequence)

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self):
        return iter(self.pairs)


def variants(args: argparse.Namespace) -> dict[str, tuple[type, SupervisedConfig]]:
    """Name -> what to train, and its configuration but for the seed."""
    numbers = {
        'init_weights': str(args.start),
        'steps': args.steps,
        'batch': args.batch,
        'warmup': args.steps // 10,
        'learning_rate': 5e-4,
        'ema': 0.98,
        'save_every': 100,
        'world': WorldConfig(backgrounds=60, sprites=500),
    }
    plain = SupervisedConfig(**numbers, init_adapter='fresh')
    taught = {'init_adapter': str(args.adapter)}
    return {
        'averaging': (Supervised, replace(plain, train_adapter=False)),
        'PFA': (Supervised, plain),
        'PFA, MAD': (Supervised, replace(plain, **taught)),
        FULL: (Drf, DrfConfig(**(numbers | taught))),
    }


def films(args: argparse.Namespace) -> dict[str, list[Filmed]]:
    """Column of the table -> its sequences."""
    columns = {
        'world': [
            Filmed(WorldSequence(HELD_OUT + i, frames=150, size=(480, 384)))
            for i in range(args.films)
        ]
    }
    if args.pairs:
        chosen = panned_set(
            args.pairs, count=args.panned, seed=PANNED_SEED, degradations=DEGRADATIONS
        )
        for sequence in chosen:
            columns.setdefault(f'panned {sequence.degradation}', []).append(Filmed(sequence))
    return columns


def measure(
    weights: Path, columns: dict[str, list[Filmed]], device: str, **settings: float
) -> dict[str, float]:
    """Mean success AUC in percent of each column."""
    tracker = load_tracker('tpf_tiny', device=device, checkpoint=weights, **settings)
    means = {}
    for column, sequences in columns.items():
        runs = [(run_sequence(tracker, s)[0], s.ground_truth) for s in sequences]
        means[column] = float(np.mean([success_auc(boxes, truth) for boxes, truth in runs]))
    return means


def print_table(results: dict[str, list[dict[str, float]]]) -> None:
    """Print Markdown: mean and deviation over the seeds."""
    columns = list(next(iter(results.values()))[0])
    print(f'| success AUC | {" | ".join(columns)} |\n|---{"|---" * len(columns)}|')
    for name, rows in results.items():
        cells = []
        for column in columns:
            values = [row[column] for row in rows]
            cells.append(f'{np.mean(values):.1f} ± {np.std(values):.1f}')
        print(f'| {name} | {" | ".join(cells)} |')


def main() -> None:
    """Train what is not trained yet, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--start', type=Path, required=True, help='weights all start from')
    parser.add_argument('--adapter', type=Path, required=True, help='weights of stage 1')
    parser.add_argument('--pairs', type=Path, help='folder of registered pairs')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--films', type=int, default=6)
    parser.add_argument('--panned', type=int, default=12, help='sequences, a quarter each')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()

    columns, results = films(args), {}
    for seed in range(args.seeds):
        for name, (stage, config) in variants(args).items():
            folder = args.out / f'{name.replace(", ", "-")}-{seed}'
            Trainer(stage, replace(config, seed=seed), folder, device=args.device).run()
            weights = folder / 'tpf_tiny.safetensors'
            results.setdefault(name, []).append(measure(weights, columns, args.device))
            if name == FULL:
                without = measure(weights, columns, args.device, ndtu_interval=0)
                results.setdefault(f'{FULL}, no NDTU', []).append(without)
        print_table(results)
        numbers = {key: getattr(args, key) for key in ('steps', 'batch', 'films', 'panned')}
        (args.out / 'ablation.json').write_text(json.dumps({**numbers, 'auc': results}, indent=1))


if __name__ == '__main__':
    main()
