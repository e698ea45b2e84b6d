import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from tpf_tracker_ros.bags.convert import sequence_to_bag
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.bags.writer import BagWriter
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.ros.replay.replay import FUSED, Run
from tpf_tracker_ros.ros.replay.report import measure, shown, summary, write_report

NOTHING = [np.nan] * 4


def make_run(boxes, scores, latency_ms, stamps=None) -> Run:
    return Run(
        stamps=np.arange(len(boxes)) if stamps is None else np.array(stamps),
        boxes=np.array(boxes, float),
        scores=np.array(scores, float),
        latency_ms=np.array(latency_ms, float),
        lateness_ms=0.5,
        stolen=0.02,
        status={'state': 'TRACKING'},
    )


def test_the_last_box_stays_while_pairs_are_dropped_or_the_target_is_lost():
    a, b = [10, 10, 20, 20], [12, 10, 20, 20]
    nan = np.nan
    run = make_run(
        [NOTHING, a, NOTHING, b, NOTHING], [nan, 0.9, nan, 0.2, nan], [nan, 30, nan, 40, 50]
    )
    pairs = shown(run, 0.35)
    assert [pair.state for pair in pairs] == ['IDLE', 'TRACKING', 'TRACKING', 'UNCERTAIN', 'LOST']
    np.testing.assert_array_equal([pair.box for pair in pairs], [NOTHING, a, a, b, b])


def test_the_numbers():
    box, right = np.array([10.0, 10, 20, 20]), np.array([1.0, 0, 0, 0])
    truth = np.array([box, box, box + 30 * right, box + 100 * right])
    run = make_run([box, NOTHING, box, box], [1, np.nan, 0.9, 0.9], [10, np.nan, 30, 20])
    bag = SimpleNamespace(path=Path('a.mcap'))
    sequence = SimpleNamespace(ground_truth=truth, bag=bag)
    boxes = np.array([pair.box for pair in shown(run, 0.35)])
    metrics = measure(run, boxes, sequence)
    assert metrics['pairs_played'] == 4
    assert metrics['pairs_published'] == 3
    assert metrics['pairs_dropped'] == 1
    assert metrics['precision_20px'] == pytest.approx(50)
    assert metrics['success_auc'] == pytest.approx(50 * 20 / 21)  # IoU 1 is not above 1
    assert metrics['latency_ms']['p50'] == 20
    assert 'success (AUC) 47.6, precision at 20 px 50.0, 3 pairs published, 1 dropped' in summary(
        metrics
    )
    assert 'host' not in summary(metrics)
    assert '31 % of the processor time to others' in summary({**metrics, 'stolen_percent': 31.4})
    sequence.ground_truth = None
    assert 'success' not in summary(measure(run, boxes, sequence))


def test_a_run_without_a_single_box_is_reported(tmp_path):
    sequence_to_bag(WorldSequence(1, frames=6, size=(160, 128)), tmp_path / 'world.mcap')
    sequence = BagSequence(tmp_path / 'world.mcap')
    with BagWriter(tmp_path / 'tracks.mcap') as bag:
        image = np.zeros((128, 160, 3), np.uint8)
        bag.write_image(FUSED, image, sequence.stamps[2], frame_id='rgb_camera')
    nothing = np.full((6, 4), np.nan)
    run = make_run(nothing, nothing[:, 0], nothing[:, 0], sequence.stamps)
    metrics = write_report(run, sequence, tmp_path, uncertain_score=0.35)
    assert metrics['success_auc'] == 0
    assert json.loads((tmp_path / 'metrics.json').read_text()) == metrics
    assert (tmp_path / 'report.png').stat().st_size > 10_000
    video = cv2.VideoCapture(str(tmp_path / 'overlay.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert video.get(cv2.CAP_PROP_FRAME_WIDTH) == 3 * 160
