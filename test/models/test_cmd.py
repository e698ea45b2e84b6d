from formula import find, small_crops
import torch
from tpf_tracker_ros.models import create_model
from tpf_tracker_ros.models.cmd import Cmd, CmdConfig
from tpf_tracker_ros.models.layers.vit import set_keep

SMALL = CmdConfig(
    template_size=32, search_size=64, stride=8, dim=32, depth=4, heads=2, ce_blocks=(1, 2),
    head_channels=64,
)  # fmt: skip


def test_the_student_is_smaller_than_the_papers():
    with torch.device('meta'):
        sizes = {
            name: sum(p.numel() for p in create_model(name).parameters())
            for name in ('cmd_small', 'cmd_tiny')
        }
    assert sizes == {'cmd_small': 13_057_861, 'cmd_tiny': 684_030}


@torch.inference_mode()
def test_untrained_the_modalities_count_alike():
    torch.manual_seed(0)
    network, (z_rgb, z_thermal, x_rgb, x_thermal) = Cmd(SMALL).eval(), small_crops()
    maps = find(network, (z_rgb, z_thermal, x_rgb, x_thermal))
    swapped = find(network, (z_thermal, z_rgb, x_thermal, x_rgb))
    torch.testing.assert_close(maps.score, swapped.score)
    network.modality[0].normal_()
    assert not torch.allclose(
        find(network, (z_rgb, z_thermal, x_rgb, x_thermal)).score, maps.score
    )


@torch.inference_mode()
def test_both_modalities_keep_the_same_candidates():
    torch.manual_seed(0)
    network, images = Cmd(SMALL).eval(), small_crops()
    taps = []
    z, x = network.embed(*images[:2]), network.embed(*images[2:])
    features = network.features(z, x, taps=taps)
    assert [rgb.shape[1] for rgb, _ in taps] == [80, 61, 48, 48]  # 16 of the template
    alive = features.abs().amax(1).flatten(1) > 0
    assert alive.sum(1).tolist() == [32, 32]
    torch.testing.assert_close(features, network.features(z, x))
    set_keep(network, 1)
    assert (network.features(z, x).abs().amax(1) > 0).all()


def test_a_convolutional_stem_tells_in_training_what_it_matches():
    network = create_model('cmd_tiny')
    images = [torch.randn(2, 3, size, size) for size in (64, 64, 128, 128)]
    maps = find(network.train(), images, templates=2)
    assert maps.similarity.shape == (2, 256, 128)
    z, x = network.embed(*images[:2]), network.embed(*images[2:])
    correlation = network.backbone.correlation
    each = [correlation.similarity(a, b) for a, b in zip(z.chunk(2, -1), x.chunk(2, -1))]
    torch.testing.assert_close(maps.similarity[..., :64], sum(each) / 2)
    assert find(network.eval(), images).similarity is None
