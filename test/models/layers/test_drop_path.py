import torch
from tpf_tracker_ros.models.layers.vit import set_drop_path
from tpf_tracker_ros.models.sdstrack import SdsTrack, SdsTrackConfig

LITTLE = SdsTrackConfig(
    template_size=32, search_size=64, stride=8, dim=32, depth=3, heads=2, ce_blocks=(),
    fusion_blocks=(2,), adapter_dim=8, head_channels=16,
)  # fmt: skip


def test_residuals_are_dropped_in_training_alone_and_most_in_the_last_block():
    network = SdsTrack(LITTLE)
    set_drop_path(network, 0.4, torch.Generator().manual_seed(0))
    layers = [block.drop_path for block in network.backbone.blocks]
    assert [round(layer.share, 6) for layer in layers] == [0.0, 0.2, 0.4]
    ones = torch.ones(4000, 2, 3)
    assert torch.equal(layers[0].train()(ones), ones)
    dropped = layers[2].train()(ones)[:, 0, 0]
    assert set(dropped.tolist()) == {0.0, dropped.max().item()}
    assert abs(dropped.mean() - 1) < 0.05  # what is left makes up for it
    assert torch.equal(layers[2].eval()(ones), ones)


def test_of_all_residuals_that_of_rgb_behind_its_mlp_stays():
    block, x = SdsTrack(LITTLE).backbone.blocks[2], torch.randn(4, 5, 32)
    whole = block.transform(x)
    block.drop_path.share, block.drop_path.draw = 0.5, lambda count: torch.zeros(count, 1, 1)
    dropped = block.transform(x)
    torch.testing.assert_close(dropped[:2], whole[:2])
    torch.testing.assert_close(dropped[2:], x[2:])
    torch.testing.assert_close(block.attend(x)[0], x)
