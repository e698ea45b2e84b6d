"""`tpf train` over two hosts: two torchrun agents that find each other, here on one machine."""

from contextlib import ExitStack
import os
import socket
import subprocess
import sys

CONFIG = """
steps = {steps}
batch = 1
warmup = 1
log_every = 1
save_every = 1
[world]
backgrounds = 7
background_size = 64
sprites = 8
"""


def train_on_two_hosts(folders, config, timeout=150):
    """Run `tpf train drf` by one agent for each folder; returns exit codes and error outputs."""
    with socket.create_server(('127.0.0.1', 0)) as free:
        endpoint = f'127.0.0.1:{free.getsockname()[1]}'
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.getcwd()}
    with ExitStack() as stack:
        agents = []
        for folder in folders:
            command = [sys.executable, '-m', 'torch.distributed.run', '--nnodes', '2']
            command += ['--nproc-per-node', '1', '--rdzv-backend', 'c10d', '--rdzv-id', 'drf']
            command += ['--rdzv-endpoint', endpoint, '-m', 'tpf_tracker_ros.cli', 'train', 'drf']
            command += ['--device', 'cpu', '--config', str(config), '--out', str(folder)]
            agent = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            stack.callback(agent.kill)
            agents.append(agent)
        errors = [agent.communicate(timeout=timeout)[1] for agent in agents]
        return [agent.returncode for agent in agents], errors


def test_two_hosts_train_one_network(tmp_path):
    config = tmp_path / 'drf.toml'
    config.write_text(CONFIG.format(steps=1))
    hosts = tmp_path / 'host0', tmp_path / 'host1'
    codes, errors = train_on_two_hosts(hosts, config)
    assert codes == [0, 0], errors
    written = [sorted(path.name for path in host.glob('*')) for host in hosts]
    first, other = sorted(written, key=len, reverse=True)
    assert {'log.csv', 'state.pt', 'tpf_tiny.safetensors'} <= set(first)
    assert 'state.pt' not in other  # one process writes
