"""A tracker over a dataset on a real Ray cluster of two machines, one of which dies."""

from functools import partial
import logging
import os
import sys
import threading
import time

import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.evaluation.cluster import run_on_cluster
from tpf_tracker_ros.evaluation.runner import run_dataset
from tpf_tracker_ros.tracking.load import load_tracker

ray = pytest.importorskip('ray', reason="needs pip install 'tpf_tracker_ros[cluster]'")

COUNT = 6


class Slow:
    """The real tracker, which says where it is and takes its time."""

    name, second = 'slow', 'thermal'

    def __init__(self, log, **options):
        self._tracker, self._log = load_tracker('tpf_tiny', **options), log

    def initialize(self, pair, box):
        with open(self._log, 'a') as file:
            file.write(f'{ray.get_runtime_context().get_node_id()}\n')
        return self._tracker.initialize(pair, box)

    def track(self, pair):
        time.sleep(0.15)
        return self._tracker.track(pair)


@pytest.fixture(scope='module')
def cluster():
    """Give a cluster: a head that only coordinates, and two machines of one core each."""
    from ray.cluster_utils import Cluster

    os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Slow is in no package
    head = {'num_cpus': 0, 'include_dashboard': False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope='module')
def data(tmp_path_factory, write_sequence):
    root = tmp_path_factory.mktemp('data')
    for index in range(COUNT):
        write_sequence(root, 'lasher', f'car{index}')
    return root


def boxes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if '_time' not in path.name}


@pytest.mark.filterwarnings('ignore')
def test_one_machine_dies_and_the_results_are_those_of_one_process(
    cluster, data, tmp_path, caplog
):
    serial, spread, visited = tmp_path / 'serial', tmp_path / 'spread', tmp_path / 'visited'
    run_dataset(partial(load_tracker, device='cpu'), 'lasher', data, serial)
    spread.mkdir()
    (spread / 'car5.txt').write_text('kept')
    victim = cluster.machines[1]

    def kill():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if visited.exists() and victim.node_id in visited.read_text():
                cluster.remove_node(victim, allow_graceful=False)
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    with caplog.at_level(logging.WARNING):
        said = run_on_cluster(
            partial(Slow, str(visited)), 'lasher', data, spread,
            address=cluster.address, device='cpu',
        )  # fmt: skip
    killer.join()
    assert said == f'5 sequences tracked, 1 were there: {spread}'
    assert 'tracked again elsewhere' in caplog.text
    assert len(set(visited.read_text().split())) == 2  # both machines had work
    found, expected = boxes(spread), boxes(serial)
    assert found.pop('car5.txt') == b'kept'  # resumed, not done again
    expected.pop('car5.txt')
    assert found == expected
    assert np.loadtxt(spread / 'car0_time.txt').shape == (12,)


@pytest.mark.filterwarnings('ignore')
def test_a_machine_without_the_data_or_a_bad_model_is_named(cluster, data, tmp_path, monkeypatch):
    from tpf_tracker_ros.evaluation import cluster as module

    with pytest.raises(TpfError, match=r'machine .*: unknown model .nothing.'):
        run_on_cluster(
            partial(load_tracker, 'nothing'), 'lasher', data, tmp_path,
            address=cluster.address, device='cpu',
        )  # fmt: skip
    # Here the folders are there, on the machines (which get other names to look for) not.
    elsewhere = [tmp_path / 'elsewhere' / name for name in ('car0', 'car1')]
    monkeypatch.setattr(module, 'find_work', lambda *_: ({}, elsewhere))
    with pytest.raises(
        TpfError, match=r'machine .*: 2 of 2 sequences are not there, such as .*car0'
    ):
        run_on_cluster(
            partial(load_tracker, 'tpf_tiny'), 'lasher', data, tmp_path,
            address=cluster.address, device='cpu',
        )  # fmt: skip


def test_no_cluster_is_one_line(data, tmp_path):
    with pytest.raises(TpfError, match=r'no Ray cluster at 127.0.0.1:1: .*ray start') as caught:
        run_on_cluster(load_tracker, 'lasher', data, tmp_path, address='127.0.0.1:1')
    assert '\n' not in str(caught.value)
