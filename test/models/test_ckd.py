from formula import crops, fill, find, small_crops
import pytest
import torch
from tpf_tracker_ros.models.ckd import Ckd, CkdWithTeachers
from tpf_tracker_ros.models.layers.vit import Elimination, set_keep
from tpf_tracker_ros.models.vit_config import VitConfig


def on_meta(build, config=None):
    with torch.device('meta'):
        return build(config or VitConfig()).eval()


@pytest.fixture(scope='module')
def published(golden_folder):
    return fill(on_meta(Ckd))


@pytest.mark.parametrize(
    'build, file, numbers',
    [(Ckd, 'ckd_keys.csv', 183_871_365), (CkdWithTeachers, 'ckd_train_keys.csv', 368_908_431)],
)
def test_names_and_shapes_are_the_published_ones(key_table, build, file, numbers):
    network = on_meta(build)
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == key_table(file)
    assert sum(p.numel() for p in network.parameters()) == numbers
    norms = [m for m in network.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert norms and all(norm.eps == 1e-6 for norm in norms)


def test_a_step_costs_the_published_multiply_adds(count_gmacs):
    assert count_gmacs(on_meta(Ckd)) == pytest.approx(42.735, abs=6e-4)


@torch.inference_mode()
def test_with_elimination_all_is_as_in_the_published_code(published, golden, assert_maps):
    expected = golden('ckd.npz', 'ce_')
    set_keep(published, 0.7)
    kept, paid, taps = [], [], []
    for layer in published.rgb_branch.modules():
        if isinstance(layer, Elimination):
            layer.register_forward_hook(
                lambda _, given, out: (paid.append(given[2]), kept.append(out[1]), None)[2]
            )
    images = crops(1)
    z, x = published.embed(*images[:2]), published.embed(*images[2:])
    features = published.features(z, x, taps=taps)
    assert_maps(find(published, images), expected)
    for i, block in enumerate((3, 6, 9)):
        assert set(kept[i][0].tolist()) == set(expected[f'kept_block{block}'][0].tolist())
        torch.testing.assert_close(
            paid[i].sort().values, expected[f'paid_block{block}'].sort().values, rtol=1e-4, atol=0
        )
    for m, modality in enumerate(('rgb', 'tir')):
        for i, pair in enumerate(taps):
            torch.testing.assert_close(
                pair[m][:, :4, :8], expected[f'{modality}_block_taps'][i, :, :4], rtol=0, atol=3e-4
            )
        tokens = features[:, 768 * m : 768 * m + 8].flatten(2).mT  # noqa: E203
        torch.testing.assert_close(
            tokens, expected[f'{modality}_tokens'][:, 64:], rtol=0, atol=3e-4
        )


@torch.inference_mode()
def test_without_elimination_the_maps_are_as_in_the_published_code(published, golden, assert_maps):
    set_keep(published, 1)
    assert_maps(find(published, crops(1)), golden('ckd.npz', 'noce_'))


SMALL = VitConfig(
    template_size=32, search_size=64, stride=8, dim=32, depth=4, heads=2, ce_blocks=(1, 2),
    head_channels=64,
)  # fmt: skip


@torch.inference_mode()
def test_two_equal_templates_are_as_good_as_one():
    torch.manual_seed(0)
    network, images = Ckd(SMALL).eval(), small_crops()
    one, two = find(network, images), find(network, images, templates=2)
    torch.testing.assert_close(one.score, two.score)
    torch.testing.assert_close(one.offset, two.offset)


def test_students_learn_behind_a_mask_and_teachers_see_all():
    torch.manual_seed(0)
    network = set_keep(CkdWithTeachers(SMALL).eval(), 1)
    z_rgb, z_thermal, x_rgb, x_thermal = small_crops()
    visible = torch.rand(2, 64) > 0.25
    seen = network.learn((z_rgb, z_thermal), (x_rgb, x_thermal))
    masked = network.learn((z_rgb, z_thermal), (x_rgb, x_thermal), visible=visible)
    assert len(masked.student_taps) == len(masked.teacher_taps) == 4
    torch.testing.assert_close(masked.teacher_taps[3][0], seen.teacher_taps[3][0])
    assert not torch.allclose(masked.student_taps[3][1], seen.student_taps[3][1])
    # Only its place is left of a hidden patch, whatever was in it.
    x_rgb = x_rgb * visible.view(2, 8, 8).repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    blind = network.learn((z_rgb, z_thermal), (x_rgb, x_thermal), visible=visible)
    torch.testing.assert_close(blind.maps[0].score, masked.maps[0].score)
    sum(maps.score.sum() for maps in masked.maps).backward()
    streams = network.rgb_branch, network.tir_branch, network.teacher_rgb, network.teacher_tir
    assert all(stream.blocks[0].attn.qkv.weight.grad.norm() > 0 for stream in streams)
