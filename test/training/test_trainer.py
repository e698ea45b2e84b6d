import csv
from dataclasses import replace
import os
import subprocess
import sys

import cv2
import pytest
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import packaged_weights
from tpf_tracker_ros.models.checkpoint import read_weights
from tpf_tracker_ros.training.losses.images import DistillConfig
from tpf_tracker_ros.training.samples.world import WorldConfig
from tpf_tracker_ros.training.stages.drf import Drf, DrfConfig
from tpf_tracker_ros.training.stages.supervised import Supervised, SupervisedConfig
from tpf_tracker_ros.training.trainer import first_difference, parameter_groups, Trainer

CONFIG = SupervisedConfig(
    steps=2, batch=2, warmup=2, log_every=1, save_every=1,
    world=WorldConfig(backgrounds=7, background_size=64, sprites=8),
)  # fmt: skip


def test_the_log_is_cut_back_to_the_state_that_is_resumed(tmp_path):
    Trainer(Supervised, CONFIG, tmp_path).run()
    log = tmp_path / 'log.csv'
    log.write_text(log.read_text() + '3,1,1\n4,1,1\n')
    Trainer(Supervised, replace(CONFIG, steps=3), tmp_path).run()
    lines = log.read_text().splitlines()
    assert [line.split(',')[0] for line in lines] == ['step', '1', '2', '3']
    columns = 4 + len(Supervised.columns)
    assert len(lines[0].split(',')) == len(lines[3].split(',')) == columns


def test_a_state_of_another_network_is_refused(tmp_path):
    Trainer(Supervised, CONFIG, tmp_path).run()
    other = Trainer(Supervised, CONFIG, tmp_path)
    other.network = torch.nn.Linear(2, 2)
    with pytest.raises(TpfError, match='of another network or stage'):
        other.run()


def test_accumulated_batches_are_one_step_with_the_mean_gradient(tmp_path):
    training = Trainer(Supervised, replace(CONFIG, accumulate=2, clip=1e9), tmp_path)
    training.train(1)
    accumulated = [p.grad.clone() for p in training.trained if p.grad is not None]
    again = Trainer(Supervised, CONFIG, tmp_path)
    for _ in range(2):
        (again.stage.compute(again.sample())['loss'] / 2).backward()
    expected = [p.grad for p in again.trained if p.grad is not None]
    torch.testing.assert_close(accumulated, expected, rtol=0, atol=0)
    assert training.step == 1


def test_half_precision_trains(tmp_path):
    half = Trainer(Supervised, replace(CONFIG, bf16=True), tmp_path).train(1)
    full = Trainer(Supervised, CONFIG, tmp_path).train(1)
    assert half['loss'] == pytest.approx(full['loss'], rel=0.02) and half['loss'] != full['loss']


def test_training_starts_from_given_weights(tmp_path):
    weights = packaged_weights('tpf_tiny')
    training = Trainer(Supervised, replace(CONFIG, init_weights=str(weights)), tmp_path)
    for key, value in read_weights(weights)[0].items():
        torch.testing.assert_close(training.average.module.state_dict()[key], value)
    with pytest.raises(TpfError, match=r'none\.safetensors does not exist'):
        Trainer(Supervised, replace(CONFIG, init_weights='none.safetensors'), tmp_path)


def test_pictures_of_samples_do_not_change_the_training(tmp_path):
    with_pictures = Trainer(Supervised, replace(CONFIG, picture_every=1), tmp_path)
    with_pictures.train(2)
    picture = cv2.imread(str(tmp_path / 'pictures' / '000002.jpg'))
    assert picture.shape == (2 * 128, 3 * 128, 3) and picture.std() > 10
    without = Trainer(Supervised, CONFIG, tmp_path)
    without.train(2)
    torch.testing.assert_close(
        with_pictures.average.state_dict(), without.average.state_dict(), rtol=0, atol=0
    )


def test_parameter_groups_hold_each_trained_parameter_once(tmp_path):
    config = replace(CONFIG, backbone_rate=0.1, train_adapter=False)
    stage = Trainer(Supervised, config, tmp_path).stage
    model = stage.model
    groups = parameter_groups(stage)
    found = [id(p) for group in groups for p in group['params']]
    assert sorted(found) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    backbone = {id(p) for p in model.backbone.parameters()}
    for group in groups:
        assert {id(p) in backbone for p in group['params']} == {group['scale'] == 0.1}
        assert {p.ndim > 1 for p in group['params']} == {group['weight_decay'] > 0}


@pytest.mark.parametrize(
    ('changes', 'rule'),
    [
        ({'batch': 4}, 'with batch = 2, but now batch = 4; restore it or give another folder'),
        ({'model': 'tpf_small'}, "with model = 'tpf_tiny', but now model = 'tpf_small'"),
        ({'world': replace(CONFIG.world, sprites=9)}, 'world.sprites = 8, but now world.sprites'),
        ({'fusion': DistillConfig(['laplacian'])}, r"fusion.experts = \['laplacian', 'guided'"),
        ({'seed': 1, 'steps': 9}, 'with seed = 0, but now seed = 1'),
    ],
)
def test_a_state_of_another_experiment_is_refused(tmp_path, changes, rule):
    training = Trainer(Supervised, CONFIG, tmp_path)
    training.save()
    training.config = replace(CONFIG, **changes)
    with pytest.raises(TpfError, match=rule) as caught:
        training._resume()
    assert '\n' not in str(caught.value)


