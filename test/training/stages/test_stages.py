"""Every registered stage: it trains, freezes, resumes, saves and can be asked for."""

from dataclasses import replace

from click.testing import CliRunner
import cv2
import numpy as np
import pytest
import torch
from tpf_tracker_ros.cli import tpf
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.models import create_model, packaged_weights, register_model
from tpf_tracker_ros.models.checkpoint import load_weights
from tpf_tracker_ros.models.ckd import Ckd
from tpf_tracker_ros.models.sdstrack import SdsTrack, SdsTrackConfig
from tpf_tracker_ros.models.vit_config import VitConfig
from tpf_tracker_ros.training.config import read_config
from tpf_tracker_ros.training.samples.disk import DataConfig
from tpf_tracker_ros.training.samples.world import WorldConfig
from tpf_tracker_ros.training.stage import EXPERIMENTS, register_stage
from tpf_tracker_ros.training.stages import list_stages
from tpf_tracker_ros.training.trainer import Trainer

NUMBERS = {
    'batch': 2, 'warmup': 0, 'learning_rate': 3e-5, 'log_every': 1, 'save_every': 1, 'steps': 3,
    'init_weights': '', 'minutes': 0.0, 'data': [],
    'world': WorldConfig(backgrounds=7, background_size=64, sprites=8),
    'published_labels': False,  # their boxes jump with the best cell
}  # fmt: skip
LITTLE = {'template_size': 32, 'search_size': 64, 'stride': 8, 'dim': 32, 'depth': 2, 'heads': 2,
          'ce_blocks': (0,)}  # fmt: skip

# What a stage needs beside NUMBERS to be trained in a moment.
OWN = {
    'ckd': {'model': 'little_ckd'},
    'ckd_elimination': {'model': 'little_ckd'},
    'sdstrack': {'model': 'little_sdstrack', 'keep_from': 1.0, 'keep_until': 2.0},
    # Every answer of the frozen tracker is a lesson.
    'response': {
        'init_weights': str(packaged_weights('tpf_nano')),
        'init_adapter': '',
        'least_overlap': -1.0,
    },
}
every_stage = pytest.mark.parametrize('name', list_stages())
every_source = pytest.mark.parametrize(
    ('name', 'source'),
    [*((name, 'world') for name in list_stages()),
     *((name, 'disk') for name in ('ckd', 'ckd_elimination', 'sdstrack', 'cmd'))],
)  # fmt: skip


@register_model()
def little_ckd() -> Ckd:
    """Two streams of two blocks."""
    return Ckd(VitConfig(**LITTLE, head_channels=16))


LITTLE_SDSTRACK = SdsTrackConfig(**LITTLE, fusion_blocks=(1,), adapter_dim=8, head_channels=16)


@register_model()
def little_sdstrack() -> SdsTrack:
    """Two blocks for both modalities, the second one with a fusion pass."""
    return SdsTrack(LITTLE_SDSTRACK)


@register_model()
def little_sdstrack_event() -> SdsTrack:
    """As little_sdstrack, for RGB and event images."""
    return SdsTrack(LITTLE_SDSTRACK, second='events')


@pytest.fixture
def trainer_of():
    """Make a stage's trainer, of its default experiment but for NUMBERS and changes."""

    def make(name, folder, **changes):
        entry = list_stages()[name]
        config = read_config(EXPERIMENTS / f'{entry.experiment}.toml', entry.config)
        numbers = {key: value for key, value in NUMBERS.items() if key in vars(config)}
        changes = numbers | OWN.get(name, {}) | changes
        return Trainer(entry.stage, replace(config, **changes), folder)

    return make


@pytest.fixture(scope='module')
def from_disk(tmp_path_factory):
    """Give what makes a trainer learn from a sequence in LasHeR's layout alone."""
    root = tmp_path_factory.mktemp('lasher')
    film = WorldSequence(1, frames=3, size=(160, 128))
    for camera in 'visible', 'infrared':
        (root / 'film' / camera).mkdir(parents=True)
    for index, pair in enumerate(film):
        cv2.imwrite(str(root / f'film/visible/{index:06}.png'), pair.rgb[..., ::-1])
        cv2.imwrite(str(root / f'film/infrared/{index:06}.png'), pair.thermal)
    np.savetxt(root / 'film/init.txt', film.ground_truth, '%g', ',')
    return {'data': [DataConfig('lasher', str(root))], 'world_weight': 0.0}


