from dataclasses import replace

import pytest
from safetensors.torch import load_file
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import create_model
from tpf_tracker_ros.training.config import read_config
from tpf_tracker_ros.training.losses.images import distances, quality, ssim
from tpf_tracker_ros.training.samples.world import WorldConfig
from tpf_tracker_ros.training.stages.mad import Mad, MadConfig
from tpf_tracker_ros.training.stages.supervised import Supervised, SupervisedConfig
from tpf_tracker_ros.training.trainer import Trainer

CONFIG = MadConfig(
    steps=2, batch=2, warmup=1, log_every=1, save_every=1,
    world=WorldConfig(backgrounds=7, background_size=64, sprites=8),
)  # fmt: skip


def test_equal_images_are_at_no_distance_and_others_are():
    image = torch.rand(3, 3, 32, 32)
    for name, term in distances(image, image).items():
        torch.testing.assert_close(term, torch.zeros(3), atol=1e-5, rtol=0, msg=name)
    tinted = image + torch.tensor([0.114, 0, -0.299]).view(3, 1, 1)  # of the same luminance
    moved = distances(tinted, image)
    assert moved['pixel'].max() < 1e-6 < 0.1 < moved['colour'].min()
    assert distances(image.flip(3), image)['ssim'].min() > 0.5


def test_ssim_of_opposite_contrast_is_negative():
    image = torch.rand(1, 1, 32, 32)
    assert ssim(image, image).item() == pytest.approx(1, abs=1e-5)
    assert ssim(image, 1 - image).item() < -0.5


def test_quality_prefers_detail_over_haze():
    image = torch.rand(2, 3, 32, 32)
    assert (quality(image) > quality(0.5 + 0.3 * (image - 0.5)) + 0.5).all()


@pytest.mark.parametrize('weighting', ['uniform', 'quality', 'gate', 'tracker'])
def test_weights_are_shares_of_each_image(tmp_path, weighting):
    config = replace(CONFIG, weighting=weighting)
    training = Trainer(Mad, config, tmp_path)
    batch = training.sample()
    rgb, thermal = batch.rgb[2], batch.thermal[2]
    taught = torch.stack([expert(rgb, thermal) for expert in training.stage.experts], 1)
    weights = training.stage.weigh(batch, taught)
    assert weights.shape == (2, 3)
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    even = weights.allclose(torch.full((2, 3), 1 / 3))
    assert even == (weighting in ('uniform', 'gate'))  # a gate starts undecided


def test_a_gate_learns(tmp_path):
    training = Trainer(Mad, replace(CONFIG, weighting='gate'), tmp_path)
    training.train(1)
    assert training.network['gate'].layers[-1].weight.abs().max() > 0


def test_the_adapter_comes_closer_to_its_expert_and_the_rest_stays(tmp_path):
    config = replace(CONFIG, experts=['guided'], steps=30, learning_rate=3e-3)
    training = Trainer(Mad, config, tmp_path)
    batch, before = training.sample(), training.stage.model.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    far = training.stage.compute(batch)['loss']
    training.sample = lambda: batch
    row = training.train(30)
    assert training.stage.compute(batch)['loss'] < 0.8 * far
    assert row['a_guided'] == 1
    for key, value in training.stage.model.state_dict().items():
        if not key.startswith('pfa.'):
            torch.testing.assert_close(value, before[key], rtol=0, atol=0, msg=key)


def test_the_weights_are_those_of_the_plain_network_and_the_next_stage_starts_from_them(tmp_path):
    Trainer(Mad, replace(CONFIG, weighting='gate', picture_every=2), tmp_path).run()
    weights = load_file(tmp_path / 'tpf_tiny.safetensors')
    assert weights.keys() == create_model('tpf_tiny').state_dict().keys()
    assert (tmp_path / 'pictures' / '000002.jpg').is_file()
    head = (tmp_path / 'log.csv').read_text().splitlines()[0]
    assert 'a_laplacian,a_guided,a_saliency' in head
    path = str(tmp_path / 'tpf_tiny.safetensors')
    config = SupervisedConfig(init_weights=path, world=CONFIG.world)
    following = Trainer(Supervised, config, tmp_path / 'next')
    torch.testing.assert_close(
        following.stage.model.pfa.out.weight.data, weights['pfa.out.weight']
    )


def test_half_precision_trains(tmp_path):
    half = Trainer(Mad, replace(CONFIG, bf16=True), tmp_path).train(1)
    full = Trainer(Mad, CONFIG, tmp_path).train(1)
    assert half['loss'] == pytest.approx(full['loss'], rel=0.02)


@pytest.mark.parametrize(
    ('changes', 'rule'),
    [
        ({'experts': []}, 'experts is empty'),
        ({'experts': ['gan']}, "unknown expert 'gan'"),
        ({'weighting': 'best'}, "weighting 'best' is none of uniform, quality, gate, tracker"),
        ({'weighting': 'tracker', 'model': 'tpf_base'}, 'tracker_weights is empty'),
    ],
)
def test_a_bad_experiment_is_refused(tmp_path, changes, rule):
    with pytest.raises(TpfError, match=rule):
        Trainer(Mad, replace(CONFIG, **changes), tmp_path)


def test_a_list_of_a_wrong_type_is_refused(tmp_path):
    path = tmp_path / 'bad.toml'
    for value in ('"guided"', '[3]'):
        path.write_text(f'experts = {value}')
        with pytest.raises(TpfError, match=r'it must be of type list\[str\]'):
            read_config(path, MadConfig)
