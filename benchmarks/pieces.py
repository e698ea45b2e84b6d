"""
Each piece of a model's robust policy, off against on: what it is worth on development data.

    python benchmarks/pieces.py --data ../shared/data --tracker tpf_nano tpf_tiny --frames 100

A piece is off where its setting is that of the published policy. All runs see the same frames
side by side; a row says by how much the mean success AUC (percent) falls where that piece alone is
off, so what is worth having is above zero. Sets and halves are those of accuracy.py; pairs are of
seed 7.
"""

import argparse
from collections import defaultdict
from pathlib import Path

from accuracy import ROADSCENE_SETS, sequences
import numpy as np
from tpf_tracker_ros.evaluation.metrics import success_auc
from tpf_tracker_ros.tracking.config import PUBLISHED, TrackerConfig
from tpf_tracker_ros.tracking.load import load_tracker, model_settings
from tpf_tracker_ros.tracking.tracker import Tracker

KEPT = 'policy', 'published_crops'  # are no pieces that a policy is made of


def switches(config: TrackerConfig) -> list[str]:
    """Return the settings of a policy that the published one has off."""
    on = (name for name in PUBLISHED if getattr(config, name) != PUBLISHED[name])
    return [name for name in on if name not in KEPT]


def variants(model: str) -> dict[str, Tracker]:
    """'' with every piece of the model, and by name without one."""
    off = {name: {name: PUBLISHED[name]} for name in switches(model_settings(model))}
    return {
        name: load_tracker(model, device='cpu', **changes)
        for name, changes in {'': {}, **off}.items()
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='folder of the real data')
    parser.add_argument('--tracker', nargs='+', default=['tpf_nano', 'tpf_tiny'])
    parser.add_argument('--sets', nargs='+', default=['real_dev', *ROADSCENE_SETS])
    parser.add_argument('--count', type=int, default=3, help='sequences of a set of pairs')
    parser.add_argument('--frames', type=int, help='of each film at most, for a quick look')
    args = parser.parse_args()
    args.seed, args.half = 7, ['dev']
    tried = {model: variants(model) for model in args.tracker}
    found = defaultdict(lambda: defaultdict(list))
    for group, _, sequence in sequences(args):
        boxes = defaultdict(list)
        last = args.frames if group == 'real_dev' else None
        for index, pair in zip(range(last or len(sequence)), sequence):
            for model, trackers in tried.items():
                for name, tracker in trackers.items():
                    first = sequence.ground_truth[0]
                    result = tracker.track(pair) if index else tracker.initialize(pair, first)
                    boxes[model, name].append(result.box)
        for key, each in boxes.items():
            truth = sequence.ground_truth[: len(each)]
            found[key][group].append(success_auc(np.array(each), truth))
        print(sequence.name, flush=True)
    print(f'\n{"AUC, and what a piece adds":36}' + ''.join(f'{name:>16}' for name in args.sets))
    for (model, name), by_set in found.items():
        all_on = {group: np.mean(values) for group, values in found[model, ''].items()}
        shown = []
        for group in args.sets:
            gain = all_on[group] - np.mean(by_set[group])
            shown.append(f'{gain:+16.1f}' if name else f'{all_on[group]:16.1f}')
        print(f'{model + " " + name:36}' + ''.join(shown))


if __name__ == '__main__':
    main()
