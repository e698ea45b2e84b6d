"""The linters of ROS 2 packages, with their own settings."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = [
    str(ROOT / name) for name in ('benchmarks', 'launch', 'setup.py', 'test', 'tpf_tracker_ros')
]


def test_flake8():
    flake8 = pytest.importorskip('ament_flake8.main')
    code, errors = flake8.main_with_errors(argv=CODE)
    assert code == 0, '\n'.join(errors)


def test_pep257(capfd):
    pep257 = pytest.importorskip('ament_pep257.main')
    assert pep257.main(argv=CODE) == 0, capfd.readouterr().err
