import json

import numpy as np
import pytest
from tpf_tracker_ros.bench import step_time
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.engines.engine import Engine
from tpf_tracker_ros.engines.frozen import FrozenEngine
from tpf_tracker_ros.models.checkpoint import load_model
from tpf_tracker_ros.models.layers import mamba, mamba_native
from tpf_tracker_ros.tracking.config import TrackerConfig


def test_engines_are_measured_beside_the_plain_one(monkeypatch):
    def two(model, device, folder):  # exports take their time and have tests of their own
        return {'plain': step_time.plain_engine(model, device), 'frozen': FrozenEngine(model)}

    monkeypatch.setattr(step_time, 'make_engines', two)
    model = load_model('tpf_tiny')
    result = step_time.bench_model(model, 'cpu', WorldSequence(0, frames=10), TrackerConfig())
    plain, frozen = result['engines']['plain'], result['engines']['frozen']
    assert (plain['times_faster'], plain['agreement']) == (1, 1)
    assert frozen['times_faster'] > 0
    assert frozen['agreement'] > 0.999
    for row in (plain, frozen):
        assert 0 < row['crop_ms'] < row['network_ms'] < row['p50_ms'] <= row['p95_ms']
    assert result['parameters'] == sum(p.numel() for p in model.parameters())
    assert set(result['parts_ms']) == {'pfa', 'embedding', 'backbone', 'head'}
    assert json.loads(json.dumps(result)) == result
    lines = step_time.table([result]).splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ['plain', 'frozen']


@pytest.mark.skipif(not mamba_native.can_compile(), reason='there is no C compiler')
def test_the_plain_engine_runs_nothing_of_our_own_code_in_c(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('ran in C')

    model = load_model('tpf_tiny')
    image = np.zeros((16, 16, 3), np.uint8)
    monkeypatch.setattr(mamba, 'native_mix', refuse)
    assert step_time.plain_engine(model, 'cpu').fuse(image, image).shape == image.shape
    with pytest.raises(AssertionError, match='ran in C'):
        Engine(model, 'cpu').fuse(image, image)
