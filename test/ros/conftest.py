"""Shared by the tests over a real graph: loopback, a domain for each test, untrained weights."""

import itertools
import os

import pytest
from tpf_tracker_ros.ros.dds import loopback_environment

pytest.importorskip('rclpy', reason="needs ROS 2 (pip install 'tpf_tracker_ros[ros]')")
# Fast DDS reads its profile once in a process, at the first node.
os.environ.update(loopback_environment())
DOMAINS = itertools.cycle(range(40, 100))
for _ in range(os.getpid() % 60):  # test runs side by side begin at different ones
    next(DOMAINS)


@pytest.fixture(autouse=True)
def domain(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(next(DOMAINS)))


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory):
    """Untrained weights: these tests look at the plumbing, not at how well it tracks."""
    import torch
    from tpf_tracker_ros.models import create_model
    from tpf_tracker_ros.models.checkpoint import save_weights

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    save_weights(create_model('tpf_nano'), path)
    return str(path)


@pytest.fixture
def tracker_node(checkpoint, capfd):
    """Give a context manager (parameter=value): the node in this process, as a graph."""
    from other_side import running_node

    defaults = {'checkpoint': checkpoint, 'tracker__lost_score': 0.0}
    return lambda **values: running_node(capfd, **{**defaults, **values})


@pytest.fixture
def bench():
    """Give a function (options of Worker): a worker with a tracker that counts."""
    from worker_bench import Bench

    made = []

    def make(**options):
        made.append(Bench(**options))
        return made[-1]

    yield make
    for each in made:
        each.tracker.may_go_on.set()
        each.worker.close()
