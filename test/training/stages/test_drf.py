from dataclasses import replace
import math

import pytest
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import create_model, packaged_weights
from tpf_tracker_ros.models.checkpoint import load_weights
from tpf_tracker_ros.models.tpf import Tpf, TpfConfig
from tpf_tracker_ros.training.samples.world import WorldConfig
from tpf_tracker_ros.training.stages.drf import (
    Drf,
    DrfConfig,
    fold,
    orthogonality,
    Projection,
    uninformative,
)
from tpf_tracker_ros.training.trainer import Trainer

CONFIG = DrfConfig(
    init_weights=str(packaged_weights('tpf_tiny')),
    steps=2, batch=2, warmup=1, log_every=1, save_every=1,
    world=WorldConfig(backgrounds=7, background_size=64, sprites=8),
)  # fmt: skip


def small(**changes: object) -> Tpf:
    torch.manual_seed(0)
    config = TpfConfig(
        template_size=32,
        search_size=64,
        stride=8,
        dim=32,
        depth=4,
        heads=2,
        head_channels=16,
        pfa_channels=4,
        pfa_state=2,
        pfa_stride=4,
    )
    return Tpf(replace(config, **changes)).eval()


@pytest.mark.parametrize(
    'form', [{'stem': 'conv', 'ce_blocks': ()}, {'ce_blocks': (1, 2)}], ids=['conv', 'pruning']
)
@torch.no_grad()
def test_the_folded_network_gives_the_same_maps_and_has_no_parameter_more(form):
    """Also at the border and at pruned tokens, where the head reads zeros."""
    model, relevant = small(**form), Projection(32)
    torch.nn.init.orthogonal_(relevant.weight)
    for layer in model.box_head.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    templates, search = torch.randn(2, 1, 16, 32), torch.randn(2, 3, 64, 64)
    expected = model.box_head(relevant(model.features(templates, search)[0]))
    folded = fold(model, relevant)
    maps = folded(templates, search)
    for found, wanted in zip((maps.score, maps.size, maps.offset), expected):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert (expected[1] - model(templates, search).size).abs().max() > 0.05
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    assert {key: value.shape for key, value in folded.state_dict().items()} == shapes


def test_training_starts_where_its_weights_were_and_moves_all_parts(tmp_path):
    training = Trainer(Drf, CONFIG, tmp_path)
    given = {key: value.clone() for key, value in training.stage.model.state_dict().items()}
    for key, value in training.stage.finished(training.network).state_dict().items():
        torch.testing.assert_close(value, given[key], msg=key)
    before = {key: value.clone() for key, value in training.network.named_parameters()}
    training.train(2)
    for part in ('relevant.', 'irrelevant.', 'model.pfa.', 'model.backbone.', 'model.box_head.'):
        assert any(
            not torch.equal(value, before[key])
            for key, value in training.network.named_parameters()
            if key.startswith(part)
        ), part


def test_the_saved_weights_are_those_of_the_plain_network(tmp_path):
    training = Trainer(Drf, CONFIG, tmp_path)
    training.run()
    plain = create_model('tpf_tiny')
    load_weights(plain, tmp_path / 'tpf_tiny.safetensors')
    batch = training.sample()
    network = training.average.module.eval()
    template, search = (batch.rgb[view] - 0.5 for view in (0, 2))
    with torch.no_grad():
        templates = network['model'].template(template)[:, None]
        features, _ = network['model'].features(templates, search)
        expected, _, _ = network['model'].box_head(network['relevant'](features))
        found = plain.eval()(templates, search).score
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    head = (tmp_path / 'log.csv').read_text().splitlines()[0]
    assert 'fusion,orthogonality,reconstruction,uninformative' in head


def test_orthogonality_of_known_features():
    a, b = torch.zeros(2, 1, 2, 3, 3)
    a[:, 0], b[:, 1] = 1, 5
    assert orthogonality(a, b) == 0
    assert orthogonality(a, -2 * a).item() == pytest.approx(1)
    assert orthogonality(a, a + b / 5).item() == pytest.approx(0.5)


def test_a_map_is_uninformative_when_it_is_flat_and_the_head_learns_nothing_from_it():
    head = small(stem='conv', ce_blocks=()).box_head
    statistics = head.conv1_ctr[1].running_mean.clone()
    features = torch.randn(2, 32, 8, 8, requires_grad=True)
    head.train()
    uninformative(head, features).backward()
    assert head.training and torch.equal(head.conv1_ctr[1].running_mean, statistics)
    assert all(p.grad is None for p in head.parameters())
    assert features.grad.abs().max() > 0

    class Peak(torch.nn.Module):
        def forward(self, scores):
            return scores, None, None

    flat = torch.full((1, 1, 2, 2), 0.3)
    assert uninformative(Peak(), flat).item() == pytest.approx(0, abs=1e-6)
    peak = torch.tensor([[[[0.8, 0.1], [0.05, 0.05]]]])
    wanted = sum(0.25 * math.log(0.25 / p) for p in (0.8, 0.1, 0.05, 0.05))
    assert uninformative(Peak(), peak).item() == pytest.approx(wanted, rel=1e-4)


def test_a_projector_of_fixed_rank_leaves_neither_part_empty(tmp_path):
    training = Trainer(Drf, replace(CONFIG, relevant_rank=72), tmp_path)
    assert set(training.network) == {'model', 'relevant'}
    start = training.network['relevant'].weight.detach().clone()
    row = training.train(2)
    assert row['orthogonality'] < 1e-4 and row['reconstruction'] < 1e-6
    weight = training.network['relevant'].weight.detach()
    assert not torch.equal(weight, start)
    torch.testing.assert_close(weight @ weight, weight, atol=1e-5, rtol=0)
    assert torch.linalg.matrix_rank(weight, tol=1e-3) == 72
    # It starts on what the head reads most.
    kernels = [m[0].weight for m in (training.stage.model.box_head.conv1_ctr,)]
    read = torch.cat([k.detach().flatten(2).permute(0, 2, 1).flatten(0, 1) for k in kernels])
    assert (read @ start).norm() > 0.9 * read.norm()


def test_a_projector_without_a_rest_is_refused():
    with pytest.raises(TpfError, match='relevant_rank is 96'):
        Drf(replace(CONFIG, relevant_rank=96), torch.Generator(), torch.Generator())
