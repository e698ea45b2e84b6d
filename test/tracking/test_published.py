"""`policy: published` is OSTrack's search alone: an independent loop gives its boxes."""

import math

import cv2
import numpy as np
import pytest
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.models import create_model, list_models
from tpf_tracker_ros.models.checkpoint import save_weights
from tpf_tracker_ros.tracking.config import (
    parse_setting,
    POLICIES,
    PUBLISHED,
    SETTINGS,
    TrackerConfig,
)
from tpf_tracker_ros.tracking.load import load_tracker, model_settings


@pytest.fixture(scope='module')
def film():
    sequence = WorldSequence(5, frames=25, size=(320, 256))
    pairs = [
        FramePair(pair.rgb, (pair.thermal / 64).clip(0, 255).astype(np.uint8)) for pair in sequence
    ]
    return pairs, sequence.ground_truth


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = create_model('toy')
    for layer in network.head.modules():  # so that maps have peaks
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.nn.init.constant_(network.head.conv5_size.bias, math.log(0.25 / 0.75))  # 1 of 4 sides
    path = tmp_path_factory.mktemp('published') / 'toy.safetensors'
    save_weights(network, path)
    return network.eval(), path


def crop(image, box, factor, size):
    x, y, w, h = box
    side = math.ceil(math.sqrt(w * h) * factor)
    left, top = round(x + 0.5 * w - 0.5 * side), round(y + 0.5 * h - 0.5 * side)
    padded = np.zeros((side, side, 3), np.uint8)
    for row in range(max(0, top), min(image.shape[0], top + side)):
        columns = slice(max(0, left), min(image.shape[1], left + side))
        inside = slice(columns.start - left, columns.stop - left)
        padded[row - top, inside] = image[row, columns]
    return cv2.resize(padded, (size, size)), size / side


def tensor(pair, box, factor, size):
    images = []
    for image in (pair.rgb, cv2.merge([pair.thermal] * 3)):
        shown, scale = crop(image, box, factor, size)
        shown = (shown / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        images.append(torch.from_numpy(shown.transpose(2, 0, 1)[None]).float())
    return torch.cat(images, 1), scale


@torch.inference_mode()
def plain_loop(network, pairs, box):
    template = network.template(tensor(pairs[0], box, 2, 32)[0])[:, None]
    hann = [0.5 * (1 - math.cos(2 * math.pi * i / 9)) for i in range(1, 9)]
    boxes = []
    for pair in pairs[1:]:
        search, scale = tensor(pair, box, 4, 64)
        maps = network.search(template, search)
        response = maps.score[0, 0].numpy() * np.outer(hann, hann)
        row, column = np.unravel_index(response.argmax(), (8, 8))
        cx = (column + float(maps.offset[0, 0, row, column])) / 8 * 64 / scale
        cy = (row + float(maps.offset[0, 1, row, column])) / 8 * 64 / scale
        w, h = (float(maps.size[0, i, row, column]) * 64 / scale for i in (0, 1))
        half = 0.5 * 64 / scale
        cx, cy = box[0] + 0.5 * box[2] - half + cx, box[1] + 0.5 * box[3] - half + cy
        left, right = max(0, cx - w / 2), min(320, max(10, cx + w / 2))
        top, bottom = max(0, cy - h / 2), min(256, max(10, cy + h / 2))
        left, top = min(left, 310), min(top, 246)
        box = [left, top, max(10, right - left), max(10, bottom - top)]
        boxes.append(box)
    return np.array(boxes)


def test_a_tracked_sequence_is_that_of_an_independent_loop(film, weights):
    pairs, truth = film
    network, path = weights
    tracker = load_tracker('toy', device='cpu', checkpoint=path)
    assert tracker.config.policy == 'published'  # by its entry in the registry
    assert tracker.initialize(pairs[0], truth[0]).score == 1
    found = np.array([tracker.track(pair).box for pair in pairs[1:]])
    expected = plain_loop(network, pairs, list(truth[0]))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.abs(np.diff(found[:, :2], axis=0)).max() > 3, 'it moves'


def test_every_piece_has_one_switch_and_is_off_in_published():
    changed = set()
    for model in list_models():
        robust, published = (model_settings(model, policy=each) for each in POLICIES)
        changed |= {name for name in SETTINGS if getattr(robust, name) != getattr(published, name)}
        assert all(getattr(published, name) == value for name, value in PUBLISHED.items())
    assert changed == set(PUBLISHED)
    one = model_settings('tpf_tiny', policy='published', inertia=0.5)
    assert (one.inertia, one.size_smoothing) == (0.5, 0)


# ndtu_interval needs two templates, and published uses one.
@pytest.mark.parametrize('name', [n for n in PUBLISHED if n not in {'policy', 'ndtu_interval'}])
def test_any_switch_can_be_set_on_top_while_tracking(film, name):
    pairs, truth = film
    tracker = load_tracker('tpf_tiny', device='cpu', policy='published')
    tracker.initialize(pairs[0], truth[0])
    tracker.configure(**{name: getattr(TrackerConfig(), name)})
    assert np.isfinite(tracker.track(pairs[1]).box).all()


@pytest.mark.parametrize(
    'text, value',
    [
        ('inertia=0', 0.0),
        ('lost_after=3', 3),
        ('second_look=False', False),
        ('policy=robust', 'robust'),
    ],
)
def test_settings_of_the_command_line(text, value):
    name, found = parse_setting(text)
    assert (name, found) == (text.partition('=')[0], value) and type(found) is type(value)


@pytest.mark.parametrize(
    'text, words',
    [
        ('inertia', 'is not NAME=VALUE'),
        ('speed=3', "unknown tracker setting 'speed'"),
        ('size_calibration=0.5', "'size_calibration' is now called 'box_calibration'"),
        ('lost_after=2.5', 'it must be a whole number'),
        ('second_look=1', 'it must be true or false'),
        ('inertia=2', 'breaks the rule 0 <= inertia <= 1'),
        ('policy=best', 'choose one of robust, published'),
    ],
)
def test_bad_settings_are_refused_in_words(text, words):
    with pytest.raises(TpfError, match=words):
        model_settings('tpf_tiny', **dict([parse_setting(text)]))


def test_a_policy_is_chosen_when_a_tracker_is_loaded():
    with pytest.raises(TpfError, match='policy is chosen when a tracker is loaded'):
        load_tracker('tpf_tiny', device='cpu').configure(policy='published')
