"""tpf_nano: NanoTrack's numbers behind fusion, two templates, and what training leaves alone."""

import numpy as np
import pytest
from safetensors import safe_open
import torch
from tpf_tracker_ros.models import create_model, packaged_weights
from tpf_tracker_ros.models.checkpoint import load_model
from tpf_tracker_ros.models.import_weights import import_weights
from tpf_tracker_ros.models.layers.head import decode
from tpf_tracker_ros.models.nano import (
    LOGIT_MIDDLE,
    LOGIT_SCALE,
    RIGHT_MIDDLE,
    RIGHT_SCALE,
)

# NanoTrack's two files in ONNX Runtime on `waves`: what the target's logit is above the
# background's, and distances in px of the search crop, one cell above the middle and there.
LOGIT = -6.923700, -5.992946
LEFT_TOP, RIGHT_BOTTOM = (
    ((25.685972, 27.032066), (39.837048, 35.377693)),
    ((26.901556, 24.227978), (27.318367, 31.256828)),
)


def waves(size: int) -> torch.Tensor:
    """8-bit B, G, R by a formula: (1, 3, size, size)."""
    c, y, x = np.meshgrid(np.arange(3), np.arange(size), np.arange(size), indexing='ij')
    image = 127 + 80 * np.sin(x / (5 + c)) * np.cos(y / 9) + 40 * np.sin((x + 2 * y) / 23)
    return torch.from_numpy(image.round().clip(0, 255)).float()[None]


def normalised(model, bgr: torch.Tensor) -> torch.Tensor:
    return model.normalization.apply(bgr.flip(1) / 255)


@pytest.fixture(scope='module')
def nano():
    return load_model('tpf_nano').eval()


@torch.inference_mode()
def test_where_both_images_are_the_same_the_maps_are_nanotracks(nano):
    image = {size: normalised(nano, waves(size)) for size in (127, 255)}
    merged = {size: nano.merge(each, each) for size, each in image.items()}
    template = nano.template(merged[127])
    maps = nano.search(template[:, None], merged[255])
    score, size, offset, confidence = (each[0, :, 6:8, 7] for each in maps[:4])

    def agree(found, expected):
        torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=2e-3)

    agree(score[0].logit() * LOGIT_SCALE + LOGIT_MIDDLE, LOGIT)
    agree(confidence[0].logit() * RIGHT_SCALE + RIGHT_MIDDLE, LOGIT)
    to_the_right = (offset - nano.point[:, 6:8, 7]) * (2 * 255 / 15)  # right less left, ...
    agree((size * 255 - to_the_right) / 2, LEFT_TOP)
    agree((size * 255 + to_the_right) / 2, RIGHT_BOTTOM)


@torch.inference_mode()
def test_fusion_leaves_an_image_given_twice_exactly_as_it_is(nano):
    image = torch.randn(1, 3, 61, 45)
    assert torch.equal(nano.merge(image, image), image)


@torch.inference_mode()
def test_equal_templates_answer_as_one_does(nano):
    kept = nano.template(torch.randn(1, 3, 127, 127))
    search = torch.randn(1, 3, 255, 255)
    one, two = (nano.search(torch.stack([kept] * count, 1), search) for count in (1, 2))
    for a, b in zip(one[:3], two[:3]):
        torch.testing.assert_close(a, b)


@torch.inference_mode()
def test_the_box_is_the_initial_templates_whatever_the_dynamic_one_is(nano):
    first, other = (nano.template(torch.randn(1, 3, 127, 127)) for _ in range(2))
    search = torch.randn(1, 3, 255, 255)
    alone = nano.search(first[:, None], search)
    both = nano.search(torch.stack([first, other], 1), search)
    assert torch.equal(alone.size, both.size) and torch.equal(alone.offset, both.offset)
    assert not torch.allclose(alone.score, both.score)


@torch.inference_mode()
def test_the_middle_cell_points_at_the_crops_middle_and_neighbours_are_16_px_apart(nano):
    still = nano.point[None]  # offsets of a target as far to the left as to the right
    for row, column in ((7, 7), (7, 8), (0, 14)):
        response = torch.zeros(1, 1, 15, 15)
        response[..., row, column] = 1
        box, _ = decode(response, torch.zeros_like(still), still)
        expected = 127.5 + 16 * (column - 7), 127.5 + 16 * (row - 7)
        assert box[0, :2].tolist() == pytest.approx([each / 255 for each in expected])


def test_training_moves_the_adapter_alone(nano):
    model = create_model('tpf_nano').train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    rgb, thermal = torch.randn(2, 1, 3, 127, 127)
    search = torch.randn(2, 1, 3, 255, 255)
    maps = model(model.template(model.merge(rgb, thermal))[:, None], model.merge(*search))
    (maps.score.sum() + maps.size.sum()).backward()
    optimizer.step()
    moved = {k for k, value in model.state_dict().items() if not torch.equal(value, before[k])}
    assert moved and {model.group(key) for key in moved} == {'adapter'}


def test_the_shipped_tracker_is_nanotracks_own_and_says_so(shared_data, tmp_path):
    import_weights(shared_data / 'nanotrack' / 'nanotrackv3.pth', 'tpf_nano', tmp_path / 'v3')
    files = tmp_path / 'v3', packaged_weights('tpf_nano')
    own, shipped = (safe_open(path, 'pt') for path in files)
    with own, shipped:
        keys = list(own.keys())
        assert keys == list(shipped.keys())
        for key in keys:
            if key.startswith(('backbone.', 'ban_head.')) and 'num_batches' not in key:
                assert torch.equal(own.get_tensor(key), shipped.get_tensor(key)), key
        assert 'Apache-2.0' in shipped.metadata()['license']
