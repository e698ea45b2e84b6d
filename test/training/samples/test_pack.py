import json

import cv2
import numpy as np
from tpf_tracker_ros.core.boxes import iou
from tpf_tracker_ros.tracking.tracker import TrackResult, TrackState
from tpf_tracker_ros.training.samples.pack import (
    Pack,
    pack_moving,
    pack_static,
    pack_thermal,
    StaticFilm,
)


def textured(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Grey image uint8 (height, width) with corners at every scale."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width), np.float32)
    for step in (4, 16, 64):
        coarse = rng.random((height // step + 2, width // step + 2), np.float32)
        image += cv2.resize(coarse, (width, height)) / 3
    return np.uint8(255 * image)


def index_of(folder) -> dict:
    return json.loads((folder / 'pack.json').read_text())


def write_film(path, frames) -> None:
    size = frames[0].shape[1::-1]
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, size)
    for frame in frames:
        film.write(frame)
    film.release()


def test_boxes_of_neighbouring_thermal_images_become_one_track(tmp_path):
    scene = textured(800, 700)
    for number, shift in ((7, 0), (9, 40), (90, 80)):  # the last one is too far away in time
        view = scene[shift : shift + 512, shift : shift + 640]  # noqa: E203
        cv2.imwrite(str(tmp_path / f'0_60_30_0_{number:05}.jpg'), view)
    boxes = {
        '0_60_30_0_00007.jpg': [[200, 160, 40, 30, 'Car'], [400, 300, 20, 40, 'Person']],
        '0_60_30_0_00009.jpg': [[160, 120, 40, 30, 'Car'], [360, 60, 20, 40, 'Person']],
        '0_60_30_0_00090.jpg': [[120, 80, 40, 30, 'Car'], [0, 80, 40, 30, 'Car']],
    }
    (tmp_path / 'boxes.json').write_text(json.dumps(boxes))
    pack = Pack(tmp_path / 'pack')
    pack_thermal(tmp_path, pack)
    assert pack.close()['images'] == 3
    tracks = index_of(tmp_path / 'pack')['tracks']
    # The person is not where the ground went, and a box that the edge cuts is none.
    assert sorted((track['label'], track['images']) for track in tracks) == [
        ('car', [0, 1]), ('car', [2]), ('person', [0]), ('person', [1]),
    ]  # fmt: skip
    np.testing.assert_allclose(tracks[0]['boxes'], [[160, 128, 32, 24], [128, 96, 32, 24]])


def test_what_moves_before_a_camera_at_rest_is_cut_out(tmp_path):
    scene = cv2.cvtColor(textured(320, 240) // 2, cv2.COLOR_GRAY2BGR)
    frames = [scene.copy() for _ in range(8)]
    for step, frame in enumerate(frames[1:]):
        cv2.ellipse(frame, (80 + 20 * step, 120), (24, 40), 0, 0, 360, (40, 80, 250), -1)
    write_film(tmp_path / 'film.mp4', frames)
    pack = Pack(tmp_path / 'pack')
    pack_static(tmp_path / 'film.mp4', StaticFilm('film.mp4', ((0, 1.0),), 1), pack)
    assert pack.close()['tracks'] == 1
    index = index_of(tmp_path / 'pack')
    (track,), (cutouts,) = index['tracks'], index['cutouts']
    assert len(track['boxes']) == len(cutouts['aspects']) == 7
    truth = np.array([[56 + 20 * step, 80, 49, 81] for step in range(7)])
    assert iou(np.array(track['boxes']), truth).min() > 0.85
    sheet = cv2.imread(str(tmp_path / 'pack' / cutouts['file']), cv2.IMREAD_UNCHANGED)
    middle, corner = sheet[32, 32], sheet[2, 2]
    assert middle[3] > 250 and corner[3] < 5 and middle[2] > 200  # RED within, nothing beyond


class Jumper:
    """Follows what moves 4 px a frame to the right; `loses`: only forwards."""

    def __init__(self, loses: bool) -> None:
        self.loses = loses

    def initialize(self, pair, box) -> TrackResult:
        self.at, self.box = pair.stamp, box
        return TrackResult(box, 1.0, TrackState.TRACKING, 'rgb')

    def track(self, pair) -> TrackResult:
        way = 0 if self.loses and pair.stamp < self.at else pair.stamp - self.at
        self.box, self.at = self.box + np.array([4 * way, 0, 0, 0]), pair.stamp
        return TrackResult(self.box, 1.0, TrackState.TRACKING, 'rgb')


def test_a_teacher_that_disagrees_with_itself_makes_no_track(tmp_path):
    write_film(tmp_path / 'a.mp4', [cv2.cvtColor(textured(200, 150), cv2.COLOR_GRAY2BGR)] * 40)
    counts = []
    for loses in (False, True):
        pack = Pack(tmp_path / str(loses))
        pack_moving(tmp_path / 'a.mp4', lambda loses=loses: Jumper(loses), pack)
        counts.append(pack.close()['tracks'])
    assert counts[0] > 0 and counts[1] == 0
