"""
What each loss of CMD brings: the same short budget for every variant, several seeds.

    python benchmarks/ablation_cmd.py --data ../shared/data --out runs/ablation_cmd

Every variant starts and learns as cmd_tiny.toml says, for so many steps in a smaller world; tokens
are eliminated late, as features are compared only before. Measured on the development sequences of
accuracy.py (seed 7). Runs go on where they were interrupted; nothing is measured twice.
"""

import argparse
from collections import defaultdict
from dataclasses import replace
import json
from pathlib import Path

from ablation import Filmed, measure, print_table
from accuracy import ROADSCENE_SETS, sequences
from tpf_tracker_ros.training.config import read_config
from tpf_tracker_ros.training.stage import EXPERIMENTS
from tpf_tracker_ros.training.stages.cmd import CmdStage, CmdStageConfig
from tpf_tracker_ros.training.trainer import Trainer

LABELS = {'feature_weight': 0.0, 'path_weight': 0.0, 'response_weight': 0.0}
PLAIN = {'split_features': False, 'path_weight': 0.0, 'response_weight': 0.0}
VARIANTS = {
    'labels alone': LABELS,
    'plain features': PLAIN,
    'SCFD': {'path_weight': 0.0, 'response_weight': 0.0},
    'SCFD, MPSD': {'response_weight': 0.0},
    'SCFD, MPSD, response': {},
}


def configuration(args: argparse.Namespace) -> CmdStageConfig:
    """Return what all variants share, but for the seed."""
    short = {
        'minutes': 0.0,
        'steps': args.steps,
        'batch': args.batch,
        'save_seconds': 0.0,
        'log_every': 10,
        'save_every': 20,
        'keep_from': 0.5,
        'keep_until': 0.6,
    }
    config = read_config(EXPERIMENTS / 'cmd_tiny.toml', CmdStageConfig, short)
    return replace(config, world=replace(config.world, backgrounds=40, sprites=300))


def development(args: argparse.Namespace) -> dict[str, list[Filmed]]:
    """Column of the table -> its sequences."""
    args.sets, args.half, args.seed = ['real_dev', *ROADSCENE_SETS], ['dev'], 7
    columns = defaultdict(list)
    for group, _, sequence in sequences(args):
        columns[group].append(Filmed(sequence))
    return columns


def main() -> None:
    """Train what is not trained yet, measure what is not measured, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='folder of the real data')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--steps', type=int, default=80)
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--count', type=int, default=4, help='sequences of a set of pairs')
    parser.set_defaults(model='cmd_tiny', device='cpu')
    args = parser.parse_args()

    config, columns, results = configuration(args), development(args), defaultdict(list)
    for seed in range(args.seeds):
        for name, switches in VARIANTS.items():
            folder = args.out / f'{name.replace(", ", "-").replace(" ", "-")}-{seed}'
            measured = folder / 'auc.json'
            if not measured.is_file():
                Trainer(CmdStage, replace(config, seed=seed, **switches), folder).run()
                found = measure(folder / 'cmd_tiny.safetensors', columns, args)
                measured.write_text(json.dumps(found))
            results[name].append(json.loads(measured.read_text()))
        print_table(results)
        numbers = {key: getattr(args, key) for key in ('steps', 'batch', 'count')}
        (args.out / 'ablation.json').write_text(json.dumps({**numbers, 'auc': results}, indent=1))


if __name__ == '__main__':
    main()
