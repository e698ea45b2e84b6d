from formula import crops, fill, find, small_crops
import pytest
import torch
from tpf_tracker_ros.models.layers.vit import Elimination, set_keep, to_slots
from tpf_tracker_ros.models.sdstrack import hide, SdsTrack, SdsTrackConfig


def on_meta():
    with torch.device('meta'):
        return SdsTrack(SdsTrackConfig()).eval()


@pytest.fixture(scope='module')
def published(golden_folder):
    return fill(on_meta())


def test_names_and_shapes_are_the_published_ones(key_table):
    network = on_meta()
    found = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    assert found == key_table('sdstrack_keys.csv')
    assert sum(p.numel() for p in network.parameters()) == 107_802_501
    norms = [m for m in network.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert norms and all(norm.eps == 1e-6 for norm in norms)


def test_a_step_costs_the_published_multiply_adds(count_gmacs):
    assert count_gmacs(on_meta()) == pytest.approx(54.388, abs=6e-4)


@torch.inference_mode()
def test_with_elimination_all_is_as_in_the_published_code(published, golden, assert_maps):
    expected = golden('sdstrack.npz', 'ce_')
    set_keep(published, 0.7)
    kept, paid, fused, after = [], [], [], []
    hooks = [
        block.register_forward_hook(lambda *args: after.append(args[2][0]))
        for block in published.backbone.blocks
    ]
    for layer in published.modules():
        if isinstance(layer, Elimination):
            layer.register_forward_hook(
                lambda _, given, out: (paid.append(given[2]), kept.append(out[1]), None)[2]
            )
    images = crops(1)
    z, x = published.embed(*images[:2]), published.embed(*images[2:])
    features = published.features(z, x, taps=fused)
    for hook in hooks:
        hook.remove()
    assert_maps(find(published, images), expected)
    tokens = features[:, :8].flatten(2).mT
    torch.testing.assert_close(tokens, expected['tokens'][:, 64:], rtol=0, atol=3e-4)
    assert len(after) == 12
    for i, both in enumerate(after):  # before the fusion pass of that block
        for stream, found in zip(('rgb', 'x'), both):
            wanted = expected[f'{stream}_block_taps'][i, 0, :4]  # of the template: in their order
            torch.testing.assert_close(found[:4, :8], wanted, rtol=0, atol=3e-4)
    for i, block in enumerate((3, 6, 9)):
        for m, stream in enumerate(('rgb', 'x')):
            name = f'_block{block}'
            assert set(kept[i][m].tolist()) == set(expected[f'{stream}_kept{name}'][0].tolist())
            found, wanted = (
                v.sort().values for v in (paid[i][m], expected[f'{stream}_paid{name}'][0])
            )
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0)
    for block, (tokens, places) in zip((3, 6, 9, 11), fused):
        search = to_slots(tokens[:, 64:], places, 256)
        slots = torch.cat([tokens[:, :64], search], 1).flatten(0, 1)[None, :, :4]
        torch.testing.assert_close(slots, expected[f'fused_block{block}'], rtol=0, atol=3e-4)


@torch.inference_mode()
def test_without_elimination_the_maps_are_as_in_the_published_code(published, golden, assert_maps):
    set_keep(published, 1)
    assert_maps(find(published, crops(1)), golden('sdstrack.npz', 'noce_'))


SMALL = SdsTrackConfig(
    template_size=32, search_size=64, stride=8, dim=32, depth=4, heads=2, ce_blocks=(1, 2),
    fusion_blocks=(1, 3), adapter_dim=8, head_channels=64,
)  # fmt: skip


def small():
    torch.manual_seed(0)
    return SdsTrack(SMALL).eval()


@torch.inference_mode()
def test_two_equal_templates_are_as_good_as_one():
    network, images = small(), small_crops()
    one, two = find(network, images), find(network, images, templates=2)
    torch.testing.assert_close(one.score, two.score)
    torch.testing.assert_close(one.offset, two.offset)


@torch.inference_mode()
def test_a_crop_that_shows_nothing_is_hidden_as_training_hides_patches():
    network, (z_rgb, z_other, x_rgb, x_other) = small(), small_crops()
    z, x = network.embed(z_rgb, z_other), network.embed(x_rgb, x_other)
    none, every = torch.zeros(2, 64, dtype=torch.bool), torch.ones(2, 64, dtype=torch.bool)
    dead = torch.full_like(x_other, -1.8)
    features = network.features(z, network.embed(x_rgb, dead))
    assert torch.equal(features, network.features(z, hide(x, none, every)))
    assert not torch.equal(features, network.features(z, x))


def test_what_is_trained_are_the_adapters_the_second_embedding_and_the_last_norm():
    network = on_meta()
    trained = [p.numel() for k, p in network.named_parameters() if network.group(k) != 'frozen']
    assert sum(trained) == 14_793_984
