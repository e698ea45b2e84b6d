from dataclasses import replace

import pytest
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import packaged_weights
from tpf_tracker_ros.training.samples.sensors import SensorConfig
from tpf_tracker_ros.training.samples.world import Views, WorldConfig
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


def test_the_nearest_right_camera_teaches(run, batch):
    """Which of the two is free: a fused image that is one camera's has nothing to learn."""
    sound = batch.sound_views
    grey = tuple(torch.full_like(view, 0.5) for view in sound.rgb)
    one, both = Views(sound.rgb, grey), Views(grey, sound.rgb)
    for views in (one, both):
        _, right = run.stage.teach(replace(batch, sound_views=views))
        seen = 0 if views is one else 1
        assert right[seen].any() and not right[1 - seen].any()  # nothing is found on grey
        fused = replace(batch, rgb=sound.rgb, thermal=sound.rgb, sound_views=views)
        terms = run.stage.compute(fused)
        assert terms['feature'].abs() < 1e-4 and terms['box'] < 1e-4 and terms['taught'] > 0


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


def test_a_fresh_adapter_starts_as_the_image_that_the_tracker_was_trained_on():
    stage = Response(ResponseConfig(init_adapter='fresh'), torch.Generator(), torch.Generator())
    rgb, thermal = torch.rand(2, 1, 3, 32, 32)
    torch.testing.assert_close(stage.model.merge(rgb, thermal), rgb)


def test_a_model_without_a_frozen_tracker_is_refused():
    with pytest.raises(TpfError, match="'tpf_tiny' has no frozen tracker"):
        Response(ResponseConfig(model='tpf_tiny'), torch.Generator(), torch.Generator())