def test_a_run_may_go_on_longer_and_log_otherwise(tmp_path):
    training = Trainer(Supervised, CONFIG, tmp_path)
    training.save()
    training.config = replace(CONFIG, steps=9, log_every=3, save_every=4, picture_every=2)
    training._resume()


def test_a_run_stops_in_time_and_goes_on_from_a_state_elsewhere(tmp_path):
    training = Trainer(Supervised, replace(CONFIG, steps=400), tmp_path / 'first')
    training.run(stop_after=1e-3)
    assert 0 < training.step < 400
    state = tmp_path / 'first/state.pt'
    assert (tmp_path / 'first/tpf_tiny.safetensors').is_file()
    steps = training.step + 1
    again = Trainer(Supervised, replace(CONFIG, steps=steps), tmp_path / 'second')
    again.run(state=state)
    rows = list(csv.DictReader((tmp_path / 'second/log.csv').open()))
    assert [int(row['step']) for row in rows] == [steps]
    with pytest.raises(TpfError, match=r'none\.pt does not exist'):
        Trainer(Supervised, CONFIG, tmp_path / 'third').run(state=tmp_path / 'none.pt')


def test_with_minutes_the_clock_ends_the_run_and_lowers_the_rate(tmp_path):
    config = replace(CONFIG, minutes=0.05, steps=1, save_seconds=1e-3, save_every=10**6)
    training = Trainer(Supervised, config, tmp_path)
    training.run()
    assert training.step > 2
    assert training.optimizer.param_groups[0]['lr'] < 0.5 * config.learning_rate
    rows = list(csv.DictReader((tmp_path / 'log.csv').open()))
    assert 0.05 <= float(rows[-1]['minutes']) < 0.2
    assert torch.load(tmp_path / 'state.pt', weights_only=True)['step'] == training.step


def test_the_first_difference_is_named_by_its_place():
    now = {'a': 1, 'new': 2, 'data': [{'root': 'x', 'weight': 1.0}, {'root': 'y'}]}
    assert first_difference({'a': 1, 'gone': 3}, now) is None
    before = {'data': [{'root': 'x', 'weight': 1.0}, {'root': 'z'}]}
    assert first_difference(before, now) == ('data[1].root', 'z', 'y')
    assert first_difference({'data': []}, now) == ('data', [], now['data'])


def test_scalars_arrive_in_tensorboard(tmp_path):
    pytest.importorskip('tensorboard', reason='TensorBoard is optional: pip install tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Trainer(Supervised, CONFIG, tmp_path).run()
    events = EventAccumulator(str(tmp_path)).Reload()
    rows = list(csv.DictReader((tmp_path / 'log.csv').open()))
    assert {'loss', 'iou', 'pairs_per_s', 'data_share'} < set(events.Tags()['scalars'])
    for name in 'loss', 'data_share':
        logged = [(each.step, each.value) for each in events.Scalars(name)]
        assert logged == [
            (int(row['step']), pytest.approx(float(row[name]), rel=1e-6)) for row in rows
        ]


SCRIPT = """
import sys, torch
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, 'test/training')
from test_trainer import CONFIG, Drf, DrfConfig, Trainer
torch.set_num_threads(1)
folder = Path(sys.argv[1])
for out, steps in ('parts', 1), ('parts', 2), ('whole', 2):
    config = DrfConfig(**(vars(CONFIG) | {'batch': 1, 'steps': steps, 'warmup': 9}))
    trainer = Trainer(Drf, config, folder / out)
    trainer.run()
torch.save([p.detach() for p in trainer.trained], folder / f'{trainer.ranks.rank}.pt')
"""


def test_two_processes_train_one_network_and_resume_to_the_same_bits(tmp_path):
    """DRF, because it reads the running statistics, of which only the first's are saved."""
    (tmp_path / 'train.py').write_text(SCRIPT)
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2',
               '--standalone', str(tmp_path / 'train.py'), str(tmp_path)]  # fmt: skip
    env = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.getcwd()}
    subprocess.run(command, check=True, env=env, capture_output=True, timeout=240)
    one, other = (torch.load(tmp_path / f'{rank}.pt') for rank in (0, 1))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    parts, whole = (
        torch.load(tmp_path / out / 'state.pt', weights_only=True) for out in ('parts', 'whole')
    )
    assert parts['step'] == whole['step'] == 2 and len(parts['generator']) == 2
    for part in 'model', 'average', 'optimizer', 'generator', 'host_generator':
        torch.testing.assert_close(parts[part], whole[part], rtol=0, atol=0, msg=part)
    rows = [line.split(',')[0] for line in (tmp_path / 'parts/log.csv').read_text().splitlines()]
    assert rows == ['step', '1', '2']  # one process writes
    config = DrfConfig(**(vars(CONFIG) | {'batch': 1, 'warmup': 9}))
    alone = Trainer(Drf, config, tmp_path / 'alone')
    alone.train(2)
    assert any(not torch.equal(a, b) for a, b in zip(one, alone.trained))
    with pytest.raises(TpfError, match='of 2 processes but 1 are running'):
        Trainer(Drf, config, tmp_path / 'whole').run()
