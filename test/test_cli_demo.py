import json
import os
import subprocess
import sys

import cv2
import pytest
from tpf_tracker_ros.bags.convert import sequence_to_bag
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.bags.storage import Bag
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.film import WorldSequence

pytest.importorskip('rclpy', reason="needs ROS 2 (pip install 'tpf_tracker_ros[ros]')")


def tpf(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'tpf_tracker_ros.cli', *map(str, arguments)]
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(40 + os.getpid() % 60)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    """Return a short film where `tpf demo` looks for the one that it made before."""
    path = tmp_path_factory.mktemp('demo') / 'park-3.mcap'
    sequence_to_bag(WorldSequence(3, frames=20, size=(320, 256)), path)
    return path


def test_the_demo_tracks_and_reports(film):
    out = film.parent
    written = film.stat().st_mtime_ns
    done = tpf('demo', '--out', out, '--seed', 3, '--model', 'cmd_tiny')
    assert done.returncode == 0, done.stderr
    assert film.stat().st_mtime_ns == written  # made once
    for word in 'success (AUC)', 'precision at 20 px', 'published', 'dropped', 'p50', 'p95':
        assert word in done.stdout
    metrics = json.loads((out / 'metrics.json').read_text())
    assert metrics['pairs_played'] == 20
    assert metrics['pairs_published'] >= 2
    assert Bag(out / 'tracks.mcap').topics['/tpf_tracker/tracks'].count >= 2
    assert cv2.imread(str(out / 'report.png')) is not None
    video = cv2.VideoCapture(str(out / 'overlay.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 20


def test_nothing_tracked_is_a_failure_with_a_report(film, tmp_path, monkeypatch):
    from tpf_tracker_ros.ros.replay.demo import replay_with_report

    monkeypatch.setenv('ROS_DOMAIN_ID', str(41 + os.getpid() % 60))
    blind = {'tracker.uncertain_score': 1.0, 'tracker.lost_score': 1.0, 'tracker.lost_after': 1}
    with pytest.raises(TpfError, match='nothing was tracked'):
        replay_with_report(BagSequence(film), None, tmp_path, parameters=blind)
    assert {'metrics.json', 'report.png', 'overlay.mp4', 'tracks.mcap', 'node.log'} == {
        file.name for file in tmp_path.iterdir()
    }


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['no.mcap'], 'bag no.mcap does not exist'),
        (['BAG', '--init', '1,2,3'], "box '1,2,3' is not four numbers"),
        (['BAG', '--init', '1,2,0,4'], 'box 1,2,0,4 is empty'),
        (['BAG', '--rgb-topic', '/none'], 'has no topic /none'),
        (
            ['BAG', '--checkpoint', 'none.safetensors'],
            'checkpoint none.safetensors does not exist',
        ),
    ],
)
def test_bad_input_is_one_line(film, tmp_path, arguments, words):
    arguments = [film if word == 'BAG' else word for word in arguments]
    done = tpf('replay', *arguments, '--out', tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith('error: ')
    assert words in done.stderr
    assert done.stderr.count('\n') == 1
