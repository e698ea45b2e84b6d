"""`tpf eval` and `tpf run` as a user types them."""

import json
import subprocess
import sys

import pytest
from safetensors.torch import save_file
from tpf_tracker_ros.models import create_model


def tpf(*arguments):
    command = [sys.executable, '-m', 'tpf_tracker_ros.cli', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_published_lasher_results(shared_data, tmp_path):
    metrics = shared_data / 'metrics'
    done = tpf(
        *('eval', metrics / 'lasher_apfnet', '--dataset', 'lasher', '--gt', metrics / 'lasher_gt'),
        *('--tracker', 'APFNet', '--out', tmp_path / 'report'),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split() == ['APFNet', '50.01', '43.93', '36.25', '245']
    written = json.loads((tmp_path / 'report/metrics.json').read_text())['APFNet']
    assert written['SR'] == pytest.approx(36.25, abs=0.05)
    assert (tmp_path / 'report/report.html').exists()


def test_one_sequence(shared_data):
    metrics = shared_data / 'metrics'
    done = tpf(
        'eval', metrics / 'lasher_apfnet/10runone.txt', '--gt', metrics / 'lasher_gt/10runone.txt'
    )
    assert done.stdout.splitlines()[1].split() == ['10runone', '12.50', '9.54', '8.98', '1']


@pytest.mark.parametrize(
    ('arguments', 'why'),
    [
        (
            ('eval', '{tmp}', '--dataset', 'lasher', '--gt', '{tmp}'),
            'holds no lasher ground truth',
        ),
        (('eval', '{tmp}', '--gt', '{tmp}'), 'give --dataset'),
        (('eval', '{tmp}/none', '--dataset', 'otb', '--gt', '{tmp}'), "unknown dataset 'otb'"),
        (
            ('run', '--dataset', 'otb', '--root', '{tmp}', '--out', '{tmp}'),
            "unknown dataset 'otb'",
        ),
        (
            ('run', '--dataset', 'gtot', '--root', '{tmp}', '--out', '{tmp}'),
            'has no gtot sequences',
        ),
    ],
)
def test_failures_are_one_line(tmp_path, arguments, why):
    done = tpf(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert done.returncode == 1
    assert why in done.stderr
    assert done.stderr.startswith('error: ')
    assert done.stderr.count('\n') == 1


def test_run_then_eval(tmp_path, write_sequence):
    write_sequence(tmp_path / 'data', 'rgbt234', 'car')
    weights = tmp_path / 'untrained.safetensors'
    save_file(create_model('tpf_nano').state_dict(), weights)
    run = ('run', '--dataset', 'rgbt234', '--root', tmp_path / 'data', '--device', 'cpu')
    run += ('--checkpoint', weights, '--out', tmp_path / 'results/untrained')
    done = tpf(*run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('1 sequences tracked, 0 were there')
    assert tpf(*run).stdout.startswith('0 sequences tracked, 1 were there')
    done = tpf('eval', tmp_path / 'results', '--dataset', 'rgbt234', '--gt', tmp_path / 'data')
    assert done.stdout.splitlines()[1].startswith('untrained')
