import torch
from tpf_tracker_ros.training.samples.world import SEARCH, WorldConfig
from tpf_tracker_ros.training.stages.distil import Distil, DistilConfig
from tpf_tracker_ros.training.trainer import Trainer


def training(tmp_path, **changes) -> Trainer:
    torch.manual_seed(0)
    config = DistilConfig(
        batch=2, warmup=1, train_adapter=False,
        world=WorldConfig(backgrounds=7, background_size=64, sprites=8), **changes,
    )  # fmt: skip
    return Trainer(Distil, config, tmp_path / 'run')


def test_the_features_of_the_teacher_are_learned_and_do_not_ship(tmp_path):
    run = training(
        tmp_path, steps=12, log_every=4, learning_rate=3e-3, feature_weight=20.0, ema=0.5
    )
    before = {key: value.clone() for key, value in run.stage.teacher.state_dict().items()}
    run.run()
    lines = (tmp_path / 'run/log.csv').read_text().splitlines()
    at = lines[0].split(',').index('feature')
    first, *_, last = (float(line.split(',')[at]) for line in lines[1:])
    assert last < first - 0.05
    for key, value in run.stage.teacher.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0, msg=key)
    finished = run.stage.finished(run.average.module)
    assert finished is run.average.module['model']


def test_the_teacher_is_asked_where_the_tokens_look(tmp_path):
    run = training(tmp_path)
    run.stage.teacher = lambda image: (
        image[..., ::16, ::16] / 255
    )  # the pixel that a token starts at
    batch = run.world.sample(2, **run._views())
    ramp = ((torch.arange(128) + 0.5) / 128).expand(2, 3, 128, 128)
    for images in (batch.rgb, batch.thermal):
        images[SEARCH].copy_(ramp)
    taught = run.stage._teach(batch, SEARCH)  # (2, 256, 3), row by row
    expected = torch.arange(16) * 8 / 128
    torch.testing.assert_close(taught[0, 16:31, 0], expected[:15], rtol=0, atol=0.01)


def test_samples_in_which_a_camera_fails_are_not_asked_for(tmp_path):
    run = training(tmp_path)
    batch = run.world.sample(4, **run._views())
    batch.sound.fill_(False)
    terms = run.stage.compute(batch)
    assert terms['feature'] == 0 and terms['relation'] == 0 and terms['loss'] > 0
