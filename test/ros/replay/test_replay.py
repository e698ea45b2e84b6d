import os
from pathlib import Path
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from tpf_tracker_ros.bags.convert import sequence_to_bag
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.bags.storage import Bag
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.image_encoding import decode_rgb
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.models import packaged_weights
from tpf_tracker_ros.ros.graph import wait_until
from tpf_tracker_ros.ros.replay.replay import FUSED, replay, TRACKS
from tpf_tracker_ros.tracking.load import load_tracker
from tpf_tracker_ros.tracking.offline import track_sequence

# Every frame counts as reliable, so that the template is renewed, too.
SETTINGS = {
    'lost_score': 0.0,
    'uncertain_score': 0.0,
    'ndtu_score': 0.0,
    'ndtu_size_jump': 100.0,
    'ndtu_interval': 2,
}
WEIGHTS = str(packaged_weights('tpf_nano'))
PARAMETERS = {'checkpoint': WEIGHTS, 'device': 'cpu'}


@pytest.fixture(scope='module')
def bag(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('bag') / 'world.mcap'
    # A film whose target stays inside the image: a box at the edge renews no template.
    sequence_to_bag(WorldSequence(6, frames=20, size=(320, 256)), path)
    return path


@pytest.fixture
def threads_of_a_node():
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', max(1, os.cpu_count() // 2))))
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize('topics', [(None, None), ('', None)])
@pytest.mark.usefixtures('threads_of_a_node')  # the order of sums depends on them
def test_the_node_gives_the_boxes_of_the_offline_tracker(bag, topics):
    sequence = BagSequence(bag, *topics)
    init = sequence.ground_truth[0]
    settings = {f'tracker.{name}': value for name, value in SETTINGS.items()}
    # Slowly, so that no pair is dropped on a busy machine either.
    run = replay(sequence, init, rate=0.1, parameters={**PARAMETERS, **settings})
    assert not run.dropped.any()
    assert run.status['dropped'] == '0'

    tracker = load_tracker('tpf_nano', device='cpu', checkpoint=WEIGHTS, **SETTINGS)
    offline = [result for _, result in track_sequence(tracker, sequence, init)]
    assert any(result.template_updated for result in offline)
    np.testing.assert_allclose(run.boxes, [result.box for result in offline], atol=1e-6)
    np.testing.assert_allclose(run.scores, [result.score for result in offline], atol=1e-6)


def test_what_was_published_is_recorded_and_counted(bag, tmp_path):
    sequence = BagSequence(bag)
    run = replay(sequence, sequence.ground_truth[0], out=tmp_path, parameters=PARAMETERS)
    published = ~run.dropped
    assert len(run.stamps) == 20
    assert published.sum() == int(run.status['published'])
    assert (run.latency_ms[published] > 0).all()
    tracks = Bag(tmp_path / 'tracks.mcap')
    assert {TRACKS, FUSED} == set(tracks.topics)
    stamps = [tracks.stamp(message) for message in tracks.messages([TRACKS])]
    assert stamps == list(run.stamps[published])
    for message in tracks.messages([FUSED]):
        assert decode_rgb(tracks.decode(message)).shape == (256, 320, 3)
        assert tracks.stamp(message) in stamps


def test_compressed_images_are_played(tmp_path):
    sequence_to_bag(
        WorldSequence(1, frames=5, size=(160, 128)), tmp_path / 'small.mcap', compression='png'
    )
    sequence = BagSequence(tmp_path / 'small.mcap')
    run = replay(sequence, sequence.ground_truth[0], rate=0.2, parameters=PARAMETERS)
    assert np.isfinite(run.boxes).all()


def test_a_node_that_does_not_start_is_told_in_its_own_words(bag):
    sequence = BagSequence(bag)
    with pytest.raises(TpfError, match="exit code 1: unknown model 'nope'"):
        replay(sequence, sequence.ground_truth[0], parameters={'model': 'nope'})


def test_a_bad_box_is_refused_before_the_node_starts(bag, tmp_path):
    with pytest.raises(TpfError, match='outside the 320x256 image'):
        replay(BagSequence(bag), np.array([400.0, 10, 20, 20]), out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_no_node_is_left_when_it_is_stopped(bag, tmp_path, stop):
    command = [sys.executable, '-m', 'tpf_tracker_ros.cli', 'replay', bag, '--out', tmp_path]
    command += ['--checkpoint', WEIGHTS, '--rate', '0.01']
    log = tmp_path / 'node.log'
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: log.is_file() and 'ready' in log.read_text(), 60, 'the node is not up')
        node = subprocess.check_output(['pgrep', '-P', str(process.pid)], text=True).strip()
        process.send_signal(stop)
        _, errors = process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert 'Traceback' not in errors
    assert not Path('/proc', node).exists()
    Bag(tmp_path / 'tracks.mcap')
