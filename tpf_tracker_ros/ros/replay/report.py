"""What a run through the live node was like: numbers, a picture over time, a video."""

from functools import partial
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.bags.storage import Bag
from tpf_tracker_ros.core.boxes import iou
from tpf_tracker_ros.core.drawing import draw_result
from tpf_tracker_ros.core.image_encoding import decode_rgb
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.evaluation.metrics import precision, success_auc
from tpf_tracker_ros.evaluation.timeline import draw_timeline
from tpf_tracker_ros.ros.replay.replay import FUSED, Run
from tpf_tracker_ros.tracking.offline import frame_rate, VideoFile
from tqdm import tqdm

NOTE = (
    'Latency: from publishing the later image of a pair to the arrival of its boxes, both by '
    'time.perf_counter() in the playing process.\nIoU: while a pair was dropped or the target '
    'lost, the last box counts.'
)
MUCH_STOLEN = 5.0  # percent of the processor time; then drops say little of the node


class Shown(NamedTuple):
    """What a display shows at one pair: the last box (4,) x, y, w, h px stays until the next."""

    box: np.ndarray
    score: float
    state: str


def shown(run: Run, uncertain_score: float) -> list[Shown]:
    """
    One for each pair; without a box (NaN) before the first one comes.

    uncertain_score: the setting of the run, below which a box is UNCERTAIN.
    """
    pairs, now = [], Shown(np.full(4, np.nan), 0.0, 'IDLE')
    for box, score, dropped in zip(run.boxes, run.scores, run.dropped):
        if not dropped and np.isnan(score):
            now = Shown(now.box, 0.0, 'LOST')
        elif not dropped:
            unsure = score < uncertain_score
            now = Shown(box, score, 'UNCERTAIN' if unsure else 'TRACKING')
        pairs.append(now)
    return pairs


def write_report(
    run: Run, sequence: BagSequence, out: Path, *, uncertain_score: float
) -> dict[str, object]:
    """Write metrics.json, report.png and overlay.mp4 to the folder; returns the metrics."""
    pairs = shown(run, uncertain_score)
    boxes = np.array([pair.box for pair in pairs])
    metrics = measure(run, boxes, sequence)
    (out / 'metrics.json').write_text(json.dumps(metrics, indent=2) + '\n')
    truth = sequence.ground_truth
    draw_timeline(
        out / 'report.png',
        title=f'{sequence.name} through the live node\n{summary(metrics)}',
        seconds=(run.stamps - run.stamps[0]) / 1e9,
        iou=None if truth is None else iou(boxes, truth),
        score=run.scores,
        state=[pair.state for pair in pairs],
        latency_ms=run.latency_ms,
        note=NOTE,
    )
    _write_overlay(pairs, sequence, out)
    return metrics


def measure(run: Run, boxes: np.ndarray, sequence: BagSequence) -> dict[str, object]:
    """
    Measure what metrics.json tells; success and precision in percent, None without a truth.

    boxes: (N, 4) x, y, w, h px as shown.
    """
    truth = sequence.ground_truth
    latency = run.latency_ms[~run.dropped]
    return {
        'bag': sequence.bag.path.name,
        'pairs_played': len(run.stamps),
        'pairs_published': len(latency),
        'pairs_dropped': int(run.dropped.sum()),
        'success_auc': None if truth is None else success_auc(boxes, truth),
        'precision_20px': None if truth is None else precision(boxes, truth),
        'latency_ms': {
            f'p{percent}': float(np.percentile(latency, percent)) if len(latency) else None
            for percent in (50, 95, 99)
        },
        'image_lateness_ms_p95': run.lateness_ms,
        'stolen_percent': 100 * run.stolen,
        'note': NOTE,
        'node': run.status,
    }


def summary(metrics: dict) -> str:
    """Return the numbers in one line, and what they suffered from in another."""
    words = []
    if metrics['success_auc'] is not None:
        words.append(f'success (AUC) {metrics["success_auc"]:.1f}')
        words.append(f'precision at 20 px {metrics["precision_20px"]:.1f}')
    words.append(f'{metrics["pairs_published"]} pairs published')
    words.append(f'{metrics["pairs_dropped"]} dropped')
    if metrics['pairs_published']:
        latency = metrics['latency_ms']
        words.append(f'latency p50 {latency["p50"]:.1f} ms, p95 {latency["p95"]:.1f} ms')
    line = ', '.join(words)
    if metrics['stolen_percent'] >= MUCH_STOLEN:
        stolen = f'{metrics["stolen_percent"]:.0f} % of the processor time'
        line += f"\nmeanwhile this virtual machine's host gave {stolen} to others"
    return line


def _write_overlay(pairs: list[Shown], sequence: BagSequence, out: Path) -> None:
    """RGB, thermal and the newest fused image, if any, side by side, with box and ground truth."""
    truth = sequence.ground_truth
    note = '' if truth is None else ', white: ground truth'
    bag = Bag(out / 'tracks.mcap')
    messages = bag.messages([FUSED])
    message = next(messages, None)
    fuses = message is not None  # a network may fuse no pixels
    fused, fused_stamp = None, 0
    thermal_range = ThermalRange()
    frames = tqdm(sequence, 'overlay.mp4', len(sequence), unit=' pairs', disable=None)
    with VideoFile(out / 'overlay.mp4', frame_rate(sequence)) as video:
        for number, pair in enumerate(frames):
            box, score, state = pairs[number]
            known = None if truth is None else truth[number]
            draw = partial(draw_result, box=box, score=score, state=state, ground_truth=known)
            panels = [] if pair.rgb is None else [_caption(draw(pair.rgb), f'RGB{note}')]
            if pair.thermal is not None:
                grey = thermal_range.to_rgb(pair.thermal)
                panels.append(_caption(draw(grey), f'thermal{note}'))
            if message and bag.stamp(message) == pair.stamp:
                fused, fused_stamp = draw(decode_rgb(bag.decode(message))), pair.stamp
                message = next(messages, None)
            if fused is not None:
                age = (pair.stamp - fused_stamp) / 1e9
                panels.append(_caption(fused, f'fused, {age:.1f} s ago' if age else 'fused'))
            elif fuses:
                panels.append(_caption(np.zeros_like(panels[0]), 'no fused image yet'))
            video.write(np.hstack(panels))


def _caption(image: np.ndarray, text: str) -> np.ndarray:
    """Return a copy with the text at the bottom."""
    image, at = image.copy(), (8, image.shape[0] - 10)
    for shade, thickness in ((0, 0, 0), 3), ((255, 255, 255), 1):
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, shade, thickness, cv2.LINE_AA)
    return image
