"""The linters of ROS 2 packages, with their own settings."""

from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
CODE = ['benchmarks', 'launch', 'setup.py', 'test', 'tpf_tracker_ros']


@pytest.mark.parametrize('linter', ['ament_flake8', 'ament_pep257'])
def test_clean(linter):
    pytest.importorskip(linter)
    # Their own process: flake8 forks, which a process with DDS in it does not survive.
    command = [sys.executable, '-m', f'{linter}.main', *CODE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