@every_source
def test_a_batch_is_learned_and_what_is_frozen_stays(
    tmp_path, trainer_of, from_disk, name, source
):
    trainer = trainer_of(name, tmp_path, **(from_disk if source == 'disk' else {}))
    batch = trainer.sample()
    assert batch.seen.any() == hasattr(trainer.world, '_sprites') == (source == 'world')
    trainer.sample = lambda: batch
    stage, frozen = trainer.stage, {}
    stage.draw_dynamic = lambda: True  # the same shapes in each step
    for key, parameter in trainer.network.named_parameters():
        assert parameter.requires_grad == (stage.group(key) != 'frozen'), key
        if not parameter.requires_grad:
            frozen[key] = parameter.clone()
    before = {key: p.clone() for key, p in trainer.network.named_parameters()}
    state, losses = trainer.generator.get_state(), []
    for _ in range(3):
        trainer.generator.set_state(state)  # the same masks in each step
        losses.append(trainer.train(1)['loss'])
    assert losses[-1] < losses[0]
    after = dict(trainer.network.named_parameters())
    for key, value in frozen.items():
        torch.testing.assert_close(after[key].data, value, rtol=0, atol=0, msg=key)
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_a_second_camera_of_another_kind_is_refused(tmp_path, trainer_of, write_sequence):
    def refused(model, dataset, reason, **changes):
        source = {'data': [DataConfig(dataset, str(tmp_path))], 'world_weight': 0.0} | changes
        with pytest.raises(TpfError, match=reason):
            trainer_of('sdstrack', tmp_path, model=model, **source)

    takes_events = 'RGB with {}, but little_sdstrack_event takes events; .*: visevent$'.format
    refused('little_sdstrack_event', 'lasher', takes_events('thermal'))
    refused('little_sdstrack_event', 'depthtrack', takes_events('depth'))
    refused('little_sdstrack', 'visevent', 'events, but little_sdstrack takes thermal; .*: lash')
    world = 'the synthetic world pairs RGB with thermal, .* takes events; set world_weight = 0'
    refused('little_sdstrack_event', 'visevent', world, world_weight=0.5)
    refused('little_sdstrack_event', '', world, data=[])
    write_sequence(tmp_path, 'visevent', 'car')
    source = {'data': [DataConfig('visevent', str(tmp_path))], 'world_weight': 0.0}
    assert trainer_of('sdstrack', tmp_path, model='little_sdstrack_event', **source).sample()


# Steps on one batch, at a rate, in which each of these terms falls: each can be learned.
FALLING = {
    'ckd': (20, 1e-3, 'loss giou l1 score teacher_rgb teacher_tir style content'),
    'ckd_elimination': (10, 1e-3, 'loss giou l1 score'),
    'sdstrack': (20, 1e-3, 'loss l1 score masked distillation'),
    'cmd': (10, 1e-4, 'loss giou l1 score features paths response'),
}


@pytest.mark.parametrize('name', FALLING)
def test_each_loss_falls_on_a_folder_in_lashers_layout(tmp_path, trainer_of, from_disk, name):
    steps, rate, terms = FALLING[name]
    trainer = trainer_of(name, tmp_path, learning_rate=rate, **from_disk)
    batch, state = trainer.sample(), trainer.generator.get_state()
    trainer.sample = lambda: batch
    rows = []
    for _ in range(steps):
        trainer.generator.set_state(state)  # the same masks in each step
        trainer.step = 0  # and the rate, and the candidates, of the first
        rows.append(trainer.train(1))
    for term in terms.split():
        assert rows[-1][term] < rows[0][term], term


@every_source
def test_an_interrupted_run_ends_with_the_same_weights(
    tmp_path, trainer_of, from_disk, name, source
):
    changes = {'steps': 2} | (from_disk if source == 'disk' else {})
    whole = trainer_of(name, tmp_path / 'whole', **changes)
    whole.run()
    first = trainer_of(name, tmp_path / 'parts', **changes)
    first.folder.mkdir()
    first.train(1)
    first.save()
    second = trainer_of(name, tmp_path / 'parts', **changes)
    second.run()
    assert second.step == whole.step == 2
    torch.testing.assert_close(
        second.average.state_dict(), whole.average.state_dict(), rtol=0, atol=0
    )
    plain = create_model(whole.config.model)
    load_weights(plain, tmp_path / 'parts' / f'{whole.config.model}.safetensors')
    head = (tmp_path / 'parts/log.csv').read_text().splitlines()[0]
    assert head == ','.join(('step', *whole.stage.columns, 'pairs_per_s,data_share,minutes'))


@pytest.mark.parametrize('path', sorted(EXPERIMENTS.glob('*.toml')), ids=lambda p: p.stem)
def test_an_experiment_states_only_what_differs(path):
    """It is one of some stage, and no line could be left out."""
    kinds = [entry.config for entry in list_stages().values() if _fits(path, entry.config)]
    lines = path.read_text().partition('[[data]]')[0].splitlines()
    stated = sum(line[:1].islower() for line in lines)
    assert stated in [len(list(_differences(read_config(path, kind), kind()))) for kind in kinds]


def _fits(path, kind):
    try:
        read_config(path, kind)
    except TpfError:
        return False
    return True


def _differences(config, default):
    for key, value in vars(config).items():
        if hasattr(value, '__dataclass_fields__'):
            yield from _differences(value, vars(default)[key])
        elif value != vars(default)[key] and key != 'data':
            yield key


@every_stage
def test_a_stage_is_a_command_whose_help_says_what_it_does(name):
    help_text = CliRunner().invoke(tpf, ['train', name, '--help']).output
    entry = list_stages()[name]
    words = entry.stage.__doc__.split()
    assert ' '.join(words[:4]) in ' '.join(help_text.split())
    assert entry.examples and all(line in help_text for line in entry.examples)
    assert name in CliRunner().invoke(tpf, ['train', '--help']).output


def test_a_stage_that_is_not_there_and_one_that_is_twice():
    result = CliRunner().invoke(tpf, ['train', 'stage3'])
    assert result.exit_code == 2 and "No such command 'stage3'" in result.output
    with pytest.raises(TpfError, match=r"'mad' is registered by .*stages\.mad already"):
        register_stage('mad', config=None, experiment='', examples=())(object)
