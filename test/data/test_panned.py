"""Sequences made of real pairs: exact ground truth, reproducible, degraded as announced."""

import cv2
import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.cutouts import cutout_set, CutoutSequence
from tpf_tracker_ros.data.panned import DEGRADATIONS, panned_set, PannedSequence


@pytest.fixture(scope='module')
def scene():
    """Return a textured pair, the same edges in both, without any real data."""
    rng = np.random.default_rng(3)
    noise = cv2.resize(rng.integers(0, 255, (30, 40, 3), np.uint8), (640, 480))
    return noise, noise.mean(2).astype(np.uint8)


def paint(images, box):
    """Return the images with everything but the target black and the target white."""
    x, y, w, h = np.round(box).astype(int)
    bottom, right = y + h, x + w
    painted = []
    for image in images:
        image = np.zeros_like(image)
        image[y:bottom, x:right] = 255
        painted.append(image)
    return painted


@pytest.mark.parametrize('seed', range(4))
def test_ground_truth_is_the_box_of_the_target_as_it_is_seen(scene, seed):
    sequence = PannedSequence(*scene, seed=seed)
    sequence.rgb, sequence.thermal = paint(scene, sequence.patch)
    for pair, truth in zip(sequence, sequence.ground_truth):
        for image in (pair.rgb[..., 0], pair.thermal):
            seen = np.array(cv2.boundingRect((image > 127).astype(np.uint8)))
            assert np.abs(seen - truth).max() < 1.5  # half a pixel at each edge, and a corner


@pytest.mark.parametrize('seed', range(4))
def test_the_target_stays_in_view_moves_and_changes_size(scene, seed):
    truth = PannedSequence(*scene, seed=seed).ground_truth
    assert truth.shape == (150, 4)
    assert (truth[:, :2] >= -0.5).all()
    assert (truth[:, :2] + truth[:, 2:] <= np.array([320.5, 240.5])).all()
    steps = np.hypot(*np.diff(truth[:, :2] + truth[:, 2:] / 2, axis=0).T)
    assert 1 < steps.mean() < 10
    assert steps.max() < 20
    assert truth[:, 2].max() / truth[:, 2].min() > 1.3
    assert (truth[0, 2:] > 0.07 * 320).all()


def frames_of(sequence, *indices):
    pairs = list(sequence)
    return [pairs[i] for i in indices]


def test_the_seed_decides_everything(scene):
    runs = [frames_of(PannedSequence(*scene, seed=s, frames=8), 0, 7) for s in (5, 5, 6)]
    for first, second in zip(runs[0], runs[1]):
        assert np.array_equal(first.rgb, second.rgb)
        assert np.array_equal(first.thermal, second.thermal)
    assert not np.array_equal(runs[0][0].rgb, runs[2][0].rgb)


def contrast(image):
    return float(cv2.blur(image, (5, 5)).std())  # noise averaged away


def test_degradations_change_what_they_say(scene):
    usable = {}
    for degradation in DEGRADATIONS:
        sequence = PannedSequence(*scene, seed=0, frames=10, degradation=degradation)
        usable[degradation] = [
            (contrast(pair.rgb) > 5, contrast(pair.thermal) > 5) for pair in sequence
        ]
    assert set(usable['none']) == {(True, True)}
    assert set(usable['rgb_dark']) == {(False, True)}
    assert set(usable['thermal_blank']) == {(True, False)}
    assert usable['switch'] == [(False, True)] * 5 + [(True, False)] * 5
    with pytest.raises(TpfError, match="'fog' is not one of none, rgb_dark"):
        PannedSequence(*scene, seed=0, degradation='fog')


def test_each_camera_fades_in_its_turn_and_comes_back(scene):
    sequence = PannedSequence(*scene, seed=0, frames=9, degradation='fade')
    rgb, thermal = np.array([(contrast(each.rgb), contrast(each.thermal)) for each in sequence]).T
    assert rgb[2] < 0.2 * rgb[0] < 0.2 * 1.5 * rgb[6]
    assert thermal[7] < 0.2 * thermal[0] < 0.2 * 1.5 * thermal[2]


def test_sixteen_bit_thermal_stays(scene):
    rgb, thermal = scene
    deep = thermal.astype(np.uint16) * 30 + 7000
    for degradation in ('none', 'thermal_blank', 'fade'):
        pair = next(iter(PannedSequence(rgb, deep, seed=0, degradation=degradation)))
        assert pair.thermal.dtype == np.uint16


def test_pairs_that_cannot_be_panned_are_refused(scene):
    with pytest.raises(TpfError, match='thermal image is 320x480'):
        PannedSequence(scene[0], scene[1][:, :320], seed=0)


def test_cutouts_lie_where_the_ground_truth_says(scene):
    dark = (np.zeros_like(scene[0]), np.zeros_like(scene[1]))
    sequence = CutoutSequence(dark, [scene], seed=2, frames=20)
    sequence.patches = [tuple(np.full_like(image, 255) for image in sequence.patches[0])]
    for pair, truth in zip(sequence, sequence.ground_truth):
        for image in (pair.rgb[..., 0], pair.thermal):
            seen = np.array(cv2.boundingRect((image > 127).astype(np.uint8)))
            assert np.abs(seen - truth).max() < 2.5


def test_the_set_of_the_project(shared_data):
    sequences = panned_set(shared_data / 'roadscene')
    kinds = [sequence.degradation for sequence in sequences]
    assert len({sequence.name for sequence in sequences}) == 10
    assert [kinds.count(kind) for kind in DEGRADATIONS] == [4, 3, 3, 0, 0]
    assert all(len(sequence) == 150 for sequence in sequences)
    pair = next(iter(sequences[0]))
    assert pair.size == (320, 240)
    assert pair.modality == 'rgb+thermal'


def test_cutouts_over_real_pairs(shared_data):
    sequences = cutout_set(shared_data / 'roadscene', count=4, degradations=('switch',))
    assert [len(sequence.patches) for sequence in sequences] == [3] * 4
    first, again = (
        cutout_set(shared_data / 'roadscene', count=4, degradations=('switch',))[1]
        for _ in range(2)
    )
    assert np.array_equal(first.ground_truth, again.ground_truth)
    assert (first.ground_truth >= 0).all()
    with pytest.raises(TpfError, match='has 140 pairs'):
        cutout_set(shared_data / 'roadscene', count=138)
