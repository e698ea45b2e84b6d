"""A tracker over a dataset: results in the benchmark's format, resumed, in several processes."""

from functools import partial
import os

import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.box_files import read_boxes
from tpf_tracker_ros.evaluation.evaluate import evaluate_folders
from tpf_tracker_ros.evaluation.runner import run_dataset
from tpf_tracker_ros.tracking.tracker import TrackResult, TrackState


class Still:
    """The tracker that every other must beat: the target stays where it was."""

    name, device, second = 'still', 'cpu', 'thermal'

    def __init__(self, log=None):
        self.log = log

    def initialize(self, pair, box):
        self.box = box
        if self.log:
            with open(self.log, 'a') as file:
                file.write(f'{os.getpid()}\n')
        return TrackResult(box, 1.0, TrackState.TRACKING, pair.modality)

    def track(self, pair):
        return TrackResult(self.box, 1.0, TrackState.TRACKING, pair.modality)


@pytest.fixture(params=['lasher', 'gtot', 'vtuav', 'antiuav'])
def dataset(request, tmp_path, write_sequence):
    for name in ('car', 'dog'):
        write_sequence(tmp_path / 'data', request.param, name)
    return request.param, tmp_path / 'data', tmp_path / 'out'


def test_results_can_be_scored_by_the_benchmark(dataset, frames):
    name, root, out = dataset
    assert run_dataset(Still, name, root, out) == f'2 sequences tracked, 0 were there: {out}'
    assert sorted(path.name for path in out.iterdir()) == [
        *('car.txt', 'car_time.txt', 'dog.txt', 'dog_time.txt')
    ]
    boxes = read_boxes(out / 'car.txt')
    assert np.array_equal(boxes, np.tile(frames[1][0], (12, 1)))
    assert (np.loadtxt(out / 'car_time.txt') >= 0).all()
    assert len(evaluate_folders([out], name, root).scores[0].sequences) == 2


def test_a_tracker_of_depth_is_not_run_on_thermal(tmp_path, write_sequence):
    class Deep(Still):
        second = 'depth'

    write_sequence(tmp_path, 'lasher', 'car')
    with pytest.raises(TpfError, match='lasher pairs RGB with thermal, but still takes depth'):
        run_dataset(Deep, 'lasher', tmp_path, tmp_path / 'out')
    write_sequence(tmp_path / 'deep', 'depthtrack', 'car')
    for make in Deep, Still:
        run_dataset(make, 'depthtrack', tmp_path / 'deep', tmp_path / make.__name__)


def test_goes_on_where_it_stopped(tmp_path, write_sequence):
    for name in ('car', 'dog', 'man'):
        write_sequence(tmp_path / 'data', 'lasher', name)
    out, log = tmp_path / 'out', tmp_path / 'log'
    out.mkdir()
    (out / 'dog.txt').write_text('kept')
    (out / 'man.part').write_text('a run that was cut off')
    done = run_dataset(partial(Still, str(log)), 'lasher', tmp_path / 'data', out)
    assert done.startswith('2 sequences tracked, 1 were there')
    assert (out / 'dog.txt').read_text() == 'kept'
    assert not (out / 'man.part').exists()
    assert len(log.read_text().split()) == 2


def test_several_processes_give_the_same(tmp_path, write_sequence, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    for index in range(4):
        write_sequence(tmp_path / 'data', 'lasher', f'car{index}')
    log = tmp_path / 'log'
    for processes in (1, 2):
        out = tmp_path / f'out{processes}'
        make = partial(Still, str(log))
        run_dataset(make, 'lasher', tmp_path / 'data', out, processes=processes)
    for index in range(4):
        one, two = (tmp_path / f'out{n}' / f'car{index}.txt' for n in (1, 2))
        assert one.read_text() == two.read_text()
    workers = set(log.read_text().split()[4:])
    assert workers
    assert str(os.getpid()) not in workers


def test_one_broken_sequence_does_not_stop_the_others(tmp_path, write_sequence):
    for name in ('car', 'dog', 'man'):
        write_sequence(tmp_path / 'data', 'lasher', name)
    (tmp_path / 'data/car/visible/v003.jpg').write_bytes(b'no image')
    for file in (tmp_path / 'data/man').glob('*.txt'):
        file.unlink()
    with pytest.raises(TpfError, match=r'2 of 3 .*car: .*v003\.jpg.*man has no init.txt'):
        run_dataset(Still, 'lasher', tmp_path / 'data', tmp_path / 'out')
    assert (tmp_path / 'out/dog.txt').exists()
    assert not (tmp_path / 'out/car.txt').exists()


def test_frames_missing_on_disk_keep_their_rows(tmp_path, write_sequence):
    folder = write_sequence(tmp_path / 'data', 'lasher', 'car')
    for camera in 'visible', 'infrared':
        (folder / camera / f'{camera[0]}005.jpg').unlink()
    run_dataset(Still, 'lasher', tmp_path / 'data', tmp_path / 'out')
    boxes = read_boxes(tmp_path / 'out/car.txt')
    assert len(boxes) == 12
    assert np.flatnonzero(np.isnan(boxes[:, 0])).tolist() == [4]
    evaluate_folders([tmp_path / 'out'], 'lasher', tmp_path / 'data')


def test_sparse_truth_meets_the_frames_of_its_numbers(tmp_path, write_sequence):
    folder = write_sequence(tmp_path / 'data', 'vtuav', 'bus')
    for camera in 'rgb', 'ir':
        for number in range(3, 7):
            (folder / camera / f'{number:06}.jpg').unlink()
    rows = np.arange(12)
    truth = np.column_stack([10 * rows, rows, 9 + 0 * rows, 9 + 0 * rows]).astype(float)
    for file in 'rgb.txt', 'ir.txt':
        np.savetxt(folder / file, truth[::10])
    result = tmp_path / 'results/bus.txt'
    result.parent.mkdir()
    # One box for each frame, and one for each file, as a tracker writes that counts files.
    for boxes in truth, np.delete(truth, range(2, 6), axis=0):
        np.savetxt(result, boxes, delimiter=',')
        scores = evaluate_folders([result.parent], 'vtuav', tmp_path / 'data').scores
        assert scores[0].summary()['MPR'] == 100
