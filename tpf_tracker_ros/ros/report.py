"""What a run through the live node was like: numbers, a picture over time, a video."""

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.bags.storage import Bag
from tpf_tracker_ros.core.boxes import iou
from tpf_tracker_ros.core.drawing import draw_result
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.image_encoding import decode_rgb
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.evaluation.metrics import precision, success_auc
from tpf_tracker_ros.evaluation.timeline import draw_timeline
from tpf_tracker_ros.ros.replay import FUSED, Run
from tpf_tracker_ros.tracking.config import TrackerConfig
from tpf_tracker_ros.tracking.offline import VideoFile, frame_rate

NOTE = (
    'Latency: from publishing the later image of a pair to the arrival of its boxes, both by '
    'time.perf_counter() in the playing process.\nIoU: while a pair was dropped or the target '
    'lost, the last box counts.'
)


def write_report(run: Run, sequence: BagSequence, out: Path) -> dict[str, object]:
    """Write metrics.json, report.png and overlay.mp4 to the folder; returns the metrics."""
    metrics = measure(run, sequence)
    (out / 'metrics.json').write_text(json.dumps(metrics, indent=2) + '\n')
    truth = sequence.ground_truth
    draw_timeline(
        out / 'report.png',
        title=f'{sequence.name}: {summary(metrics)}',
        seconds=(run.stamps - run.stamps[0]) / 1e9,
        iou=None if truth is None else iou(run.held_boxes, truth),
        score=run.scores,
        state=_states(run),
        latency_ms=run.latency_ms,
        note=NOTE,
    )
    _write_overlay(run, sequence, out)
    return metrics


def measure(run: Run, sequence: BagSequence) -> dict[str, object]:
    """The content of metrics.json; success and precision in percent, None without ground truth."""
    truth = sequence.ground_truth
    latency = run.latency_ms[~run.dropped]
    return {
        'bag': sequence.bag.path.name,
        'pairs_played': len(run.stamps),
        'pairs_published': len(latency),
        'pairs_dropped': int(run.dropped.sum()),
        'success_auc': None if truth is None else success_auc(run.held_boxes, truth),
        'precision_20px': None if truth is None else precision(run.held_boxes, truth),
        'latency_ms': {
            f'p{percent}': float(np.percentile(latency, percent)) if len(latency) else None
            for percent in (50, 95, 99)
        },
        'image_lateness_ms_p95': run.lateness_ms,
        'note': NOTE,
        'node': run.status,
    }


def summary(metrics: dict) -> str:
    """The numbers in one line."""
    words = []
    if metrics['success_auc'] is not None:
        words.append(f'success (AUC) {metrics["success_auc"]:.1f}')
        words.append(f'precision at 20 px {metrics["precision_20px"]:.1f}')
    words.append(f'{metrics["pairs_published"]} pairs published')
    words.append(f'{metrics["pairs_dropped"]} dropped')
    if metrics['pairs_published']:
        latency = metrics['latency_ms']
        words.append(f'latency p50 {latency["p50"]:.1f} ms, p95 {latency["p95"]:.1f} ms')
    return ', '.join(words)


def _states(run: Run) -> list[str]:
    """The tracker's state in each pair; the one before where a pair was dropped."""
    states, state = [], 'IDLE'
    for box, score, dropped in zip(run.boxes, run.scores, run.dropped):
        if not dropped:
            if np.isnan(box).any():
                state = 'LOST'
            else:
                doubtful = score < TrackerConfig().uncertain_score
                state = 'UNCERTAIN' if doubtful else 'TRACKING'
        states.append(state)
    return states


def _write_overlay(run: Run, sequence: BagSequence, out: Path) -> None:
    """RGB, thermal and fused image side by side, with the boxes and the ground truth (white)."""
    truth = sequence.ground_truth
    boxes, states = run.held_boxes, _states(run)
    pairs = tqdm(sequence, 'overlay.mp4', len(sequence), unit=' pairs', disable=None)
    with VideoFile(out / 'overlay.mp4', frame_rate(sequence)) as video:
        for number, views in enumerate(_views(pairs, out / 'tracks.mcap')):
            score = np.nan_to_num(run.scores[number])
            known = None if truth is None else truth[number]
            video.write(
                np.hstack([
                    draw_result(
                        view, boxes[number], state=states[number], score=score, ground_truth=known
                    )
                    for view in views
                ])
            )  # fmt: skip


def _views(pairs: Iterator[FramePair], tracks: Path) -> Iterator[list[np.ndarray]]:
    """The images (H, W, 3) of each pair that are there, and the newest fused one."""
    bag, thermal_range = Bag(tracks), ThermalRange()
    messages = bag.messages([FUSED])
    fused, following = None, next(messages, None)
    for pair in pairs:
        while following and bag.stamp(following) <= pair.stamp:
            fused, following = decode_rgb(bag.decode(following)), next(messages, None)
        views = [] if pair.rgb is None else [pair.rgb]
        if pair.thermal is not None:
            grey = thermal_range.to_uint8(pair.thermal)
            views.append(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))
        views.append(np.zeros_like(views[0]) if fused is None else fused)
        yield views
