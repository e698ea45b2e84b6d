"""The losses of OSTrack's code, to the numbers of that code on fixed tensors."""

import json
import zlib

import numpy as np
import pytest
import torch
from tpf_tracker_ros.models.network import Maps
from tpf_tracker_ros.training.losses.centre import (
    clamped,
    corners,
    focal_loss,
    gaussian_target,
    giou_loss,
)
from tpf_tracker_ros.training.losses.features import content_loss, standardized, style_loss
from tpf_tracker_ros.training.losses.tracking import losses_of
from tpf_tracker_ros.training.samples.world import Batch


def uniform(key, shape):
    return torch.from_numpy(
        np.random.default_rng(zlib.crc32(key.encode())).random(shape).astype(np.float32)
    )


def normal(key, shape):
    drawn = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    return torch.from_numpy(drawn.astype(np.float32))


@pytest.fixture(scope='module')
def golden(shared_data):
    folder = shared_data.parent / 'golden'
    if not folder.is_dir():
        pytest.skip(f'no reference outputs at {folder}')
    return json.loads((folder / 'losses.json').read_text()), np.load(folder / 'losses.npz')


@pytest.fixture
def boxes(golden):
    xywh = torch.from_numpy(golden[1]['gt_xywh']).double()
    truth = torch.cat([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]], 1)
    return truth, torch.from_numpy(golden[1]['pred_cxcywh']).double()


def test_heat_maps(golden, boxes):
    heat = gaussian_target(boxes[0], 16, published=True)[:, 0]
    np.testing.assert_allclose(heat, golden[1]['heatmap'], atol=1e-6)
    at = heat.flatten(1).argmax(1)
    assert torch.stack([at % 16, at // 16], 1).tolist() == golden[0]['heatmap_argmax_xy']
    above = golden[0]['heatmap_cells_above_zero']
    assert (heat > 0).flatten(1).sum(1).tolist() == above
    ours = gaussian_target(boxes[0], 16)[:, 0]
    assert ((ours > 0).flatten(1).sum(1) > torch.tensor(above)).all()  # no end, another cell


def test_focal(golden):
    numbers, arrays = golden
    score = (1e-4 + (1 - 2e-4) * uniform('loss.score', (8, 1, 16, 16))).double()
    heat = torch.from_numpy(arrays['heatmap']).double()[:, None]
    assert focal_loss(score, heat).item() == pytest.approx(numbers['focal'], rel=1e-6)
    each = [focal_loss(s[None], h[None]).item() for s, h in zip(score, heat)]
    np.testing.assert_allclose(each, numbers['focal_per_sample'], rtol=1e-6)
    none = focal_loss(score, heat / 2).item()
    assert none == pytest.approx(numbers['focal_no_positive'], rel=1e-6)


def test_boxes(golden, boxes):
    numbers, (truth, found) = golden[0], boxes
    truth = clamped(truth)
    assert giou_loss(found, truth).mean().item() == pytest.approx(numbers['giou'], rel=1e-6)
    l1 = (corners(found) - corners(truth)).abs().mean().item()
    assert l1 == pytest.approx(numbers['l1'], rel=1e-6)
    total = 2 * numbers['giou'] + 5 * l1 + numbers['focal']
    assert total == pytest.approx(numbers['track_loss'], rel=1e-6)


def test_the_published_terms_of_maps_are_taken_at_the_highest_score(golden, boxes):
    """Maps that answer with the stored boxes at their best cell lose what the public code says."""
    numbers, (truth, found) = golden[0], (each.float() for each in boxes)
    score = 1e-4 + (1 - 2e-4) * uniform('loss.score', (8, 1, 16, 16))
    best = score.flatten(1).argmax(1)
    cell = torch.stack([best % 16, best // 16], 1)
    offset = (found[:, :2] * 16 - cell)[..., None, None].expand(-1, -1, 16, 16)
    size = found[:, 2:, None, None].expand(-1, -1, 16, 16)
    none = torch.zeros(8, 2, 1)
    batch = Batch((), (), truth, none[..., None], none.bool(), none[:, 0, 0].bool())
    terms = losses_of(Maps(score, size, offset), batch, published=True)
    assert terms.giou.item() == pytest.approx(numbers['giou'], rel=1e-5)
    assert terms.l1.item() == pytest.approx(numbers['l1'], rel=1e-5)
    assert terms.score.item() == pytest.approx(numbers['focal'], rel=1e-5)
    assert terms.iou.item() <= np.mean(numbers['iou'])  # ours is GIoU cut at 0


@pytest.fixture(scope='module')
def tokens():
    def draw(key):
        scale = 1 + 0.5 * normal(f'loss.ckd.scale.{key}', (1, 1, 768)).abs()
        shift = 0.3 * normal(f'loss.ckd.shift.{key}', (1, 1, 768))
        return (normal(f'loss.ckd.{key}', (2, 320, 768)) * scale + shift).double()

    drawn = {key: draw(key) for key in ('t_rgb', 't_tir', 's_rgb', 's_tir')}
    for m in 'rgb', 'tir':
        drawn[f's_{m}'] = (0.8 * drawn[f't_{m}'] + 0.6 * drawn[f's_{m}']).requires_grad_()
    return drawn


@pytest.mark.parametrize('m', ['rgb', 'tir'])
def test_content(golden, tokens, m):
    loss = content_loss(tokens[f't_{m}'], tokens[f's_{m}'])
    assert loss.item() == pytest.approx(golden[0][f'ckd_content_channel_{m}'], rel=1e-6)
    if m == 'rgb':
        (gradient,) = torch.autograd.grad(loss, tokens['s_rgb'])
        norm = golden[0]['ckd_content_grad_norm_s_rgb']
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-6)


def test_style(golden, tokens):
    loss = style_loss(tokens['s_rgb'], tokens['s_tir'])
    assert loss.item() == pytest.approx(golden[0]['ckd_style_channel'], rel=1e-6)
    gradients = torch.autograd.grad(loss, (tokens['s_rgb'], tokens['s_tir']))
    for m, gradient in zip(('rgb', 'tir'), gradients):
        norm = golden[0][f'ckd_style_grad_norm_s_{m}']
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-6)


def test_standardized_tokens_have_no_style():
    drawn = standardized(torch.randn(2, 50, 8) * 7 + 3)
    torch.testing.assert_close(drawn.mean(1), torch.zeros(2, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(drawn.var(1, correction=0), torch.ones(2, 8), atol=1e-4, rtol=0)
