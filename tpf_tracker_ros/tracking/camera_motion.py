"""
How the camera moves, and whether the target stands in the scene that moves with it.

A piece of `policy: robust` (camera_motion), ours. What a robot's camera does in a frame can be
told from the whole image, where the target alone shows too little: in the dark, of a wall or a
tree. But what a camera follows stays where it is in the image while the scene moves. So a box goes
with the scene only as far as its target was seen to.
"""

import cv2
import numpy as np
from tpf_tracker_ros.core.boxes import centre, from_centre

CORNERS = 60  # that are followed, at most
LEAST_CORNERS = 12  # that must agree on one motion, and half of those that were found
BESIDE = 0.25  # target sizes around the box in which no corner is taken
FRAMES_BACK = 10  # over which the target's way is compared with the scene's
KEPT = 0.9  # share of what was known of it before, kept each frame
DOUBT = 0.005  # (target sizes)^2 of way before anything is concluded from it


class CameraMotion:
    """The camera's motion from the last frame to this one, seen in the scene around the target."""

    def __init__(self) -> None:
        self._before: dict[str, np.ndarray] = {}

    def update(
        self, small: dict[str, np.ndarray], scale: float, box: np.ndarray
    ) -> np.ndarray | None:
        """
        Return where the scene of the last frame went: (2, 3), maps its x, y px to this frame's.

        small: a thumbnail of each camera that shows anything, by name, uint8 (h, w[, 3]); the
        first one whose corners agree is believed. scale: px of a thumbnail in one px of the
        frame. box (4,): the target's in the last frame; no corner is taken there. None where the
        motion cannot be told: too few corners, or corners that move apart.
        """
        before = self._before
        self._before = {
            name: image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            for name, image in small.items()
        }
        motions = (
            _motion(before[name], image, box * scale)
            for name, image in self._before.items()
            if name in before
        )
        motion = next((each for each in motions if each is not None), None)
        if motion is None:
            return None
        linear, offset = motion[:, :2], motion[:, 2]
        middle = np.array([0.5, 0.5])  # boxes count px from an edge, corners from a px's middle
        return np.column_stack([linear, (offset + middle - linear @ middle) / scale])


def _motion(old: np.ndarray, new: np.ndarray, box: np.ndarray) -> np.ndarray | None:
    """Return the similarity (2, 3) by which most corners went, None where too few agree."""
    beside = BESIDE * box[2:]
    left, top = (box[:2] - beside).round().astype(int).clip(0)
    right, bottom = (box[:2] + box[2:] + beside).round().astype(int).clip(0)
    around = np.full(old.shape, 255, np.uint8)
    around[top:bottom, left:right] = 0
    corners = cv2.goodFeaturesToTrack(old, CORNERS, 0.01, 7, mask=around)
    if corners is None or len(corners) < LEAST_CORNERS:
        return None
    moved, seen, _ = cv2.calcOpticalFlowPyrLK(old, new, corners, None, winSize=(11, 11))
    seen = seen[:, 0] > 0
    if seen.sum() < LEAST_CORNERS:
        return None
    motion, agree = cv2.estimateAffinePartial2D(
        corners[seen], moved[seen], ransacReprojThreshold=1.0
    )
    enough = max(LEAST_CORNERS, len(corners) / 2)
    return motion if motion is not None and agree.sum() >= enough else None


def with_camera(box: np.ndarray, motion: np.ndarray, share: float) -> np.ndarray:
    """Move a box (4,) by this share (0..1) of a camera's motion (2, 3), its size by the zoom."""
    middle = centre(box)
    zoom = np.sqrt(abs(np.linalg.det(motion[:, :2])))
    moved = middle + share * (_moved(middle, motion) - middle)
    return from_centre(*moved, *(box[2:] * zoom**share))


def _moved(point: np.ndarray, motion: np.ndarray) -> np.ndarray:
    return motion[:, :2] @ point + motion[:, 2]


class Standing:
    """
    Whether a target stands in the scene: where it was found, against where the scene went.

    Each place of the last frames is carried on with the scene. What the camera moved over these
    frames is then how far the carried place is from the old one, and what the target moved by
    itself how far it is found from the carried one.
    """

    def __init__(self, middle: np.ndarray) -> None:
        self._ways = [(middle, middle)]  # (2,) px each: found there, and carried on since
        self._evidence, self._weight = 0.0, DOUBT

    @property
    def share(self) -> float:
        """1: it goes exactly with the scene; 0: it does not, or the camera never moved."""
        return min(max(self._evidence / self._weight, 0.0), 1.0)

    def carry(self, motion: np.ndarray | None, middle: np.ndarray) -> None:
        """Carry the old places on by the camera's motion (2, 3); unknown: begin at this middle."""
        if motion is None:
            self._ways = [(middle, middle)]
        else:
            self._ways = [(old, _moved(carried, motion)) for old, carried in self._ways]

    def add(self, box: np.ndarray, score: float) -> None:
        """Learn from the box (4,) that the network found, which counts as its score squared."""
        found, area = centre(box), box[2:].prod()
        old, carried = self._ways[0]
        by_camera = ((carried - old) ** 2).sum() / area
        by_itself = ((found - carried) ** 2).sum() / area
        self._evidence = KEPT * self._evidence + score**2 * (by_camera - 2 * by_itself)
        self._weight = KEPT * self._weight + (1 - KEPT) * DOUBT + score**2 * by_camera
        self._ways = [*self._ways, (found, found)][-FRAMES_BACK:]


def between(expected: np.ndarray, found: np.ndarray, trust: float) -> np.ndarray:
    """Give the box (4,) at this share (0..1) of the way from the expected to the found one."""
    middle = centre(expected) + trust * (centre(found) - centre(expected))
    return from_centre(*middle, *(expected[2:] ** (1 - trust) * found[2:] ** trust))
