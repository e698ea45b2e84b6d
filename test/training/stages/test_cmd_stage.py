from dataclasses import replace

import pytest
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import create_model, packaged_weights
from tpf_tracker_ros.models.checkpoint import load_model, read_weights
from tpf_tracker_ros.training.losses.tracking import keep_templates, merge_view
from tpf_tracker_ros.training.samples.world import INITIAL, SEARCH, WorldConfig
from tpf_tracker_ros.training.stages.cmd import CmdStage, CmdStageConfig
from tpf_tracker_ros.training.teachers import load_teacher
from tpf_tracker_ros.training.trainer import Trainer

CONFIG = CmdStageConfig(
    steps=2, batch=2, warmup=0, log_every=1, save_every=1,
    world=WorldConfig(backgrounds=7, background_size=64, sprites=8),
)  # fmt: skip


@pytest.fixture(scope='module')
def trainer(tmp_path_factory):
    return Trainer(CmdStage, CONFIG, tmp_path_factory.mktemp('run'))


@pytest.fixture(scope='module')
def batch(trainer):
    return trainer.sample()


def test_a_fusing_teacher_walks_three_paths(trainer, batch):
    stage, plain = trainer.stage, load_model('tpf_tiny')
    template, search = (
        [plain.normalization.apply(images[view]) for images in (batch.rgb, batch.thermal)]
        for view in (INITIAL, SEARCH)
    )
    with torch.no_grad():
        lesson = stage.teacher(template, search)
        blank = stage.teacher(*([crops[0], crops[1] * 0] for crops in (template, search)))
        kept = keep_templates(plain.eval(), batch, dynamic=False)
        alone = plain(kept, merge_view(plain, batch, SEARCH))
    torch.testing.assert_close(lesson.maps[2].score, alone.score, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(blank.maps[0].score, lesson.maps[0].score, atol=1e-5, rtol=1e-4)
    for part in 1, 2:  # what thermal or both say follows the thermal image
        assert not torch.allclose(blank.features[part], lesson.features[part], atol=1e-2)
    assert len(lesson.taps) == 3 and lesson.taps[0][0].shape == (2, 64 + 256, 96)
    torch.testing.assert_close(blank.taps[2][0], lesson.taps[2][0], atol=1e-4, rtol=1e-4)


def test_the_teacher_sees_sound_cameras_and_the_student_what_is_left(trainer, batch):
    dark = replace(batch, rgb=tuple(image * 0 for image in batch.rgb))
    taught, again = (trainer.stage.teach(each) for each in (batch, dark))
    torch.testing.assert_close(again.maps[2].score, taught.maps[2].score)
    without = trainer.stage.teach(replace(dark, sound_views=None))
    assert not torch.allclose(without.maps[2].score, taught.maps[2].score, atol=1e-3)


def test_a_weight_of_zero_leaves_a_term_out(trainer, batch):
    stage = trainer.stage
    stage.begin_step(1.0)
    assert stage.compute(batch)['features'] == 0  # tokens are eliminated now
    stage.begin_step(0.0)
    full = stage.compute(batch)
    terms = ('features', 'paths', 'response')
    assert all(full[name] > 0 for name in terms)
    none, every = (
        stage.compute(replace(batch, sound=torch.full((2,), sound)))['features']
        for sound in (False, True)
    )
    assert none <= full['features'] < 2.2  # 1.73: unrelated; none: what is common
    assert none < 0.6 * every < 0.6 * 2.2
    stage.config = replace(CONFIG, feature_weight=0.0, path_weight=0.0, response_weight=0.0)
    try:
        tracking = stage.compute(batch)['loss']
    finally:
        stage.config = CONFIG
    assert tracking < full['loss']


def test_a_student_that_starts_from_its_teacher_has_its_features(tmp_path, batch):
    weights = packaged_weights('tpf_tiny')
    stage = Trainer(CmdStage, replace(CONFIG, init_weights=str(weights)), tmp_path).stage
    given, fresh = read_weights(weights)[0], create_model('cmd_tiny').state_dict()
    for key, value in stage.model.state_dict().items():
        expected = fresh[key] if key.startswith(('fusion.', 'modality')) else given[key]
        torch.testing.assert_close(value, expected, rtol=0, atol=0, msg=key)
    stage.begin_step(0.0)
    sound = replace(batch, rgb=batch.sound_views.rgb, thermal=batch.sound_views.thermal)
    assert stage.compute(sound)['features'] < 0.15  # 1.73: unrelated


@pytest.mark.parametrize(
    ('changes', 'rule'),
    [
        ({'paths': ['rgb', 'depth']}, r"paths is \['rgb', 'depth'\]; choose some of rgb, thermal"),
        ({'model': 'tpf_tiny'}, "'tpf_tiny' is no CMD network"),
        ({'teacher': 'sdstrack'}, "'sdstrack' cannot teach"),
        ({'teacher': 'ckd_small'}, 'give the state.pt of a tpf train ckd run'),
        ({'model': 'cmd_small'}, "teacher 'tpf_tiny' sees other crops than 'cmd_small'"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, changes, rule):
    with pytest.raises(TpfError, match=rule) as caught:
        Trainer(CmdStage, replace(CONFIG, **changes), tmp_path)
    assert '\n' not in str(caught.value)


def test_a_file_that_is_no_state_of_ckd_is_refused(tmp_path):
    path = tmp_path / 'state.pt'
    torch.save({'model': {}}, path)
    with pytest.raises(TpfError, match=r'is no state\.pt of tpf train ckd'):
        load_teacher('ckd_small', str(path))
