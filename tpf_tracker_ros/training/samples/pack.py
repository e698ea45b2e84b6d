"""
Pack real images for training into one small folder that a machine with a GPU can be given.

The source folder holds `photos/`, `hit_uav/` with `boxes.json`, `videos/`, `lepton_raw/` and
`drone_raw/`, all of which may shape weights that ship (CREDITS below go into the pack). What
comes out, read by `samples/real.py`: images of at most SIDE px, cut-outs with masks, and tracks,
that is boxes of one target in several images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import json
from pathlib import Path

import cv2
import numpy as np
from tpf_tracker_ros.core.boxes import iou
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.tracking.tracker import Tracker

SIDE = 512  # px, the longest of a packed image
CUTOUT = 64  # px, either side of a cut-out, which is stretched to fill it
QUALITY = 74  # of JPEG
LEAST = 8.0  # px, the smallest side of a box in a packed image
OF_A_CLIP = 4  # frames of a Lepton's
CLOSE = 12  # frames of HIT-UAV between which a track goes on, at most
STEP, LENGTH = 3, 16  # of a road film every which frame, and how many of them a track has
AGREEMENT = 0.6  # IoU of what the teacher finds forwards and backwards, at least
CREDITS = {
    'photos/seneca': 'OpenDroneMap seneca, CC0 1.0',
    'photos/copr': 'OpenDroneMap copr, CC BY-SA 4.0',
    'photos/brighton': 'OpenDroneMap brighton beach, BSD-2-Clause',
    'photos/buddha': 'buddha, CC BY 4.0',
    'hit_uav': 'HIT-UAV, Suo et al. 2023, CC BY 4.0',
    'videos/intel': 'intel-iot-devkit sample-videos, CC BY 4.0',
    'videos/udacity': 'Udacity CarND projects, MIT',
    'lepton_raw': 'Lepton clips, Apache-2.0 and MIT',
    'drone_raw': 'raw thermal images of drone cameras, MIT',
}


@dataclass(frozen=True)
class StaticFilm:
    """A film of a camera at rest: which frames, put side by side, show it without any object."""

    name: str
    empty: tuple[tuple[int, float], ...]  # frame, and the share of the width up to which it counts
    step: int  # frames from one that is used to the next


STATIC = (
    StaticFilm('intel_one-by-one-person.mp4', ((0, 1.0),), 4),
    StaticFilm('intel_car-detection.mp4', ((0, 1.0),), 1),
    StaticFilm('intel_bottle-detection.mp4', ((614, 0.75), (1024, 1.0)), 60),
)
MOVING = ('udacity_vehicle.mp4', 'udacity_lane.mp4')


class Pack:
    """What is written: images below `images/`, cut-outs below `cutouts/`, and pack.json."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: list[dict] = []
        self._tracks: list[dict] = []
        self._cutouts: list[dict] = []
        for name in ('images', 'cutouts'):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def add_image(self, image: np.ndarray, kind: str) -> int:
        """Write an image uint8 (H, W[, 3]) RGB of a kind, photo, thermal or film; its number."""
        number = len(self._images)
        file = f'images/{number:05}.jpg'
        shown = image if image.ndim == 2 else image[..., ::-1]
        cv2.imwrite(str(self._folder / file), shown, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        self._images.append({'file': file, 'kind': kind})
        return number

    def add_track(self, label: str, seen: list[tuple[int, np.ndarray]]) -> None:
        """Add the boxes (4,) x, y, w, h px of one target in images of these numbers, in order."""
        self._tracks.append(
            {
                'label': label,
                'images': [number for number, _ in seen],
                'boxes': [np.round(box, 1).tolist() for _, box in seen],
            }
        )

    def add_cutouts(self, label: str, sprites: list[np.ndarray], aspects: list[float]) -> None:
        """Write one target's cut-outs in time order: (S, S, 4) RGBA and width over height."""
        file = f'cutouts/{len(self._cutouts):04}.png'
        sheet = np.hstack(sprites)[..., [2, 1, 0, 3]]
        cv2.imwrite(str(self._folder / file), sheet)
        self._cutouts.append(
            {'file': file, 'label': label, 'aspects': np.round(aspects, 3).tolist()}
        )

    def close(self) -> dict[str, int]:
        """Write pack.json; returns how much of everything there is."""
        index = {
            'credits': CREDITS,
            'images': self._images,
            'tracks': self._tracks,
            'cutouts': self._cutouts,
        }
        (self._folder / 'pack.json').write_text(json.dumps(index))
        return {name: len(value) for name, value in index.items() if name != 'credits'}


def make_pack(source: Path, folder: Path, tracker: Callable[[], Tracker]) -> dict[str, int]:
    """
    Pack all that lies in a source folder; tracker gives the teacher of films without boxes.

    Returns how many images, tracks and cut-outs were written. Raises TpfError where a part of the
    source is missing.
    """
    for part in ('photos', 'hit_uav/boxes.json', 'videos'):
        if not (source / part).exists():
            raise TpfError(f'{source} has no {part}; see the docs on training for what it holds')
    pack = Pack(folder)
    for path in sorted((source / 'photos').glob('*/*')):
        pack.add_image(_shrink(cv2.imread(str(path))[..., ::-1]), 'photo')
    for image in _raw_thermal(source):
        pack.add_image(_shrink(image), 'thermal')
    pack_thermal(source / 'hit_uav', pack)
    for film in STATIC:
        pack_static(source / 'videos' / film.name, film, pack)
    for name in MOVING:
        pack_moving(source / 'videos' / name, tracker, pack)
    return pack.close()


def _shrink(image: np.ndarray) -> np.ndarray:
    factor = SIDE / max(image.shape[:2])
    if factor >= 1:
        return image
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def _raw_thermal(source: Path) -> Iterator[np.ndarray]:
    """Raw counts as the tracker shows them, uint8 (H, W)."""
    for path in sorted((source / 'drone_raw').glob('*.png')):
        counts = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        yield ThermalRange().to_uint8(counts.astype(np.uint16))
    for path in sorted((source / 'lepton_raw').glob('*.npz')):
        frames = next(iter(np.load(path).values()))
        for frame in frames[:: max(1, len(frames) // OF_A_CLIP)]:
            counts = ThermalRange().to_uint8(frame.astype(np.uint16))
            yield cv2.resize(counts, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)


def pack_thermal(folder: Path, pack: Pack) -> None:
    """HIT-UAV: boxes of neighbouring frames become tracks where a homography carries them over."""
    labelled = json.loads((folder / 'boxes.json').read_text())
    open_tracks: list[dict] = []
    before = None  # name, features
    tracks: list[dict] = []
    for name in sorted(labelled):
        image = cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE)
        small = _shrink(image)
        scale = small.shape[1] / image.shape[1]
        number = pack.add_image(small, 'thermal')
        features = cv2.ORB_create(1500).detectAndCompute(small, None)
        carry = _homography(before[1], features) if before and _near(before[0], name) else None
        going_on = []
        for x, y, w, h, label in labelled[name]:
            box = np.array([x, y, w, h]) * scale
            if label == 'DontCare' or min(box[2:]) < LEAST or not _inside(box, small.shape):
                continue
            found = _continued(box, label, open_tracks, carry)
            if found is None:
                found = {'label': label.lower(), 'seen': []}
                tracks.append(found)
            found['seen'].append((number, box))
            going_on.append(found)
        open_tracks, before = going_on, (name, features)
    for track in tracks:
        pack.add_track(track['label'], track['seen'])


def _near(one: str, other: str) -> bool:
    """Whether two names ALTITUDE_..._NUMBER.jpg are of one run and close to each other."""
    (run, first), (same, second) = (name[:-4].rsplit('_', 1) for name in (one, other))
    return run == same and int(second) - int(first) <= CLOSE


def _homography(one: tuple, other: tuple) -> np.ndarray | None:
    """Homography (3, 3) between the images of two sets of features, None where there is none."""
    if one[1] is None or other[1] is None:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(one[1], other[1])
    if len(pairs) < 20:
        return None
    here = np.float32([one[0][pair.queryIdx].pt for pair in pairs])
    there = np.float32([other[0][pair.trainIdx].pt for pair in pairs])
    found, inliers = cv2.findHomography(here, there, cv2.RANSAC, 3.0)
    return found if found is not None and inliers.sum() >= 25 else None


def _continued(
    box: np.ndarray, label: str, tracks: list[dict], carry: np.ndarray | None
) -> dict | None:
    """Return the one track whose last box, carried over by a homography, this box (4,) is."""
    if carry is None:
        return None
    near = []
    for track in tracks:
        last = track['seen'][-1][1]
        middle = cv2.perspectiveTransform((last[:2] + last[2:] / 2)[None, None], carry)[0, 0]
        away = np.abs(middle - box[:2] - box[2:] / 2) / np.maximum(box[2:], last[2:])
        alike = np.abs(np.log(box[2:] / last[2:])).max() < np.log(1.5)
        if track['label'] == label.lower() and alike and away.max() < 0.8:
            near.append(track)
    return near[0] if len(near) == 1 else None  # two would be a guess


def _inside(box: np.ndarray, shape: tuple[int, ...], margin: float = 1.0) -> bool:
    x, y, w, h = box
    return (
        x >= margin and y >= margin and x + w <= shape[1] - margin and y + h <= shape[0] - margin
    )


def _frames(path: Path) -> Iterator[np.ndarray]:
    film = cv2.VideoCapture(str(path))
    while True:
        there, frame = film.read()
        if not there:
            return
        yield frame[..., ::-1]


def pack_static(path: Path, film: StaticFilm, pack: Pack) -> None:
    """Cut-outs and tracks of what moves before a camera at rest, by background difference."""
    frames = [_shrink(frame) for frame in _frames(path)]
    empty, start = frames[0].copy(), 0
    for number, end in film.empty:
        end = round(end * empty.shape[1])
        empty[:, start:end], start = frames[number][:, start:end], end
    tracks: list[dict] = []
    for frame in frames[:: film.step]:
        number = None
        for box, mask in _objects(frame, empty):
            if number is None:
                number = pack.add_image(frame, 'film')
            last = [t for t in tracks if t['number'] >= number - 1 and iou(t['box'], box) > 0.3]
            track = max(last, key=lambda t: iou(t['box'], box), default=None)
            if track is None:
                track = {'seen': [], 'sprites': [], 'aspects': []}
                tracks.append(track)
            track |= {'box': box, 'number': number}
            track['seen'].append((number, box))
            if _inside(box, frame.shape, 3):  # one that the edge cuts has no outline there
                track['sprites'].append(_cut(frame, mask, box))
                track['aspects'].append(box[2] / box[3])
    for track in tracks:
        if len(track['seen']) > 1:
            pack.add_track(path.stem, track['seen'])
        if track['sprites']:
            pack.add_cutouts(path.stem, track['sprites'], track['aspects'])


def _objects(frame: np.ndarray, empty: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Box (4,) and mask float32 (H, W) of each object that the empty scene has not."""
    gain = np.median(frame.astype(np.float32) / np.maximum(empty, 1), axis=(0, 1))  # exposure
    apart = np.abs(frame - np.clip(empty * gain, 0, 255)).astype(np.float32).max(-1)
    changed = np.uint8(cv2.GaussianBlur(apart, (0, 0), 1.0) > 26)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    changed = cv2.morphologyEx(changed, cv2.MORPH_OPEN, kernel[2:5, 2:5])
    changed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, kernel)
    outlines, _ = cv2.findContours(changed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        if cv2.contourArea(outline) < 0.004 * changed.size:
            continue
        mask = np.zeros(changed.shape, np.float32)
        cv2.drawContours(mask, [outline], -1, 1.0, cv2.FILLED)
        if apart[mask > 0].mean() > 45:  # less is a shadow, or another exposure
            yield np.float64(cv2.boundingRect(outline)), cv2.GaussianBlur(mask, (0, 0), 0.8)


def _cut(frame: np.ndarray, mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    x, y, w, h = np.int64(box)
    area = slice(y - 1, y + h + 1), slice(x - 1, x + w + 1)
    cut = np.dstack([frame[area], np.uint8(255 * mask[area])])
    return cv2.resize(cut, (CUTOUT, CUTOUT), interpolation=cv2.INTER_AREA)


def pack_moving(path: Path, tracker: Callable[[], Tracker], pack: Pack) -> None:
    """
    Tracks that a teacher finds forwards and finds again backwards, so that the IoU stays high.

    Targets are started on corners in any size: anything that can be followed may be one.
    """
    frames = [_shrink(frame) for frame in _frames(path)][::STEP]
    numbers = [pack.add_image(frame, 'film') for frame in frames]
    rng = np.random.default_rng(0)
    for start in range(0, len(frames) - 4, LENGTH // 2):
        part = frames[start : start + LENGTH]  # noqa: E203
        pairs = [FramePair(frame, None, stamp=i) for i, frame in enumerate(part)]
        grey = cv2.cvtColor(part[0], cv2.COLOR_RGB2GRAY)
        for x, y in cv2.goodFeaturesToTrack(grey, 24, 0.05, 24)[:, 0]:
            w, h = 24 * np.exp(rng.normal(0, 0.35, 2) + rng.normal(0, 0.35))
            box = np.array([x - w / 2, y - h / 2, w, h])
            if not _inside(box, grey.shape):
                continue
            forward = _follow(tracker(), pairs, box)
            backward = _follow(tracker(), pairs[::-1], forward[-1])[::-1]
            agrees = all(iou(a, b) > AGREEMENT for a, b in zip(forward, backward))
            if agrees and np.ptp(forward[:, :2], axis=0).max() > 0.15 * min(w, h):
                pack.add_track(path.stem, list(zip(numbers[start:], forward)))


def _follow(tracker: Tracker, pairs: list[FramePair], box: np.ndarray) -> np.ndarray:
    tracker.initialize(pairs[0], box)
    return np.array([box, *(tracker.track(pair).box for pair in pairs[1:])])
