from itertools import islice
import threading

import numpy as np
import pytest
import torch
from tpf_tracker_ros.core.boxes import iou
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.engines.engine import Engine
from tpf_tracker_ros.models.checkpoint import load_model
from tpf_tracker_ros.tracking.load import load_tracker, model_settings
from tpf_tracker_ros.tracking.offline import track_sequence
from tpf_tracker_ros.tracking.pieces import contrast, faded, is_other, log_odds, shape_of
from tpf_tracker_ros.tracking.search_region import SearchTracker
from tpf_tracker_ros.tracking.tracker import TrackResult, TrackState


@pytest.fixture(scope='module')
def film() -> tuple[list[FramePair], np.ndarray]:
    sequence = WorldSequence(3, frames=60, size=(320, 256))
    return list(sequence), sequence.ground_truth


@pytest.fixture
def tracker() -> SearchTracker:
    return load_tracker('tpf_tiny', device='cpu')


def follow(tracker: SearchTracker, pairs: list[FramePair], box: np.ndarray) -> list[TrackResult]:
    tracker.initialize(pairs[0], box)
    return [tracker.track(pair) for pair in pairs[1:]]


def overlap(results: list[TrackResult], truth: np.ndarray) -> float:
    return float(np.mean([iou(result.box, box) for result, box in zip(results, truth[1:])]))


def test_it_really_tracks(film, tracker):
    pairs, truth = film
    results = follow(tracker, pairs[:18], truth[0])  # before the light goes out
    assert overlap(results, truth) > 0.5
    assert {result.modality for result in results} == {'rgb+thermal'}
    assert all(0 <= result.score <= 1 for result in results)
    assert set(results[0].stages) == {'crop', 'network', 'update'}


@pytest.mark.parametrize('camera', ['rgb', 'thermal'])
def test_one_camera_is_enough(film, tracker, camera):
    pairs, truth = film
    alone = [
        FramePair(pair.rgb, None) if camera == 'rgb' else FramePair(None, pair.thermal)
        for pair in pairs[:18]
    ]
    results = follow(tracker, alone, truth[0])
    assert overlap(results, truth) > 0.4
    assert {result.modality for result in results} == {camera}


def test_a_blank_image_counts_as_absent(film, tracker):
    pairs, truth = film
    dead = [FramePair(pair.rgb, np.full_like(pair.thermal, 7000)) for pair in pairs[:10]]
    alone = [FramePair(pair.rgb, None) for pair in pairs[:10]]
    with_dead = follow(tracker, dead, truth[0])
    assert {result.modality for result in with_dead} == {'rgb'}
    for a, b in zip(with_dead, follow(tracker, alone, truth[0])):
        np.testing.assert_array_equal(a.box, b.box)


