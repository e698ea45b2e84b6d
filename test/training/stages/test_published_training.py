"""A training step of CKD and of SDSTrack to the numbers of the authors' code, forward and back."""

import json

from formula import crops, fill, uniform
import numpy as np
import pytest
import torch
from tpf_tracker_ros.models.ckd import CkdWithTeachers
from tpf_tracker_ros.models.layers.vit import set_keep
from tpf_tracker_ros.models.network import Maps
from tpf_tracker_ros.models.sdstrack import SdsTrack, SdsTrackConfig
from tpf_tracker_ros.models.vit_config import VitConfig
from tpf_tracker_ros.training.losses.features import content_loss, style_loss
from tpf_tracker_ros.training.losses.tracking import losses_of, weigh
from tpf_tracker_ros.training.samples.world import Batch
from tpf_tracker_ros.training.stages.ckd import CkdStage, CkdStageConfig
from tpf_tracker_ros.training.stages.sdstrack import (
    complementary,
    SdsTrackStage,
    SdsTrackStageConfig,
)

XYWH = torch.tensor([[0.30, 0.35, 0.25, 0.20], [0.42, 0.41, 0.13, 0.14]])


@pytest.fixture
def golden(shared_data):
    folder = shared_data.parent / 'golden'
    if not folder.is_dir():
        pytest.skip(f'no reference outputs at {folder}')
    return lambda name: (
        json.loads((folder / f'{name}.json').read_text()),
        np.load(folder / f'{name}.npz'),
    )


def batch():
    box = torch.cat([XYWH[:, :2] + XYWH[:, 2:] / 2, XYWH[:, 2:]], 1)
    none = torch.zeros(2, 2, 1)
    return Batch((), (), box, none[..., None], none.bool(), torch.ones(2).bool())


def assert_maps(maps, arrays, prefix):
    for part, tolerance in ('score', 2e-5), ('size', 2e-5), ('offset', 1e-4):
        expected = torch.from_numpy(arrays[f'{prefix}_{part}'])
        torch.testing.assert_close(getattr(maps, part).detach(), expected, rtol=0, atol=tolerance)


def assert_norms(network, numbers):
    for name, expected in numbers.items():
        if name.startswith('grad_norm '):
            part = name.removeprefix('grad_norm ')
            squares = sum(
                p.grad.double().square().sum()
                for key, p in network.named_parameters()
                if part in key and p.grad is not None
            )
            assert squares.sqrt().item() == pytest.approx(expected, rel=1e-4), part


def test_ckd(golden):
    numbers, arrays = golden('ckd_train')
    numbers = numbers['stage1']
    with torch.device('meta'):
        network = CkdWithTeachers(VitConfig())
    set_keep(fill(network), 1).train()
    z_rgb, z_thermal, x_rgb, x_thermal = crops()
    visible = torch.from_numpy(arrays['mask_keep'] > 0)
    assert torch.equal(visible, uniform('mask.ckd.search', (2, 256)) > 0.25)
    taught = network.learn((z_rgb, z_thermal), (x_rgb, x_thermal), visible=visible)
    for maps, prefix in zip(taught.maps, ('fused', 'teacher_rgb', 'teacher_tir')):
        assert_maps(maps, arrays, prefix)

    students, teachers = taught.student_taps, taught.teacher_taps
    style = [style_loss(*pair).item() for pair in students]
    np.testing.assert_allclose(style, numbers['style_per_block'], rtol=1e-4)
    for m, name in enumerate(('rgb', 'tir')):
        each = [content_loss(t[m], s[m]).item() for t, s in zip(teachers, students)]
        np.testing.assert_allclose(each, numbers[f'content_per_block_{name}'], rtol=1e-4)

    config = CkdStageConfig()
    terms = [weigh(losses_of(m, batch(), published=True), config) for m in taught.maps]
    fused = terms[0]
    for ours, name in (
        ('loss', 'total'), ('giou', 'giou'), ('l1', 'l1'), ('score', 'location'),
    ):  # fmt: skip
        assert fused[ours].item() == pytest.approx(numbers[f'Loss/{name}'], rel=1e-4)
    style, content = CkdStage.distill(students, teachers)
    loss = sum(term['loss'] for term in terms)
    loss = loss + config.style_weight * style + config.content_weight * content
    assert loss.item() == pytest.approx(numbers['Loss/sum'], rel=1e-4)
    loss.backward()
    assert_norms(network, numbers)


@pytest.fixture(scope='module')
def sdstrack():
    with torch.device('meta'):
        network = SdsTrack(SdsTrackConfig())
    return fill(network)  # in evaluation mode, as the frozen head's statistics are


@pytest.mark.parametrize(('epoch', 'keep'), [('epoch0', 1.0), ('epoch40', 0.7)])
def test_sdstrack(golden, sdstrack, epoch, keep):
    """Without elimination forward alone: a way back through a ViT-B takes its time."""
    numbers, arrays = golden('sdstrack_train')
    numbers = numbers[epoch]
    network = set_keep(sdstrack, keep).requires_grad_(keep < 1)
    z_rgb, z_thermal, x_rgb, x_thermal = crops()
    tokens = network.embed(z_rgb, z_thermal), network.embed(x_rgb, x_thermal)
    masks = [
        complementary(uniform(f'mask.rgb.{v}', (2, n)), uniform(f'mask.x.{v}', (2, n)), 0.3)
        for v, n in (('template', 64), ('search', 256))
    ]
    stage = SdsTrackStage.__new__(SdsTrackStage)  # with this network, not one of the registry
    stage.model, stage.config = network, SdsTrackStageConfig(pair_by_rank=True)
    seen = []
    network.box_head.register_forward_hook(lambda head, inputs, maps: seen.append(Maps(*maps)))
    terms = stage.passes(batch(), *tokens, masks)
    for maps, name in zip(seen, ('clean', 'masked')):
        assert_maps(maps, arrays, f'{epoch}_{name}')
    # Of the k-th best tokens, two that lie closer than rounding may change places.
    rel = 1e-4 if keep == 1 else 1e-3
    assert terms['distillation'].item() == pytest.approx(numbers['Loss/mse_m'], rel=rel)
    assert terms['masked'].item() == pytest.approx(numbers['Loss/total_m'], rel=1e-4)
    assert terms['loss'].item() == pytest.approx(numbers['Loss/sum'], rel=1e-4)
    clean = (terms['loss'] - 0.2 * terms['masked'] - 0.1 * terms['distillation']) / 0.6
    assert clean.item() == pytest.approx(numbers['Loss/total_f'], rel=1e-4)
    if keep < 1:
        terms['loss'].backward()
        assert_norms(network, numbers)
