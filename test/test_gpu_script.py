"""scripts/gpu.sh, rehearsed on the CPU where nothing is installed that a lent GPU may lack."""

import json
from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).parents[1]
LACKING = 'apsw', 'lz4', 'onnxscript', 'rclpy', 'rosbags', 'tensorboard'


def test_the_rehearsal_leaves_every_part_s_files(tmp_path):
    blocked = f'import sys\nsys.modules.update(dict.fromkeys({LACKING}))\n'
    (tmp_path / 'sitecustomize.py').write_text(blocked)
    out = tmp_path / 'out'
    done = subprocess.run(
        [
            *(ROOT / 'scripts' / 'gpu.sh', '--out', out, '--rehearse', '--device', 'cpu'),
            *('--minutes', '3', '--only', 'bench,scan,train'),
        ],
        env={'PATH': '/usr/bin:/bin', 'PYTHON': sys.executable, 'PYTHONPATH': str(tmp_path)},
        capture_output=True,
        text=True,
    )
    log = (out / 'log.txt').read_text()
    assert done.returncode == 0, log + done.stderr
    assert 'plain' in json.loads((out / 'tpf_tiny.json').read_text())['engines']
    assert json.loads((out / 'scan.json').read_text())['largest_difference'] < 1e-4
    assert (out / 'train' / 'log.csv').read_text().count('\n') == 3
    assert (out / 'train' / 'tpf_tiny.safetensors').is_file()


def test_wrong_arguments_are_one_line():
    for arguments in (['--minutes'], ['--form', 'x'], []):
        done = subprocess.run(
            [ROOT / 'scripts' / 'gpu.sh', *arguments], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
