"""
Accuracy of our trackers beside NanoTrack and CSRT on real sequences: the tables and a JSON.

    python benchmarks/accuracy.py --data ../shared/data --tracker tpf_nano --sets real_dev

Sets: real_dev, films of one camera with a truth in each frame, whose halves alternate by name
(settings are chosen on 'dev', the first and every other one); antiuav (thermal alone), likewise;
panned and cutouts over the roadscene pairs, undegraded, with RGB dark and with thermal blank in
turn; panned-switch and cutouts-switch, where the useful modality changes midway; panned-fade and
cutouts-fade, where RGB loses its light and has it back, then thermal its contrast; world, films of
the synthetic world. On sets made from a seed, settings are chosen on --seed 7 and what is reported
is of the default seed.

The second table is of the score: AUROC of right (IoU > 0.5) against wrong boxes (< 0.1), the error
of calibration, its median on and off the target, and how often NDTU renewed the template.

A peer sees one camera: it runs on each, and 'best' is the better of the two for each sequence,
known only after the fact. CSRT needs opencv-contrib-python-headless (see peers.py).
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import cycle, islice
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
from tpf_tracker_ros.evaluation.confidence import auroc, calibration_error, overlaps, RIGHT, WRONG
from tpf_tracker_ros.evaluation.metrics import precision, success_auc
from tpf_tracker_ros.evaluation.plots import draw_reliability
from tpf_tracker_ros.evaluation.worst import draw_failure, lost_at
from tpf_tracker_ros.tracking.config import DEFAULT_MODEL, parse_setting
from tpf_tracker_ros.tracking.offline import track_sequence

HALVES = 'dev', 'report'
CONSTANT, SWITCH, FADE = DEGRADATIONS[:3], DEGRADATIONS[3:4], DEGRADATIONS[4:]
ROADSCENE_SETS = {
    'panned': (panned_set, CONSTANT),
    'panned-switch': (panned_set, SWITCH),
    'panned-fade': (panned_set, FADE),
    'cutouts': (cutout_set, CONSTANT),
    'cutouts-switch': (cutout_set, SWITCH),
    'cutouts-fade': (cutout_set, FADE),
}


def sequences(args: argparse.Namespace) -> Iterator[tuple[str, tuple[str, ...], Sequence]]:
    """(set, kinds, sequence): kinds are a half, a family, a degradation; --count where made."""
    data, sets, chosen = args.data, args.sets, {'count': args.count, 'seed': args.seed}
    if 'real_dev' in sets:
        folder = data / 'real_dev'
        films = sorted({path.stem for path in folder.iterdir()})
        for half, name in zip(cycle(HALVES), films):
            if half in args.half:
                yield 'real_dev', (half, name.partition('_')[0]), open_film(folder, name)
    if 'antiuav' in sets:
        folder = data / 'antiuav'
        films = sorted(path.stem for path in folder.glob('*.avi'))
        for half, name in zip(cycle(HALVES), films):
            if half in args.half:
                yield 'antiuav', (half, name), open_film(folder, name, thermal=True)
    for name, (make, degradations) in ROADSCENE_SETS.items():
        if name in sets:
            for sequence in make(data / 'roadscene', degradations=degradations, **chosen):
                yield name, (sequence.degradation,), sequence
    if 'world' in sets:
        for seed in range(args.seed, args.seed + args.count):
            yield 'world', (), WorldSequence(seed)


def open_film(folder: Path, name: str, *, thermal: bool = False) -> MediaSequence:
    """Film NAME.mp4 or .avi with NAME.txt, or a folder of 16-bit images; TIR*: a thermal one."""
    path, truth = folder / name / 'img', folder / name / 'groundtruth.txt'
    if not path.is_dir():
        path, truth = next(folder.glob(f'{name}.[am][vp][i4]')), folder / f'{name}.txt'
    cameras = (None, path) if thermal or name.startswith('TIR') else (path, None)
    return MediaSequence(*cameras, name=name, ground_truth=read_boxes(truth))


def trackers(args: argparse.Namespace) -> dict[str, Callable]:
    """Name -> function that makes a tracker; peers once for each camera."""
    makers = {}
    for name in args.tracker:
        from tpf_tracker_ros.tracking.load import load_tracker

        tracker = load_tracker(
            name,
            device=args.device,
            checkpoint=args.checkpoint,
            **dict(map(parse_setting, args.set)),
        )
        makers[name] = lambda tracker=tracker: tracker
    found = peers(args.nanotrack or args.data / 'nanotrack') if args.peers else {}
    for name, make in found.items():
        for modality in ('rgb', 'thermal'):
            makers[f'{name} {modality}'] = lambda n=name, m=make, c=modality: Peer(n, m, c)
    return makers


def measure(args: argparse.Namespace) -> list[dict]:
    """
    One record a sequence and tracker: AUC and precision at 20 px in percent, ms a frame.

    scores and overlaps: of each frame after the first that has a truth.
    """
    records = []
    makers = trackers(args)
    for group, kinds, sequence in sequences(args):
        modality = next(iter(sequence)).modality
        for name, make in makers.items():
            absent = {'rgb': ' thermal', 'thermal': ' rgb'}.get(modality, '-')
            if name.endswith(absent):
                continue  # that camera is not there
            first = sequence.ground_truth[0]
            frames = track_sequence(make(), sequence, first, frames=args.frames)
            results = [result for _, result in frames]
            boxes = np.array([result.box for result in results])
            truth = sequence.ground_truth[: len(boxes)]
            found = overlaps(boxes, truth)[1:]
            known = np.isfinite(found)
            lost = 1 + lost_at(np.where(known, found, 1))
            records.append(
                {
                    'set': group,
                    'kinds': kinds,
                    'sequence': sequence.name,
                    'tracker': name,
                    'auc': success_auc(boxes, truth),
                    'precision': precision(boxes, truth),
                    'ms': float(np.median([result.stages['total'] for result in results[1:]])),
                    'renewals': sum(result.template_updated for result in results),
                    'scores': np.array([result.score for result in results[1:]])[known].tolist(),
                    'overlaps': found[known].tolist(),
                    'lost_at': lost,
                    'box': boxes[lost].tolist(),
                }
            )
            shown = '{sequence:32} {tracker:18} {auc:5.1f} {precision:6.1f} {renewals:3}'
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
        for row in (*(f'{record["set"]} {kind}' for kind in record['kinds']), record['set']):
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


def score_table(records: list[dict]) -> list[dict]:
    """For each set and tracker: how well its score tells right boxes, how often NDTU renewed."""
    rows = defaultdict(list)
    for record in records:
        halves = [f'{record["set"]} {kind}' for kind in record['kinds'] if kind in HALVES]
        for row in (*halves, record['set']):
            rows[row, record['tracker']].append(record)
    table = []
    for (row, name), group in rows.items():
        scores, found = (np.concatenate([r[key] for r in group]) for key in ('scores', 'overlaps'))
        right, wrong = found > RIGHT, found < WRONG
        told = right | wrong
        table.append(
            {
                'row': row,
                'tracker': name,
                'auroc': auroc(scores[told], right[told]),
                'calibration_error': calibration_error(scores, right),
                'on': float(np.median(scores[right])) if right.any() else float('nan'),
                'off': float(np.median(scores[wrong])) if wrong.any() else float('nan'),
                'renewals': sum(r['renewals'] for r in group),
                'frames': len(scores),
            }
        )
    return table


def print_scores(table: list[dict]) -> None:
    """Print a line for each set and tracker whose score says anything."""
    print(
        f'\n{"score":24}{"tracker":20}{"AUROC":>8}{"error":>8}{"on":>7}{"off":>7}{"renewals":>16}'
    )
    for row in table:
        if not row['tracker'].endswith((' rgb', ' thermal', ' best')):
            line = '{row:24}{tracker:20}{auroc:8.1f}{calibration_error:8.3f}{on:7.2f}{off:7.2f}'
            print(line.format(**row) + f'{row["renewals"]:6} of {row["frames"]}'.rjust(16))


def save_figure(records: list[dict], path: Path) -> None:
    """Draw how reliable the score of each of our trackers is on each set."""
    scores, right = defaultdict(list), defaultdict(list)
    for record in records:
        if not record['tracker'].endswith((' rgb', ' thermal', ' best')):
            name = f'{record["tracker"]}, {record["set"]}'
            scores[name] += record['scores']
            right[name] += [value > RIGHT for value in record['overlaps']]
    draw_reliability(
        {name: np.array(values) for name, values in scores.items()},
        {name: np.array(values) for name, values in right.items()},
        'What a score is worth',
    ).savefig(path, dpi=110)


def save_failures(records: list[dict], args: argparse.Namespace, columns: int = 3) -> None:
    """Draw where our first tracker lost its target, in the --worst sequences it is worst at."""
    ours = [record for record in records if record['tracker'] == args.tracker[0]]
    worst = {r['sequence']: r for r in sorted(ours, key=lambda r: r['auc'])[: args.worst]}
    tiles = []
    for _, _, sequence in sequences(args):
        if record := worst.get(sequence.name):
            frame = record['lost_at']
            pair = next(islice(sequence, frame, None))
            tiles.append(draw_failure(pair, np.array(record['box']), sequence.ground_truth[frame]))
    width = max(tile.shape[1] for tile in tiles)
    padded = [np.pad(t, ((0, 8), (0, width + 8 - t.shape[1]), (0, 0))) for t in tiles]
    padded += [np.zeros_like(padded[0])] * (-len(padded) % columns)
    rows = [np.hstack(row) for row in zip(*[iter(padded)] * columns)]
    cv2.imwrite(str(args.failures), np.vstack(rows)[..., ::-1])


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='folder of the real data')
    parser.add_argument('--sets', nargs='+', default=['real_dev', 'antiuav', *ROADSCENE_SETS])
    parser.add_argument('--half', nargs='+', default=HALVES, help='of real_dev and antiuav')
    parser.add_argument('--count', type=int, default=10, help='sequences of a set')
    parser.add_argument('--frames', type=int, help='of each sequence at most, for a quick look')
    parser.add_argument('--seed', type=int, default=0, help='of pairs, paths and films')
    parser.add_argument(
        '--set', nargs='*', default=[], metavar='NAME=VALUE', help='of our tracker'
    )
    parser.add_argument('--tracker', nargs='*', default=[DEFAULT_MODEL], help='ours; empty: none')
    parser.add_argument('--checkpoint', type=Path, help='weights other than the packaged ones')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--no-peers', dest='peers', action='store_false')
    parser.add_argument('--nanotrack', type=Path, help='its ONNX files; default DATA/nanotrack')
    parser.add_argument('--json', type=Path, help='write all records and means here')
    parser.add_argument('--failures', type=Path, help='draw where targets were lost: .jpg, .png')
    parser.add_argument('--worst', type=int, default=6, help='sequences in --failures')
    parser.add_argument('--figure', type=Path, help='draw how reliable the score is: .jpg, .png')
    args = parser.parse_args()
    if args.failures and not args.tracker:
        parser.error('--failures draws those of our first tracker; name one with --tracker')
    try:
        records = with_best(measure(args))
    except TpfError as error:
        parser.exit(1, f'error: {error}\n')
    means = table(records)
    print_table(means)
    scores = score_table(records)
    print_scores(scores)
    if args.failures:
        save_failures(records, args)
    if args.figure:
        save_figure(records, args.figure)
    if args.json:
        args.json.write_text(
            json.dumps(
                {
                    'opencv': cv2.__version__,
                    'means': means,
                    'scores': scores,
                    'records': [
                        {key: r[key] for key in r if key not in ('scores', 'overlaps')}
                        for r in records
                    ],
                },
                indent=1,
            )
        )


if __name__ == '__main__':
    main()
