from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.training import experts
from tpf_tracker_ros.training.experts import (
    box_mean,
    from_pyramid,
    guided_filter,
    laplacian_pyramid,
    list_experts,
    load_expert,
    luminance,
    saliency_weights,
)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth random images with some detail, in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 6, 7, generator=generator)
    fine = torch.rand(*shape, generator=generator)
    return 0.8 * F.interpolate(coarse, shape[2:], mode='bicubic').clamp(0, 1) + 0.2 * fine


@pytest.mark.parametrize('name', list_experts())
@pytest.mark.parametrize('size', [(64, 64), (51, 130), (5, 7)])
def test_two_equal_images_come_back(name, size):
    image = images(2, 3, *size)
    torch.testing.assert_close(load_expert(name)(image, image), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize('name', list_experts())
def test_the_samples_of_a_batch_do_not_mix_and_stay_in_range(name):
    rgb, thermal = images(3, 3, 60, 80), images(3, 1, 60, 80, seed=1).expand(-1, 3, -1, -1)
    fused = load_expert(name)(rgb, thermal)
    assert fused.shape == rgb.shape and fused.min() >= 0 and fused.max() <= 1
    alone = load_expert(name)(rgb[1:2], thermal[1:2])
    torch.testing.assert_close(fused[1:2], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize('name', list_experts())
def test_detail_that_only_one_camera_sees_reaches_the_fused_image(name):
    """Averaging would leave half of the contrast; each expert keeps clearly more."""
    board = ((torch.arange(64)[:, None] // 4 + torch.arange(64) // 4) % 2).float()
    board = (0.3 + 0.4 * board).expand(1, 3, -1, -1)
    flat = torch.full_like(board, 0.5)
    for pair in ((board, flat), (flat, board)):
        fused = luminance(load_expert(name)(*pair))[..., 16:48, 16:48]
        assert fused.std() > 0.8 * board[..., 16:48, 16:48].std()


@pytest.mark.parametrize('name', list_experts())
def test_half_precision_training_does_not_touch_what_an_expert_teaches(name):
    rgb, thermal = images(1, 3, 32, 32), images(1, 3, 32, 32, seed=1)
    with torch.autocast('cpu', torch.bfloat16):
        fused = load_expert(name)(rgb, thermal)
    torch.testing.assert_close(fused, load_expert(name)(rgb, thermal), rtol=0, atol=0)


def test_the_experts_are_of_different_kinds():
    rgb, thermal = images(1, 3, 64, 64), images(1, 3, 64, 64, seed=1)
    fused = [load_expert(name)(rgb, thermal) for name in list_experts()]
    for one, other in combinations(fused, 2):
        assert (one - other).abs().mean() > 0.003


@pytest.mark.parametrize('size', [(64, 64), (51, 130)])
def test_a_laplacian_pyramid_rebuilds_the_image(size):
    image = images(2, 1, *size)
    layers = laplacian_pyramid(image, 4)
    assert len(layers) == 5 and layers[-1].shape[-2] == -(-size[0] // 16)
    torch.testing.assert_close(from_pyramid(layers), image, atol=1e-6, rtol=0)


def test_a_guided_filter_without_eps_is_the_identity_on_its_guide():
    image = images(1, 1, 40, 50).double()
    torch.testing.assert_close(guided_filter(image, image, 3, 0.0), image, atol=1e-6, rtol=0)


def test_a_wide_mean_is_that_of_a_pooling(monkeypatch):
    image = images(2, 1, 33, 47)
    wide = box_mean(image, 12)
    monkeypatch.setattr(experts, 'WIDE', 12)
    torch.testing.assert_close(wide, box_mean(image, 12), atol=1e-6, rtol=0)
    assert not torch.equal(wide, image)


def test_a_guided_filter_with_a_large_eps_is_a_mean_of_means():
    image = images(1, 1, 40, 50).double()
    expected = box_mean(box_mean(image, 3), 3)
    torch.testing.assert_close(guided_filter(image, image, 3, 1e6), expected, atol=1e-5, rtol=0)


def test_a_guided_filter_keeps_the_step_and_smooths_the_noise():
    torch.manual_seed(0)
    step = (torch.arange(64) >= 32).float().expand(1, 1, 64, 64)
    noisy = step + 0.03 * torch.randn(1, 1, 64, 64)
    smooth = guided_filter(noisy, noisy, 4, 0.01)
    assert smooth[..., 8:24].std() < 0.5 * noisy[..., 8:24].std()
    edge = smooth[..., 32] - smooth[..., 31]
    blurred = box_mean(noisy, 4)
    assert edge.mean() > 0.85 and (blurred[..., 32] - blurred[..., 31]).mean() < 0.2


def test_saliency_weights_sum_to_one_and_prefer_the_structured_image():
    structured, flat = images(1, 1, 40, 50), torch.full((1, 1, 40, 50), 0.5)
    weights = saliency_weights(structured, flat)
    torch.testing.assert_close(weights[0] + weights[1], torch.ones(1, 1, 40, 50))
    assert weights[0].mean() > 0.99


class Darker(torch.nn.Module):
    def forward(self, visible: torch.Tensor, infrared: torch.Tensor) -> torch.Tensor:
        return torch.minimum(visible, infrared)


@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('kind', ['onnx', 'pt'])
def test_a_network_from_a_file_is_an_expert(tmp_path, kind, batch):
    path = tmp_path / f'darker.{kind}'
    example = torch.rand(batch, 1, 24, 32), torch.rand(batch, 1, 24, 32)
    if kind == 'onnx':
        pytest.importorskip('onnxscript')
        pytest.importorskip('onnxruntime')
        torch.onnx.export(Darker(), example, path, dynamo=True, verbose=False)
    else:
        torch.jit.trace(Darker(), example).save(path)
    rgb, thermal = images(2, 3, 24, 32), images(2, 1, 24, 32, seed=1).expand(-1, 3, -1, -1)
    fused = load_expert(str(path))(rgb, thermal)
    darker = torch.minimum(luminance(rgb), luminance(thermal))
    expected = (rgb + darker - luminance(rgb)).clamp(0, 1)
    torch.testing.assert_close(fused, expected, atol=1e-5, rtol=0)


def test_what_is_no_expert_is_refused_in_one_line(tmp_path):
    with pytest.raises(TpfError, match=r"unknown expert 'gan'; choose one of laplacian, guided"):
        load_expert('gan')
    with pytest.raises(TpfError, match='does not exist'):
        load_expert(str(tmp_path / 'none.onnx'))
    broken = tmp_path / 'broken.pt'
    broken.write_bytes(b'no network')
    with pytest.raises(TpfError, match='cannot be read'):
        load_expert(str(broken))
    shrinking = torch.jit.script(torch.nn.Identity())
    shrinking.save(tmp_path / 'one_input.pt')
    with pytest.raises(TpfError, match='failed on two images'):
        load_expert(str(tmp_path / 'one_input.pt'))(images(1, 3, 8, 8), images(1, 3, 8, 8))