@pytest.mark.parametrize('place', [(2, 2), (300, 100), (150, 240)])
def test_a_blank_image_counts_as_absent_at_the_edge_of_the_image_too(tracker, place):
    checks = 60 * (np.indices((256, 320)).sum(0) // 4 % 4).astype(np.uint8)
    blank = FramePair(np.dstack([checks] * 3), np.full((256, 320), 128, np.uint8))
    result = tracker.initialize(blank, np.array([*place, 18, 14.0]))
    assert result.modality == 'rgb'
    assert tracker.track(blank).modality == 'rgb'


def test_a_patch_in_a_scene_that_zooms_away_keeps_a_size(film, tracker, monkeypatch):
    pairs, truth = film
    tracker.initialize(pairs[0], truth[0])
    away = np.array([[0.2, 0, 900], [0, 0.2, 900.0]])
    monkeypatch.setattr(tracker, '_camera_motion', lambda target, small: away)
    tracker._target.appearance.shape = shape_of(truth[0])
    for pair in pairs[1:6]:
        box = tracker.track(pair).box
        assert np.isfinite(box).all() and (box[2:] > 0).all()
    assert (tracker._target.box[2:] > 1).all()


def test_the_camera_that_fades_alone_is_left_out():
    first = {'rgb': 40.0, 'thermal': 20.0}
    assert faded(first, {'rgb': 10.0, 'thermal': 19.0}, 0.35) == 'rgb'
    assert faded(first, {'rgb': 50.0, 'thermal': 5.0}, 0.35) == 'thermal'
    assert faded(first, {'rgb': 10.0, 'thermal': 5.0}, 0.35) == ''  # another scene
    assert faded(first, {'rgb': 20.0, 'thermal': 20.0}, 0.35) == ''
    assert faded(first, {'thermal': 1.0}, 0.35) == ''
    assert faded({'rgb': 40.0}, {'rgb': 1.0, 'thermal': 20.0}, 0.35) == ''  # never seen before
    assert faded(first, {'rgb': 0.0, 'thermal': 20.0}, 0) == ''


def test_a_fading_camera_is_left_out_until_it_is_back(film, tracker):
    pairs, truth = film
    light = [1, 0.8, 0.4, 0.1, 0.4, 0.8, 1]
    dusk = [FramePair((p.rgb * part).astype(np.uint8), p.thermal) for p, part in zip(pairs, light)]
    used = [result.modality for result in follow(tracker, dusk, truth[0])]
    assert used == ['rgb+thermal'] * 2 + ['thermal'] + ['rgb+thermal'] * 3
    tracker.configure(faded_share=0.0)
    assert {result.modality for result in follow(tracker, dusk, truth[0])} == {'rgb+thermal'}


def test_a_frozen_camera_is_left_out_and_told(film, tracker, caplog):
    pairs, truth = film
    stuck = [FramePair(each.rgb, pairs[0].thermal, each.stamp) for each in pairs[:18]]
    results = [result for _, result in track_sequence(tracker, stuck, truth[0])]
    frozen = [result.frozen for result in results]
    first = frozen.index('thermal')
    assert 400 < (stuck[first].stamp - stuck[0].stamp) / 1e6 < 450
    assert set(frozen[first:]) == {'thermal'} and results[-1].modality == 'rgb'
    assert f'left out in {18 - first} of 18 frames' in caplog.text
    again = track_sequence(tracker, pairs[:18], truth[0])
    assert not any(result.frozen for _, result in again)


def with_a_change(pairs, change):
    """Pairs whose RGB is black up to the change, and whose thermal is blank from there on."""
    return [
        FramePair(np.zeros_like(pair.rgb), pair.thermal)
        if index < change
        else FramePair(pair.rgb, np.full_like(pair.thermal, 7000))
        for index, pair in enumerate(pairs)
    ]


def test_a_single_template_is_exchanged_with_the_cameras_too(film):
    pairs, truth = film
    tracker = load_tracker('cmd_tiny', device='cpu')
    results = follow(tracker, with_a_change(pairs[:12], 6), truth[0])
    first, now = (tracker._target.appearances[each].templates for each in ('thermal', 'rgb'))
    assert len(now) == 1 and not torch.equal(first[0], now[0])
    assert overlap(results[6:], truth[6:12]) > 0.4
    tracker.track(FramePair(None, pairs[12].thermal))  # the first camera again: its template, too
    assert tracker._target.appearance.templates is first


def test_the_target_is_kept_when_the_useful_camera_changes(film, tracker):
    pairs, truth = film
    change = 9
    results = follow(tracker, with_a_change(pairs[:18], change), truth[0])
    assert [result.modality for result in results] == ['thermal'] * (change - 1) + ['rgb'] * 9
    assert overlap(results[change:], truth[change:]) > 0.4


def test_the_first_frame_tells_how_the_target_looks_to_the_camera_that_is_left(film, tracker):
    pairs, truth = film
    tracker.initialize(pairs[0], truth[0])
    both = tracker._target.appearance
    tracker.track(FramePair(pairs[1].rgb, None))
    alone = load_tracker('tpf_tiny', device='cpu')
    alone.initialize(FramePair(pairs[0].rgb, None), truth[0])
    for kept, expected in zip(
        tracker._target.appearance.templates, alone._target.appearance.templates
    ):
        assert np.array_equal(kept, expected)
    tracker.track(pairs[2])
    assert tracker._target.appearance is both


def test_a_box_drawn_too_narrow_stays_so_where_boxes_are_calibrated(film):
    pairs, truth = film
    x, y, w, h = truth[0]
    narrow = np.array([x + 0.125 * w, y, 0.75 * w, h])
    ratios = []
    for share in (0.0, 1.0):
        tracker = load_tracker('tpf_tiny', device='cpu', box_calibration=share)
        results = follow(tracker, pairs[:12], narrow)
        ratios.append(np.mean([r.box[2] / t[2] for r, t in zip(results, truth[1:])]))
    assert abs(ratios[1] / 0.75 - 1) < abs(ratios[0] / 0.75 - 1)


def test_a_box_calibrated_where_it_is_published_steers_no_search(film):
    pairs, truth = film
    runs = {}
    for share in (0.0, 1.0):
        tracker = load_tracker('tpf_nano', device='cpu', box_calibration=share)
        runs[share] = follow(tracker, pairs[:6], truth[0]), tracker._target
    (plain, bare), (shown, target) = runs[0.0], runs[1.0]
    np.testing.assert_array_equal(target.box, bare.box)
    error = target.appearance.shown_error
    assert error.all() and not bare.appearance.shown_error.any()
    ratio = shown[-1].box[2:] / plain[-1].box[2:]
    np.testing.assert_allclose(ratio, np.exp(-error[2:]))


def test_a_patch_keeps_its_shape_where_the_network_sees_another_object(film):
    pairs, truth = film
    x, y, w, h = truth[0]
    flat = np.array([x, y + h / 4, w, h / 2])
    shapes = {}
    for least in (0.0, 0.8):
        tracker = load_tracker('tpf_nano', device='cpu', patch_overlap=least)
        follow(tracker, pairs[:8], flat)
        width, height = tracker._target.box[2:]  # what is shown is cut to the image
        shapes[least] = (width / height) / (w / h)
    assert shapes[0.8] == pytest.approx(2)
    assert shapes[0.0] < 1
    tracker.initialize(pairs[0], truth[0])  # of an object, shapes are the network's
    seen = tracker._target.appearance
    assert seen.shape is None and not seen.error.any()


def test_a_jump_out_of_the_window_is_found_by_a_second_look(film, tracker):
    pairs, truth = film
    x, _, w, _ = truth[8]
    jump = round(2 * w if x + 3 * w < 320 else -2 * w)
    jumped = FramePair(np.roll(pairs[8].rgb, jump, 1), np.roll(pairs[8].thermal, jump, 1))
    there = truth[8] + [jump, 0, 0, 0]
    assert iou(follow(tracker, [*pairs[:8], jumped], truth[0])[-1].box, there) > 0.5
    tracker.configure(uncertain_score=0, lost_score=0)  # never unsure: no second look
    assert iou(follow(tracker, [*pairs[:8], jumped], truth[0])[-1].box, there) < 0.1


def test_a_box_drawn_a_pixel_or_two_beside_a_tiny_target_is_no_patch():
    drawn, found = np.array([100.0, 80, 11, 6]), np.array([100.0, 80, 9, 8])
    assert not is_other(found, drawn, 0.8)
    assert is_other(10 * found, 10 * drawn, 0.8)
    assert not is_other(10 * found, 10 * drawn, 0.5)


def test_the_size_of_a_patch_is_believed_as_far_as_its_score(film):
    pairs, truth = film
    tracker = load_tracker('tpf_nano', device='cpu')
    tracker.initialize(pairs[0], truth[0])
    target = tracker._target
    grown = np.concatenate([truth[0][:2], 2 * truth[0][2:]])
    keep = tracker.config.size_smoothing
    for shape, score, kept in ((None, 0.1, keep), (shape_of(truth[0]), 0.1, 1 - 0.1 * (1 - keep))):
        target.appearance.shape, target.box = shape, truth[0]
        size = tracker._refine(target, grown, score)[2:]
        np.testing.assert_allclose(size, truth[0][2:] * 2 ** (1 - kept), rtol=1e-6)


def test_a_smoothed_score_is_the_mean_of_log_odds(film):
    tracker = load_tracker('tpf_tiny', device='cpu', score_smoothing=0.5)
    pairs, truth = film
    tracker.initialize(pairs[0], truth[0])
    odds = [log_odds(tracker._steady(tracker._target, score)) for score in (0.9, 0.1, 1 - 1e-9)]
    high = log_odds(0.9)
    assert odds == pytest.approx([high, 0, log_odds(1 - 1e-6) / 2])
    tracker.initialize(pairs[0], truth[0])  # the next target starts anew
    assert tracker._steady(tracker._target, 0.2) == pytest.approx(0.2)


def test_a_lost_box_goes_back_to_where_it_was_before_the_doubt(film, tracker):
    pairs, truth = film
    rng = np.random.default_rng(0)
    before = follow(tracker, pairs[:6], truth[0])[-1]
    assert before.state is TrackState.TRACKING
    results = []
    while tracker.state is not TrackState.LOST:
        noise = rng.integers(0, 256, pairs[0].rgb.shape, np.uint8)
        results.append(tracker.track(FramePair(noise, noise[..., 0])))
        assert len(results) < 60
    assert max(1 - iou(before.box, result.box) for result in results[:-1]) > 0.3  # it walked
    assert iou(before.box, results[-1].box) > 0.8


def test_noise_is_no_contrast():
    noise = np.random.default_rng(0).normal(128, 4, (128, 128)).astype(np.uint8)
    edge = np.zeros((128, 128), np.uint8)
    edge[:, 64:] = 8
    assert contrast(noise) < 1 < 3.9 < contrast(edge)


def test_the_same_pairs_give_the_same_boxes(film):
    pairs, truth = film
    runs = [follow(load_tracker('tpf_tiny', device='cpu'), pairs[:12], truth[0]) for _ in range(2)]
    for a, b in zip(*runs):
        np.testing.assert_array_equal(a.box, b.box)
        assert a.score == b.score


def test_initialize_starts_anew_whatever_came_before(film, tracker):
    pairs, truth = film
    fresh = follow(tracker, pairs[:8], truth[0])
    follow(tracker, pairs[20:40], truth[20])
    for a, b in zip(fresh, follow(tracker, pairs[:8], truth[0])):
        np.testing.assert_array_equal(a.box, b.box)


def test_a_vanished_target_is_lost_and_its_box_stays(film, tracker):
    pairs, truth = film
    tracker.initialize(pairs[0], truth[0])
    rng = np.random.default_rng(0)
    empty = [
        FramePair(
            rng.integers(90, 110, pairs[0].rgb.shape, np.uint8),
            rng.integers(7300, 7310, pairs[0].thermal.shape, np.uint16),
        )
        for _ in range(40)
    ]
    results = [tracker.track(pair) for pair in empty]
    assert results[-1].state is TrackState.LOST
    lost = [result.box for result in results if result.state is TrackState.LOST]
    np.testing.assert_array_equal(lost[0], lost[-1])
    assert not any(
        result.template_updated for result in results if result.state is not TrackState.TRACKING
    )


def test_ndtu_renews_the_template_only_when_switched_on(film):
    pairs, truth = film
    on, off = (
        load_tracker('tpf_tiny', device='cpu', ndtu_score=0.0, ndtu_interval=interval)
        for interval in (4, 0)
    )
    updated = [result.template_updated for result in follow(on, pairs[:18], truth[0])]
    assert on.template_updates == sum(updated) >= 3
    assert not any(result.template_updated for result in follow(off, pairs[:18], truth[0]))


def test_the_fused_frame_has_the_frames_size_and_shows_the_frame(film, tracker):
    pair = film[0][0]
    fused = tracker.fuse(pair)
    assert fused.shape == pair.rgb.shape and fused.dtype == np.uint8
    alone = tracker.fuse(FramePair(pair.rgb, None))
    assert np.corrcoef(alone.mean(-1).ravel(), pair.rgb.mean(-1).ravel())[0, 1] > 0.9


def test_fusing_in_another_thread_changes_no_box(film, tracker):
    pairs, truth = film
    alone = [result.box for result in follow(tracker, pairs[:12], truth[0])]
    tracker.stop()
    hot = FramePair(pairs[0].rgb, pairs[0].thermal + np.uint16(3000))
    images, over = [tracker.fuse(hot)], threading.Event()

    def fuse():
        while not over.is_set():
            images.append(tracker.fuse(hot))

    thread = threading.Thread(target=fuse)
    thread.start()
    beside = [result.box for result in follow(tracker, pairs[:12], truth[0])]
    over.set()
    thread.join()
    np.testing.assert_array_equal(beside, alone)
    assert len(images) > 2 and images[0].std() > 10


def test_misuse_is_refused_in_words(film, tracker):
    pairs, truth = film
    with pytest.raises(TpfError, match='before initialize'):
        tracker.track(pairs[0])
    with pytest.raises(TpfError, match='outside the 320x256 image'):
        tracker.initialize(pairs[0], np.array([900.0, 10, 20, 20]))
    tracker.initialize(pairs[0], truth[0])
    with pytest.raises(TpfError, match='image size changed'):
        tracker.track(FramePair(pairs[0].rgb[:100], None))
    with pytest.raises(TpfError, match="unknown tracker setting 'speed'"):
        tracker.configure(speed=3)
    with pytest.raises(TpfError, match='lost_score <= uncertain_score'):
        tracker.configure(lost_score=0.9)
    plain = load_tracker('tpf_tiny', device='cpu', policy='published')
    with pytest.raises(TpfError, match='ndtu_interval=5 needs a tracker that was loaded'):
        plain.configure(ndtu_interval=5)
    with pytest.raises(TpfError, match="unknown model 'tpf_huge'"):
        load_tracker('tpf_huge')
    with pytest.raises(TpfError, match="device 'gpu9' cannot be used"):
        load_tracker(device='gpu9')
    with pytest.raises(TpfError, match='ships without weights'):
        load_tracker('tpf_base')


class Cameras(SearchTracker):
    """Notes the crops that go to the network."""

    def _cut(self, *args, **kwargs):
        self.crop, modality = super()._cut(*args, **kwargs)
        return self.crop, modality


def tracker_of(**traits):
    network = load_model('tpf_tiny')
    vars(network).update(traits)
    return Cameras(Engine(network, 'cpu'), model_settings('tpf_tiny'))


def test_a_network_may_want_a_dead_camera_hidden(film):
    pairs, truth = film
    hiding = tracker_of(hides_dead=True)
    hiding.initialize(pairs[0], truth[0])
    assert hiding.crop[0].std() > 2 and hiding.crop[1].std() > 2
    for dead in (None, np.full_like(pairs[1].thermal, 300)):
        result = hiding.track(FramePair(pairs[1].rgb, dead))
        assert result.modality == 'rgb'
        assert hiding.crop[0].std() > 2 and not hiding.crop[1].any()


def test_depth_is_shown_in_colours_of_the_whole_frame(film):
    pairs, truth = film
    depth = np.linspace(500, 9000, pairs[0].thermal.size).reshape(pairs[0].thermal.shape)
    tracker = tracker_of(second='depth')
    tracker.initialize(FramePair(pairs[0].rgb, depth.astype(np.uint16)), truth[0])
    assert tracker.crop[1].std((0, 1)).max() > 10
    assert not np.array_equal(tracker.crop[1][..., 0], tracker.crop[1][..., 2])
    result = tracker.track(FramePair(pairs[1].rgb, depth.astype(np.uint16)))
    assert result.modality == 'rgb+thermal'


def test_events_are_shown_as_drawn_and_to_other_networks_grey(film):
    pairs, truth = film
    drawn = np.roll(pairs[0].rgb, 1, axis=2)  # any colours
    events, other = tracker_of(second='events'), tracker_of()
    for tracker in (events, other):
        tracker.initialize(FramePair(pairs[0].rgb, drawn), truth[0])
    assert np.array_equal(np.roll(events.crop[0], 1, axis=2), events.crop[1])
    assert (other.crop[1] == other.crop[1][..., :1]).all() and other.crop[1].std() > 2
    assert events.track(FramePair(pairs[1].rgb, drawn)).modality == 'rgb+thermal'
    assert events.fuse(FramePair(pairs[1].rgb, drawn)).shape == pairs[1].rgb.shape


def test_a_real_drone_in_thermal_video(shared_data, tracker):
    from tpf_tracker_ros.data.box_files import read_boxes
    from tpf_tracker_ros.data.media import MediaSequence
    from tpf_tracker_ros.evaluation.metrics import precision

    truth = read_boxes(shared_data / 'antiuav' / '7.txt')[:200]
    sequence = MediaSequence(None, shared_data / 'antiuav' / '7.avi', ground_truth=truth)
    results = follow(tracker, list(islice(sequence, 200)), truth[0])
    boxes = np.array([truth[0], *(result.box for result in results)])
    assert precision(boxes, truth, 20) >= 90
