"""
Accuracy of our tracker beside NanoTrack and CSRT on real sequences: one table and a JSON.

    python benchmarks/accuracy.py --data ../shared/data --json accuracy.json

Sets: antiuav (thermal alone); panned and cutouts over the roadscene pairs, undegraded, with RGB
dark and with thermal blank in turn; panned-switch and cutouts-switch, where the useful modality
changes midway; world, films of the synthetic world. Settings are chosen on --seed 7, everything
reported is of the default seed. A peer sees one camera: it runs on each, and 'best' is the better
of the two for each sequence, known only after the fact. CSRT needs opencv-contrib-python-headless
(see peers.py).
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
import json
from pathlib import Path

import cv2
import numpy as np
from peers import Peer, peers
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.sequence import Sequence
from tpf_tracker_ros.data.box_files import read_boxes
from tpf_tracker_ros.data.cutouts import cutout_set
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.data.media import MediaSequence
from tpf_tracker_ros.data.panned import DEGRADATIONS, panned_set
from tpf_tracker_ros.evaluation.metrics import precision, success_auc
from tpf_tracker_ros.evaluation.runner import run_sequence

CONSTANT, SWITCH = DEGRADATIONS[:3], DEGRADATIONS[3:]
ROADSCENE_SETS = {
    'panned': (panned_set, CONSTANT),
    'panned-switch': (panned_set, SWITCH),
    'cutouts': (cutout_set, CONSTANT),
    'cutouts-switch': (cutout_set, SWITCH),
}


def sequences(args: argparse.Namespace) -> Iterator[tuple[str, str, Sequence]]:
    """(set, kind, sequence): kind is a clip, a degradation or film; --count of each but clips."""
    data, sets, chosen = args.data, args.sets, {'count': args.count, 'seed': args.seed}
    if 'antiuav' in sets:
        for clip in ('4', '7', '35'):
            truth = read_boxes(data / 'antiuav' / f'{clip}.txt')
            video = data / 'antiuav' / f'{clip}.avi'
            yield 'antiuav', clip, MediaSequence(None, video, ground_truth=truth)
    for name, (make, degradations) in ROADSCENE_SETS.items():
        if name in sets:
            for sequence in make(data / 'roadscene', degradations=degradations, **chosen):
                yield name, sequence.degradation, sequence
    if 'world' in sets:
        for seed in range(args.seed, args.seed + args.count):
            yield 'world', 'film', WorldSequence(seed)


def trackers(args: argparse.Namespace) -> dict[str, Callable]:
    """Name -> function that makes a tracker; peers once for each camera."""
    makers = {}
    for name in args.tracker:
        from tpf_tracker_ros.tracking.load import load_tracker

        tracker = load_tracker(
            name, device=args.device, checkpoint=args.checkpoint, **dict(args.set)
        )
        makers[name] = lambda tracker=tracker: tracker
    found = peers(args.nanotrack or args.data / 'nanotrack') if args.peers else {}
    for name, make in found.items():
        for modality in ('rgb', 'thermal'):
            makers[f'{name} {modality}'] = lambda n=name, m=make, c=modality: Peer(n, m, c)
    return makers


def measure(args: argparse.Namespace) -> list[dict]:
    """One record a sequence and tracker: AUC and precision at 20 px in percent, ms a frame."""
    records = []
    makers = trackers(args)
    for group, kind, sequence in sequences(args):
        for name, make in makers.items():
            if name.endswith(' rgb') and group == 'antiuav':
                continue  # the RGB camera is not there
            boxes, seconds = run_sequence(make(), sequence)
            truth = sequence.ground_truth[: len(boxes)]
            records.append(
                {
                    'set': group,
                    'kind': kind,
                    'sequence': sequence.name,
                    'tracker': name,
                    'auc': success_auc(boxes, truth),
                    'precision': precision(boxes, truth),
                    'ms': 1000 * float(np.median(seconds[1:])),
                }
            )
            shown = '{sequence:32} {tracker:18} {auc:5.1f} {precision:6.1f}'
            print(shown.format(**records[-1]), flush=True)
    return records


def with_best(records: list[dict]) -> list[dict]:
    """Return the records and, for each peer and sequence, the better of its two cameras."""
    cameras = defaultdict(list)
    for record in records:
        if record['tracker'].endswith((' rgb', ' thermal')):
            peer = record['tracker'].rsplit(' ', 1)[0]
            cameras[record['set'], record['sequence'], peer].append(record)
    best = [
        max(both, key=lambda record: record['auc']) | {'tracker': f'{peer} best'}
        for (_, _, peer), both in cameras.items()
    ]
    return records + best


def table(records: list[dict]) -> dict[str, dict[str, tuple[float, float]]]:
    """Set, and set with kind -> tracker -> mean (AUC, precision)."""
    cells = defaultdict(lambda: defaultdict(list))
    for record in records:
        for row in (f'{record["set"]} {record["kind"]}', record['set']):
            cells[row][record['tracker']].append((record['auc'], record['precision']))
    return {
        row: {name: tuple(np.mean(values, axis=0)) for name, values in by_tracker.items()}
        for row, by_tracker in cells.items()
    }


def print_table(rows: dict[str, dict[str, tuple[float, float]]]) -> None:
    """AUC / precision in percent, a line for each set, a column for each tracker."""
    names = sorted({name for cells in rows.values() for name in cells})
    print(f'\n{"AUC / precision at 20 px":24}' + ''.join(f'{name:>20}' for name in names))
    for row, cells in rows.items():
        shown = (f'{cells[n][0]:.1f} / {cells[n][1]:.1f}' if n in cells else '-' for n in names)
        print(f'{row:24}' + ''.join(f'{cell:>20}' for cell in shown))


def setting(text: str) -> tuple[str, float]:
    """Return name and value of a setting of our tracker."""
    name, _, value = text.partition('=')
    return name, json.loads(value)


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='folder of the real data')
    parser.add_argument('--sets', nargs='+', default=['antiuav', *ROADSCENE_SETS])
    parser.add_argument('--count', type=int, default=10, help='sequences of a set')
    parser.add_argument('--seed', type=int, default=0, help='of pairs, paths and films')
    parser.add_argument(
        '--set', nargs='*', default=[], type=setting, metavar='KEY=VALUE', help='of our tracker'
    )
    parser.add_argument('--tracker', nargs='*', default=['tpf_tiny'], help='ours; empty: none')
    parser.add_argument('--checkpoint', type=Path, help='weights other than the packaged ones')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--no-peers', dest='peers', action='store_false')
    parser.add_argument('--nanotrack', type=Path, help='its ONNX files; default DATA/nanotrack')
    parser.add_argument('--json', type=Path, help='write all records and means here')
    args = parser.parse_args()
    try:
        records = with_best(measure(args))
    except TpfError as error:
        parser.exit(1, f'error: {error}\n')
    means = table(records)
    print_table(means)
    if args.json:
        args.json.write_text(
            json.dumps({'opencv': cv2.__version__, 'means': means, 'records': records}, indent=1)
        )


if __name__ == '__main__':
    main()
