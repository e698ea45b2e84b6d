"""The linters of ROS 2 packages, with their own settings."""

import importlib.util
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
CODE = ('benchmarks', 'launch', 'setup.py', 'test', 'tpf_tracker_ros')


@pytest.mark.parametrize('linter', ['ament_flake8', 'ament_pep257'])
def test_the_linter_finds_nothing(linter):
    if importlib.util.find_spec(linter) is None:
        pytest.skip(f'{linter} is not installed')
    # In a process of its own: it forks, which this one, full of threads, does not survive.
    command = f'import sys; from {linter}.main import main; sys.exit(main())'
    run = subprocess.run(
        [sys.executable, '-c', command, *CODE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
