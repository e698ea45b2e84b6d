from dataclasses import replace

import pytest
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import create_model, packaged_weights
from tpf_tracker_ros.models.checkpoint import read_weights, save_weights
from tpf_tracker_ros.training.config import read_config
from tpf_tracker_ros.training.losses.images import DistillConfig
from tpf_tracker_ros.training.samples.world import WorldConfig
from tpf_tracker_ros.training.stages.supervised import Supervised, SupervisedConfig
from tpf_tracker_ros.training.trainer import Trainer

CONFIG = SupervisedConfig(
    steps=6, batch=2, warmup=2, log_every=2, save_every=1,
    world=WorldConfig(backgrounds=7, background_size=64, sprites=8),
)  # fmt: skip


@pytest.mark.parametrize(
    ('text', 'rule'),
    [
        ('stepz = 3', "unknown key 'stepz'"),
        ('[world]\nobjectz = 3', r"\[world\]: unknown key 'objectz'"),
        ('steps = "many"', "steps is 'many', of type str; it must be of type int"),
        ('steps = 1.5', 'it must be of type int'),
        ('world = 3', 'it must be of type WorldConfig'),
        ('steps = ', 'not valid TOML'),
        ('log_every = 0', 'bad.toml: log_every is 0; it must be at least 1'),
        ('clip = 0.0', 'clip is 0.0; it must be above 0'),
        ('ema = 1.0', 'ema is 1.0; it must be at least 0 and below 1'),
        ('[world]\nobjects = 1', r'\[world\]: objects is 1; it must be at least 2'),
        (
            '[world.sensors]\ndark_share = 1.5',
            'dark_share is 1.5; a share lies in 0..1',
        ),
    ],
)
def test_a_bad_experiment_is_refused(tmp_path, text, rule):
    path = tmp_path / 'bad.toml'
    path.write_text(text)
    with pytest.raises(TpfError, match=rule):
        read_config(path, SupervisedConfig)


def test_a_batch_without_any_target_in_view_has_a_finite_loss(tmp_path):
    config = replace(CONFIG, world=replace(CONFIG.world, absent_share=1.0))
    training = Trainer(Supervised, config, tmp_path)
    terms = training.stage.compute(
        training.world.sample(2, template_size=64, search_size=128, grid_z=8)
    )
    assert terms['giou'] == 0 and torch.isfinite(terms['loss'])


@pytest.mark.parametrize('adapter', ['', 'fresh', 'file'])
def test_backbone_and_adapter_can_come_from_two_files(tmp_path, adapter):
    weights = packaged_weights('tpf_tiny')
    other = create_model('tpf_tiny')
    torch.nn.init.constant_(other.pfa.out.weight, 0.5)
    save_weights(other, tmp_path / 'other.safetensors')
    chosen = str(tmp_path / 'other.safetensors') if adapter == 'file' else adapter
    config = replace(CONFIG, init_weights=str(weights), init_adapter=chosen)
    state = Trainer(Supervised, config, tmp_path).stage.model.state_dict()
    packaged = read_weights(weights)[0]
    torch.testing.assert_close(
        state['box_head.conv1_ctr.0.weight'], packaged['box_head.conv1_ctr.0.weight']
    )
    expected = {'': packaged['pfa.out.weight'], 'fresh': 0, 'file': 0.5}[adapter]
    assert (state['pfa.out.weight'] == expected).all()


def test_an_adapter_that_is_not_trained_stays(tmp_path):
    training = Trainer(Supervised, replace(CONFIG, train_adapter=False), tmp_path)
    training.train(1)
    assert (training.stage.model.pfa.out.weight == 0).all()


def test_experts_go_on_teaching_the_adapter_where_that_has_a_weight(tmp_path):
    config = replace(
        CONFIG,
        learning_rate=1e-2,
        warmup=1,
        fusion_share=1.0,
        fusion=DistillConfig(experts=['laplacian']),
    )
    ends = []
    for weight in (0.0, 100.0):
        training = Trainer(
            Supervised, replace(config, fusion_weight=weight), tmp_path / str(weight)
        )
        batch = training.sample()
        training.train(4)
        judge = Trainer(Supervised, replace(config, fusion_weight=1.0), tmp_path)
        judge.stage.model.load_state_dict(training.stage.model.state_dict())
        ends.append(judge.stage.compute(batch)['fusion'].item())
    assert ends[1] < ends[0]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_batch(tmp_path):
    training = Trainer(Supervised, CONFIG, tmp_path)
    with torch.no_grad():
        training.stage.model.box_head.conv5_ctr.bias.fill_(float('nan'))
    with pytest.raises(TpfError, match='loss is not finite at step 0'):
        training.train(1)
    assert (tmp_path / 'nan_batch.pt').is_file()
