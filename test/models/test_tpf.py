import math

import pytest
import torch
import torch.nn.functional as F
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import create_model, list_models, packaged_weights, register_model
from tpf_tracker_ros.models.checkpoint import load_model, load_weights, save_weights
from tpf_tracker_ros.models.layers.pfa import GridStem, magnify, PixelFusionAdapter
from tpf_tracker_ros.models.tpf import Tpf, TpfConfig

SMALL = {
    'template_size': 32,
    'search_size': 64,
    'dim': 32,
    'depth': 4,
    'heads': 2,
    'head_channels': 16,
}
SMALL_PFA = {'pfa_channels': 4, 'pfa_state': 2, 'pfa_stride': 4}


def inputs(model: Tpf, batch: int, templates: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Kept templates (B, K, Nz, D) and fused search crops (B, 3, S, S)."""
    crops = model.crops
    z = torch.randn(batch, 3, crops.template_size, crops.template_size)
    x = torch.randn(batch, 3, crops.search_size, crops.search_size)
    return torch.stack([model.template(z)] * templates, 1), x


def on_meta(name):
    with torch.device('meta'):
        return create_model(name).eval()


@pytest.mark.parametrize('name', list_models())
@torch.inference_mode()
def test_every_model_maps_templates_and_search_to_head_maps(name):
    model = on_meta(name)
    crops = model.crops
    template, search = (
        torch.randn(2, 1, 3, size, size, device='meta')
        for size in (crops.template_size, crops.search_size)
    )
    kept = model.template(model.merge(*template))
    grid = crops.search_grid
    for count in range(1, model.max_templates + 1):
        maps = model(torch.stack([kept] * count, 1), model.merge(*search))
        assert maps.score.shape == (1, 1, grid, grid)
        assert maps.size.shape == maps.offset.shape == (1, 2, grid, grid)


@pytest.mark.parametrize('name', [name for name in list_models() if on_meta(name).fuses])
@torch.inference_mode()
def test_every_fusion_starts_by_averaging_the_two_images(name):
    rgb, thermal = torch.randn(2, 1, 3, 50, 62)
    fused = create_model(name).eval().merge(rgb, thermal)
    torch.testing.assert_close(fused, (rgb + thermal) / 2)


@pytest.mark.parametrize('name', list_models())
def test_every_model_has_a_line_of_description(name):
    assert len(list_models()[name].line) > 10


def test_a_name_is_registered_once():
    def tpf_tiny():
        """Take a name that is there."""

    with pytest.raises(TpfError, match="'tpf_tiny' is registered by tpf_tracker_ros"):
        register_model()(tpf_tiny)


def test_an_unknown_model_is_named_with_those_there_are():
    with pytest.raises(TpfError, match=r"unknown model 'tpf_huge'; choose one of .*tpf_base"):
        create_model('tpf_huge')


@torch.inference_mode()
def test_the_dynamic_template_is_told_apart_from_the_initial_one():
    torch.manual_seed(0)
    model = Tpf(TpfConfig(stride=8, stem='conv', ce_blocks=(), **SMALL, **SMALL_PFA)).eval()
    first, second = torch.randn(2, 1, 3, 32, 32)
    x = torch.randn(1, 3, 64, 64)
    z = torch.stack([model.template(first), model.template(second)], 1)
    swapped = z.flip(1)
    torch.testing.assert_close(model(z, x).score, model(swapped, x).score)
    model.template_type.normal_()
    assert not torch.allclose(model(z, x).score, model(swapped, x).score)


def eliminating(keep: float) -> Tpf:
    torch.manual_seed(0)
    config = TpfConfig(stride=8, ce_blocks=(1, 3), ce_keep=keep, **SMALL, **SMALL_PFA)
    return Tpf(config).eval()


@torch.inference_mode()
def test_candidate_elimination_keeps_its_share_and_zeroes_the_rest():
    model = eliminating(0.7)
    features, _ = model.features(*inputs(model, 2, 1))
    alive = features.abs().amax(1).flatten(1) > 0
    expected = math.ceil(0.7 * math.ceil(0.7 * 64))
    assert alive.sum(1).tolist() == [expected, expected]


@torch.inference_mode()
def test_without_elimination_the_same_weights_use_all_candidates():
    pruned, whole = eliminating(0.7), eliminating(1.0)
    whole.load_state_dict(pruned.state_dict())
    given = inputs(whole, 1, 1)
    features, _ = whole.features(*given)
    assert (features.abs().amax(1) > 0).all()
    # What is pruned last is pruned after the last attention but one: values differ, softly.
    assert not torch.allclose(features, pruned.features(*given)[0])


@torch.inference_mode()
def test_the_grid_stem_sees_contrast_and_not_the_level():
    torch.manual_seed(0)
    stem = GridStem(4, 8)
    stem.convolutions = torch.nn.Conv2d(3, 4, 8, 8)
    torch.nn.init.zeros_(stem.convolutions.weight)
    image = torch.randn(1, 3, 32, 48)
    seen = stem(image)
    assert seen.shape == (1, 4, 4, 6)
    torch.testing.assert_close(stem(image + 1), seen, rtol=0, atol=1e-4)
    flat = stem(torch.ones_like(image)) - stem(0.01 * image)
    assert (stem(image) - stem(0.1 * image)).abs().mean() > 3 * flat.abs().mean()


@pytest.mark.parametrize('shape', [(2, 3, 16, 16), (1, 1, 5, 9), (1, 2, 1, 3)])
def test_magnify_is_bilinear_interpolation(shape):
    grid = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(grid, scale_factor=4, mode='bilinear', align_corners=False)
    torch.testing.assert_close(magnify(grid, 4), expected)


@pytest.mark.parametrize('stride', [1, 8])
def test_fusion_learns_to_prefer_the_image_that_carries_something(stride):
    """A few steps of training must move the adapter from averaging towards the clear image."""
    torch.manual_seed(0)
    pfa = PixelFusionAdapter(channels=8, stride=stride, d_state=4)
    clear = torch.randn(4, 3, 32, 32)
    dark = torch.full_like(clear, -2.0)
    optimizer = torch.optim.Adam(pfa.parameters(), lr=2e-2)
    errors = []
    for _ in range(30):
        error = (pfa(dark, clear) - clear).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.5 * errors[0]


def test_weights_come_back_as_they_were(tmp_path):
    model, copy = create_model('tpf_tiny'), create_model('tpf_tiny')
    save_weights(model, tmp_path / 'w.safetensors')
    load_weights(copy, tmp_path / 'w.safetensors')
    for key, value in model.state_dict().items():
        torch.testing.assert_close(copy.state_dict()[key], value, rtol=0, atol=0)


def test_a_bad_checkpoint_is_named(tmp_path):
    model = create_model('tpf_tiny')
    with pytest.raises(TpfError, match='does not exist'):
        load_weights(model, tmp_path / 'none.safetensors')
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(b'not weights at all')
    with pytest.raises(TpfError, match='not a readable safetensors file'):
        load_weights(model, broken)
    other = Tpf(TpfConfig(stride=8, stem='conv', ce_blocks=(), **SMALL, **SMALL_PFA))
    save_weights(other, tmp_path / 'other.safetensors')
    with pytest.raises(TpfError, match=r'unexpected: .*blocks.3.*the model needs'):
        load_weights(model, tmp_path / 'other.safetensors', part=bool)
    with pytest.raises(TpfError, match='this is a tpf_tiny file, the model is tpf_small'):
        load_model('tpf_small', packaged_weights('tpf_tiny'))
