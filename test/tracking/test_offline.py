"""A run over a sequence leaves the files it should, whole up to any failure."""

import json

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file
import torch
from tpf_tracker_ros.bags.convert import sequence_to_bag
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.core.boxes import parse_box
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.models import create_model
from tpf_tracker_ros.tracking.load import load_tracker
from tpf_tracker_ros.tracking.offline import track_to_files

BOX = np.array([60.0, 40, 24, 18])


class Moving:
    """A bright patch that moves right by two pixels a frame; a Sequence."""

    def __init__(self, frames=12, *, rgb=True, fail_at=None):
        self.name = 'moving'
        self.ground_truth = BOX + np.outer(np.arange(frames), [2, 0, 0, 0])
        self._rgb, self._fail_at = rgb, fail_at
        texture = np.random.default_rng(1).integers(0, 255, (120, 160), dtype=np.uint8)
        self._background = cv2.GaussianBlur(texture, (0, 0), 2)

    def __len__(self):
        return len(self.ground_truth)

    def __iter__(self):
        for index, (x, y, w, h) in enumerate(self.ground_truth.astype(int)):
            if index == self._fail_at:
                raise TpfError(f'image {index} is broken')
            grey = self._background.copy()
            bottom, right = y + h, x + w
            grey[y:bottom, x:right] = 250
            thermal = 7000 + grey.astype(np.uint16)
            rgb = np.dstack([grey] * 3) if self._rgb else None
            yield FramePair(rgb, thermal, 10**18 + index * 40_000_000)


@pytest.fixture(scope='module')
def tracker(tmp_path_factory):
    """Return the real tracker with random weights: what it finds does not matter here."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'random.safetensors'
    save_file(create_model('tpf_tiny').state_dict(), path)
    return load_tracker('tpf_tiny', device='cpu', checkpoint=path)


def boxes_in(folder):
    return np.array([parse_box(line) for line in (folder / 'boxes.txt').read_text().splitlines()])


def test_files(tracker, tmp_path):
    report = track_to_files(tracker, Moving(), BOX, tmp_path / 'out')
    lines = (tmp_path / 'out/boxes.txt').read_text().splitlines()
    assert len(lines) == 12 and lines[0] == '60.00,40.00,24.00,18.00'
    scores = np.loadtxt(tmp_path / 'out/scores.txt')
    assert len(scores) == 12 and scores[0] == 1
    assert 0 < scores.min() < scores.max() == 1
    assert report == json.loads((tmp_path / 'out/track.json').read_text())
    assert report['complete'] and report['frames'] == 12 == sum(report['states'].values())
    assert (report['model'], report['device']) == ('tpf_tiny', 'cpu')
    stages = report['stages_ms']
    assert {'network', 'total'} <= set(stages)
    assert all(
        0 <= stage['p50'] <= stage['p95'] <= stages['total']['p95'] for stage in stages.values()
    )
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'boxes.txt',
        'scores.txt',
        'track.json',
    ]


def test_same_boxes_again_and_from_a_bag(tracker, tmp_path):
    sequence_to_bag(Moving(), tmp_path / 'moving.mcap')
    bag = BagSequence(tmp_path / 'moving.mcap')
    np.testing.assert_array_equal(bag.ground_truth, Moving().ground_truth)
    for name, sequence in ('a', Moving()), ('b', Moving()), ('c', bag):
        track_to_files(tracker, sequence, None, tmp_path / name)
    np.testing.assert_array_equal(boxes_in(tmp_path / 'a'), boxes_in(tmp_path / 'b'))
    np.testing.assert_array_equal(boxes_in(tmp_path / 'a'), boxes_in(tmp_path / 'c'))


@pytest.mark.parametrize('rgb', [True, False])
def test_video_and_fused_images(tracker, tmp_path, rgb):
    video, fused = tmp_path / 'videos/boxes.mp4', tmp_path / 'fused'
    track_to_files(
        tracker, Moving(rgb=rgb), BOX, tmp_path / 'out', video=video, fused=fused, frames=6
    )
    opened = cv2.VideoCapture(str(video))
    assert opened.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert opened.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    found, image = opened.read()
    assert found and image.shape == (120, 160, 3)
    frame = image[38:60, 57:87].astype(int)
    assert (frame[..., 1] - frame[..., 2]).max() > 60, 'a green box around the target'
    assert [path.name for path in sorted(fused.iterdir())] == [f'{i:06d}.png' for i in range(6)]
    assert cv2.imread(str(fused / '000005.png')).std() > 10


def test_what_was_tracked_before_a_failure_is_kept(tracker, tmp_path):
    video = tmp_path / 'boxes.mp4'
    with pytest.raises(TpfError, match='image 7 is broken'):
        track_to_files(tracker, Moving(fail_at=7), BOX, tmp_path / 'out', video=video)
    assert boxes_in(tmp_path / 'out').shape == (7, 4)
    report = json.loads((tmp_path / 'out/track.json').read_text())
    assert (report['complete'], report['frames']) == (False, 7)
    assert cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT) == 7


def test_full_disk_leaves_whole_lines(tracker, tmp_path, file_size_limit):
    with file_size_limit(130), pytest.raises(TpfError, match='cannot write'):
        track_to_files(tracker, Moving(), BOX, tmp_path)
    assert 2 < len(boxes_in(tmp_path)) < 12
    assert (tmp_path / 'boxes.txt').read_text().endswith('\n')
    assert not (tmp_path / 'track.json').exists(), 'no half of a file'


def test_full_disk_is_noticed_by_the_video(tracker, tmp_path, file_size_limit, capfd):
    with file_size_limit(4000), pytest.raises(TpfError, match=r'boxes\.mp4 holds 0 of 12 frames'):
        track_to_files(tracker, Moving(), BOX, tmp_path, video=tmp_path / 'boxes.mp4')
    assert len(boxes_in(tmp_path)) == 12


@pytest.mark.parametrize('option', ['out', 'video', 'fused'])
def test_places_that_cannot_be_written(tracker, tmp_path, option):
    (tmp_path / 'file').write_text('')
    places = {'out': tmp_path / 'out', option: tmp_path / 'file/below.mp4'}
    with pytest.raises(TpfError, match=r'cannot write .*/file'):
        track_to_files(tracker, Moving(), BOX, **places)


def test_a_bad_box_does_not_cost_an_earlier_result(tracker, tmp_path):
    track_to_files(tracker, Moving(), BOX, tmp_path)
    with pytest.raises(TpfError, match='larger than the 160x120 image'):
        track_to_files(tracker, Moving(), BOX * 100, tmp_path)
    assert boxes_in(tmp_path).shape == (12, 4)


def test_no_box_and_no_ground_truth(tracker, tmp_path):
    sequence = Moving()
    sequence.ground_truth[0] = np.nan
    with pytest.raises(TpfError, match='moving has no ground truth to start on; give --init'):
        track_to_files(tracker, sequence, None, tmp_path)
