"""
What each part of the training brings: the same budget for every variant, several seeds.

    python benchmarks/ablation.py --start FIRST --adapter MAD --pairs PAIRS --out runs/ablation
    python benchmarks/ablation.py --model tpf_nano --adapter MAD --pairs PAIRS --out runs/ablation

tpf_tiny: every variant starts from the backbone and head of --start and trains all of it on the
synthetic world: with plain averaging instead of an adapter, with a fresh adapter, with the adapter
of stage 1 (--adapter, made by `tpf train mad`), and with that and DRF.

tpf_nano: the tracker is frozen, so plain averaging, the RGB image and the adapter of stage 1 as it
is need no training; a fresh adapter, which starts as the RGB image, that of stage 1, and that with
DRF are trained through the tracker by `tpf train response`, with real images.

Or --weights alone are measured. Each is also tracked without NDTU. Measured on films of the world
and, with --pairs, on scenes panned over real pairs and on cut-outs moving over them, of the
development seed and of the reporting one; 'fade': RGB goes almost dark and comes back, then
thermal contrast does. Runs go on where they were interrupted.
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn, Tensor
from tpf_tracker_ros.core.sequence import Sequence
from tpf_tracker_ros.data.cutouts import cutout_set
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.data.panned import panned_set
from tpf_tracker_ros.evaluation.metrics import success_auc
from tpf_tracker_ros.evaluation.runner import run_sequence
from tpf_tracker_ros.models import create_model, packaged_weights
from tpf_tracker_ros.models.checkpoint import load_weights, save_weights
from tpf_tracker_ros.models.nano import TpfNano
from tpf_tracker_ros.tracking.load import load_tracker
from tpf_tracker_ros.training.config import read_config
from tpf_tracker_ros.training.samples.world import Batch, WorldConfig
from tpf_tracker_ros.training.stage import EXPERIMENTS
from tpf_tracker_ros.training.stages.drf import Drf, DrfConfig, from_uniform, Projector
from tpf_tracker_ros.training.stages.response import Response, ResponseConfig
from tpf_tracker_ros.training.stages.supervised import Supervised, SupervisedConfig
from tpf_tracker_ros.training.trainer import Trainer

HELD_OUT = 200  # first seed of the films
SEEDS = {'dev': 7, 'report': 0}  # of the pairs: settings were chosen on the first


class Filmed:
    """A sequence kept in memory, since every variant tracks it again."""

    def __init__(self, sequence: Sequence, frames: int | None = None) -> None:
        self.name, self.ground_truth = sequence.name, sequence.ground_truth[:frames]
        self.pairs = [pair for pair, _ in zip(sequence, self.ground_truth)]

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self):
        return iter(self.pairs)


class DecoupledResponse(Response):
    """
    DRF through a frozen tracker: its head sees a part of the search features of fixed rank.

    That part must answer as the teacher does, and the rest must tell nothing of the target.
    """

    columns = (*Response.columns, 'uninformative', 'left')
    RANK, WEIGHT = 64, 0.05

    def build(self) -> nn.ModuleDict:
        """Return the network and the projector."""
        model = super().build()
        return nn.ModuleDict({'model': model, 'relevant': Projector(_readers(model), self.RANK)})

    def group(self, name: str) -> str:
        """Let the projector train."""
        return 'projector' if name.startswith('relevant.') else super().group(name)

    def finished(self, network: nn.Module) -> TpfNano:
        """Return the network with the projector folded into what reads the search features."""
        plain = create_model('tpf_nano')
        plain.load_state_dict(network['model'].state_dict())
        with torch.no_grad():
            for reader in _readers(plain):
                kept = reader[:, :, 0, 0] @ network['relevant'].weight
                reader.copy_(kept[:, :, None, None])
        return plain

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """Add what the rest of the features tells, and log its share of their energy."""
        terms = super().compute(batch)
        z, left, search = self._seen
        apart = from_uniform(self.model.answer(z, left).score)
        share = left.square().sum() / search.square().sum()
        loss = terms['loss'] + self.WEIGHT * apart
        return {**terms, 'loss': loss, 'uninformative': apart, 'left': share}

    def for_head(self, z: Tensor, x: Tensor) -> Tensor:
        """Show the head the relevant part alone; the teacher's sees all."""
        if not torch.is_grad_enabled():
            return x
        relevant = self.network['relevant'](x)
        self._seen = z[:, None], x - relevant, x
        return relevant


def _readers(model: TpfNano) -> list[nn.Parameter]:
    """Return the kernels (96, 96, 1, 1) through which the head sees search features."""
    head = model.ban_head
    parts = head.corr_pw_cls, head.corr_dw_cls, head.corr_pw_reg, head.corr_dw_reg
    return [part.conv_search[0].weight for part in parts]


Variants = dict[str, tuple[type, SupervisedConfig]]


