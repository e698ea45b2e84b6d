"""What every registered tracker does, the toy of the tests among them."""

from dataclasses import replace
from functools import wraps

import numpy as np
import pytest
import torch
from tpf_tracker_ros.bench.step_time import step_macs, time_parts
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.engines.engine import Engine
from tpf_tracker_ros.engines.export import export_model
from tpf_tracker_ros.models import create_model, list_models, registry
from tpf_tracker_ros.models.checkpoint import load_model, save_weights
from tpf_tracker_ros.tracking.load import load_tracker, model_settings
from tpf_tracker_ros.tracking.search_region import SearchTracker
from tpf_tracker_ros.training.samples.world import WorldConfig
from tpf_tracker_ros.training.stages.supervised import Supervised, SupervisedConfig
from tpf_tracker_ros.training.trainer import Trainer

PLAIN = {'policy': 'published'}  # a step looks once
LITTLE = 2e6  # parameters of what trains in a moment
LARGE = 40e6  # parameters, from which on a model is built small

NARROW = {'dim': 96, 'heads': 3, 'depth': 3, 'ce_blocks': (1,), 'head_channels': 32}


def size(name):
    with torch.device('meta'):
        return sum(p.numel() for p in list_models()[name].build().parameters())


SIZES = {name: size(name) for name in list_models()}


def in_small(build):
    """Build the same network of three narrow blocks; all else is as it is."""

    @wraps(build)
    def small():
        with torch.device('meta'):
            whole = build()
        fusion = {'fusion_blocks': (0, 2)} if hasattr(whole.config, 'fusion_blocks') else {}
        network = type(whole)(replace(whole.config, **NARROW, **fusion))
        network.second = whole.second
        return network

    return small


@pytest.fixture(autouse=True)
def no_large_models(monkeypatch):
    """Large models are small here; test/models holds them to published numbers in full."""
    for name, entry in list_models().items():
        if SIZES.get(name, 0) > LARGE:  # other tests register some, too
            small = replace(entry, build=in_small(entry.build))
            monkeypatch.setitem(registry._ENTRIES, name, small)


@pytest.fixture(scope='module')
def film():
    sequence = WorldSequence(3, frames=2, size=(320, 256))
    return list(sequence), sequence.ground_truth[0]


def follow(tracker, film):
    (first, second), box = film
    started = tracker.initialize(first, box)
    np.testing.assert_array_equal(started.box, box)
    assert started.score == 1
    return tracker.track(second)


def checked(tracker, network, film):
    """Track, and compare with the plain engine of the same network."""
    found = follow(tracker, film)
    assert found.box.shape == (4,) and 0 <= found.score <= 1
    plain = SearchTracker(Engine(network, 'cpu'), model_settings(network.name, **PLAIN))
    expected = follow(plain, film)
    np.testing.assert_allclose(found.box, expected.box, atol=1e-2)
    assert found.score == pytest.approx(expected.score, abs=1e-4)
    return plain


@pytest.mark.parametrize('name', list_models())
def test_it_loads_freezes_and_tracks(name, film, tmp_path):
    torch.manual_seed(0)
    save_weights(create_model(name), tmp_path / 'w.safetensors')
    network = load_model(name, tmp_path / 'w.safetensors')
    network.max_templates = 1  # as many as PLAIN uses
    tracker = load_tracker(name, device='cpu', checkpoint=tmp_path / 'w.safetensors', **PLAIN)
    assert (tracker.name, tracker.device) == (name, 'cpu')
    plain = checked(tracker, network, film)
    image = plain.fuse(film[0][0])
    assert (image is not None) is network.fuses
    assert image is None or (image.shape, image.dtype) == ((256, 320, 3), np.uint8)
    other = 'toy' if name != 'toy' else 'tpf_tiny'
    with pytest.raises(TpfError, match=f'this is a {name} file, the model is {other}'):
        load_tracker(other, device='cpu', checkpoint=tmp_path / 'w.safetensors')


@pytest.mark.parametrize('name', list_models())
def test_its_export_tracks_alike(name, film, tmp_path):
    torch.manual_seed(0)
    network = create_model(name).eval()
    network.max_templates = 1  # as many as PLAIN uses
    export_model(network, tmp_path / 'export', form='torchscript')
    tracker = load_tracker(name, device='cpu', checkpoint=tmp_path / 'export', **PLAIN)
    checked(tracker, network, film)


@pytest.mark.parametrize('name', list_models())
def test_its_parts_and_multiply_adds_are_told(name):
    network = create_model(name).eval()
    times = time_parts(network, 'cpu', repeats=2)
    assert len(times) >= 2 and all(value > 0 for value in times.values())
    counts = step_macs(name)
    assert counts['convolution'] + counts['linear'] > counts['merge'] >= 0


@pytest.mark.parametrize('name', [name for name in SIZES if SIZES[name] < LITTLE])
def test_it_trains_three_steps(name, tmp_path):
    config = SupervisedConfig(
        model=name, steps=3, batch=2, warmup=1, log_every=1, picture_every=3,
        world=WorldConfig(backgrounds=7, background_size=64, sprites=8),
    )  # fmt: skip
    trainer = Trainer(Supervised, config, tmp_path)
    before = {key: value.clone() for key, value in trainer.network.named_parameters()}
    trainer.run()
    moved = [k for k, v in trainer.network.named_parameters() if not torch.equal(v, before[k])]
    assert moved and {trainer.stage.group(key) for key in moved}.isdisjoint({'frozen'})
    assert len((tmp_path / 'log.csv').read_text().splitlines()) == 4
    load_model(name, tmp_path / f'{name}.safetensors')


@pytest.mark.parametrize('name', list_models())
def test_every_weight_has_a_group(name):
    with torch.device('meta'):
        network = create_model(name)
    groups = {network.group(key) for key in network.state_dict()}
    assert groups <= {'frozen', 'adapter', 'backbone', 'head'} and len(groups) > 1
