from dataclasses import replace

import pytest
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import packaged_weights
from tpf_tracker_ros.training.samples.sensors import SensorConfig
from tpf_tracker_ros.training.samples.world import INITIAL, SEARCH, Views, WorldConfig
from tpf_tracker_ros.training.stages.response import divergence, Response, ResponseConfig
from tpf_tracker_ros.training.trainer import Trainer


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    config = ResponseConfig(
        init_weights=str(packaged_weights('tpf_nano')), batch=2, warmup=1,
        world=WorldConfig(
            backgrounds=7, background_size=64, sprites=8, absent_share=0.0, lured_share=0.0,
            sensors=SensorConfig(sound_share=1.0, noise=0.0),
        ),
    )  # fmt: skip
    return Trainer(Response, config, tmp_path_factory.mktemp('response'))


@pytest.fixture(scope='module')
def batch(run):
    return run.world.sample(2, **run._views())


def test_the_path_that_finds_the_target_teaches(run, batch):
    """With thermal an empty image the answer is that on RGB, and the other way round."""
    sound = batch.sound_views
    empty = tuple(torch.full_like(view, 0.5) for view in sound.rgb)
    for views, shown in (
        (Views(sound.rgb, empty), sound.rgb),
        (Views(empty, sound.rgb), sound.rgb),
    ):
        lesson, _ = run.stage.teach(replace(batch, sound_views=views))
        normalize = run.stage.model.normalization.apply
        with torch.no_grad():
            alone = run.stage.answer(normalize(shown[INITIAL]), normalize(shown[SEARCH]))
        nearer = (lesson.maps.score - alone.maps.score).abs().flatten(1).amax(1)
        assert nearer.min() < 1e-5


def test_two_equal_sound_images_have_nothing_to_learn(run, batch):
    """The adapter is the identity there, and the answer the teacher's but for distractors."""
    views = Views(batch.sound_views.rgb, batch.sound_views.rgb)
    same = replace(batch, rgb=views.rgb, thermal=views.thermal, sound_views=views)
    terms = run.stage.compute(same)
    assert terms['feature'].abs() < 1e-4 and terms['box'] < 1e-4


def test_what_the_teacher_sees_off_the_target_is_not_asked_for(run, batch):
    grid = run.stage.model.crops.search_grid
    box = torch.tensor([[0.5, 0.5, 0.2, 0.1]])
    cells = run.stage.cells_of(box)[0, 0]
    # Cells are 16 px apart, from the middle of 255 px; the box is 51 x 25.5 px.
    rows, columns = cells.nonzero().unbind(1)
    assert cells[grid // 2, grid // 2] == 1
    assert (rows.min(), rows.max()) == (6, 8) and (columns.min(), columns.max()) == (5, 9)
    there = run.stage.cells_of(batch.box)
    score = torch.full_like(there, 0.9)
    assert divergence(score, (score * there).clamp(1e-4)).min() > 0
    torch.testing.assert_close(divergence(score, score), torch.zeros(2))


def test_where_the_teacher_errs_nothing_is_learned(run, batch):
    away = replace(batch, box=batch.box + torch.tensor([9.0, 9, 0, 0]))
    terms = run.stage.compute(away)
    assert terms['taught'] == 0 and terms['loss'] == 0


def test_a_model_without_a_frozen_tracker_is_refused():
    with pytest.raises(TpfError, match="'tpf_tiny' has no frozen tracker"):
        Response(ResponseConfig(model='tpf_tiny'), torch.Generator(), torch.Generator())