def variants(args: argparse.Namespace) -> Variants:
    """Name -> what to train, and its configuration but for the seed."""
    numbers = {
        'init_weights': str(args.start),
        'steps': args.steps,
        'batch': args.batch,
        'warmup': args.steps // 10,
        'ema': 0.98,
        'save_every': 100,
    }
    taught = {'init_adapter': str(args.adapter)}
    if args.model == 'tpf_nano':
        path = EXPERIMENTS / 'tpf_nano_response.toml'
        numbers |= taught | {'ema': 0.9}  # so few steps
        config = replace(read_config(path, ResponseConfig), **numbers)
        return {
            'PFA': (Response, replace(config, init_adapter='fresh')),
            'PFA, MAD': (Response, config),
            'PFA, MAD, DRF': (DecoupledResponse, config),
        }
    numbers |= {'learning_rate': 5e-4, 'world': WorldConfig(backgrounds=60, sprites=500)}
    plain = SupervisedConfig(**numbers, init_adapter='fresh')
    return {
        'averaging': (Supervised, replace(plain, train_adapter=False)),
        'PFA': (Supervised, plain),
        'PFA, MAD': (Supervised, replace(plain, **taught)),
        'PFA, MAD, DRF': (Drf, DrfConfig(**(numbers | taught))),
    }


def untrained(args: argparse.Namespace) -> dict[str, Path]:
    """Name -> weights of what needs no training."""
    if args.model != 'tpf_nano':
        return {}
    model = create_model('tpf_nano')
    load_weights(model, args.start, part=lambda key: model.group(key) != 'adapter')
    paths = {'MAD alone': args.adapter}
    for name, share in {'averaging': 0.5, 'RGB alone': 1.0}.items():
        nn.init.constant_(model.pfa.out.bias, share - 0.5)
        paths[name] = args.out / f'{name}.safetensors'
        save_weights(model, paths[name])
    return paths


def films(args: argparse.Namespace) -> dict[str, list[Filmed]]:
    """Column of the table -> its sequences."""
    columns = {}
    if args.films:
        seeds = range(HELD_OUT, HELD_OUT + args.films)
        worlds = (WorldSequence(seed, frames=150, size=(480, 384)) for seed in seeds)
        columns['world'] = [Filmed(sequence) for sequence in worlds]
    if not args.pairs:
        return columns
    for half, seed in SEEDS.items():
        for kind, make in {'panned': panned_set, 'cut-outs': cutout_set}.items():
            for degradation in args.degradations:
                made = make(args.pairs, count=args.count, seed=seed, degradations=(degradation,))
                frames = None if degradation == 'fade' else args.frames  # both cameras fade
                shown = [Filmed(sequence, frames) for sequence in made]
                columns[f'{half} {kind} {degradation}'] = shown
    return columns


def measure(
    weights: Path, columns: dict[str, list[Filmed]], args: argparse.Namespace, **settings: float
) -> dict[str, float]:
    """Mean success AUC in percent of each column."""
    tracker = load_tracker(args.model, device=args.device, checkpoint=weights, **settings)
    means = {}
    for column, sequences in columns.items():
        runs = [(run_sequence(tracker, s)[0], s.ground_truth) for s in sequences]
        means[column] = float(np.mean([success_auc(boxes, truth) for boxes, truth in runs]))
    return means


def print_table(results: dict[str, list[dict[str, float]]]) -> None:
    """Print Markdown, a column for each variant: mean and deviation over the seeds."""
    print(f'| success AUC | {" | ".join(results)} |\n|---{"|---" * len(results)}|')
    for row in next(iter(results.values()))[0]:
        cells = []
        for measured in results.values():
            values = [each[row] for each in measured]
            spread = f' ± {np.std(values):.1f}' if len(values) > 1 else ''
            cells.append(f'{np.mean(values):.1f}{spread}')
        print(f'| {row} | {" | ".join(cells)} |', flush=True)


def weights_of(args: argparse.Namespace) -> Iterable[tuple[str, Path]]:
    """Names and weights of all variants, trained where they are not yet."""
    if args.weights:
        yield from ((path.stem, path) for path in args.weights)
        return
    yield from untrained(args).items()
    for seed in range(args.seeds):
        for name, (stage, config) in variants(args).items():
            folder = args.out / f'{name.replace(", ", "-")}-{seed}'
            Trainer(stage, replace(config, seed=seed), folder, device=args.device).run()
            yield name, folder / f'{args.model}.safetensors'


def main() -> None:
    """Train what is not trained yet, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', choices=('tpf_tiny', 'tpf_nano'), default='tpf_tiny')
    parser.add_argument('--start', type=Path, help='weights all start from; tpf_nano: packaged')
    parser.add_argument('--adapter', type=Path, help='weights of stage 1')
    parser.add_argument('--weights', type=Path, nargs='+', help='measure these, train nothing')
    parser.add_argument('--pairs', type=Path, help='folder of registered pairs')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--films', type=int, default=6)
    parser.add_argument('--count', type=int, default=3, help='sequences of a column')
    parser.add_argument('--frames', type=int, help='of each at most')
    parser.add_argument('--degradations', nargs='+', default=['none', 'fade', 'switch'])
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    if args.model == 'tpf_nano':
        args.start = args.start or packaged_weights('tpf_nano')
    if not args.weights and None in (args.start, args.adapter):
        parser.error('give --adapter, and for tpf_tiny --start: weights of its first two stages')

    args.out.mkdir(parents=True, exist_ok=True)
    columns, results = films(args), {}
    for name, weights in weights_of(args):
        results.setdefault(name, []).append(measure(weights, columns, args))
        without = measure(weights, columns, args, ndtu_interval=0)
        results.setdefault(f'{name}, no NDTU', []).append(without)
        print_table(results)
        numbers = {key: getattr(args, key) for key in ('model', 'steps', 'batch', 'count')}
        (args.out / 'ablation.json').write_text(json.dumps({**numbers, 'auc': results}, indent=1))


if __name__ == '__main__':
    main()
