"""replay.launch.py without launch: a node, and the playback as a process beside it."""

import subprocess
import sys

import pytest
from tpf_tracker_ros.bags.convert import sequence_to_bag
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.ros.replay.node_process import node_process


@pytest.mark.parametrize('tracked', [True, False])
def test_the_exit_code_says_whether_a_box_came(tmp_path, checkpoint, tracked):
    bag = tmp_path / 'world.mcap'
    sequence_to_bag(WorldSequence(1, frames=10, size=(160, 128)), bag)
    sequence = BagSequence(bag)
    box = ','.join(f'{value:.0f}' for value in sequence.ground_truth[0]) if tracked else ''
    parameters = {'checkpoint': checkpoint, 'device': 'cpu', 'use_sim_time': True, 'init_box': box}
    command = [
        sys.executable,
        '-m',
        'tpf_tracker_ros.ros.replay.playback',
        str(bag),
        '--rate',
        '0.2',
    ]
    with node_process(sequence.topics, parameters, tmp_path / 'node.log'):
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == (not tracked), done.stderr
    if tracked:
        assert done.stdout.startswith('10 pairs played, 10 answered, ')
    else:
        assert done.stderr.splitlines()[-1] == 'error: the tracker published no box'
