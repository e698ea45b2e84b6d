"""
What `policy: robust` adds to the published search: ours, none of it in a paper.

Each piece has one switch in TrackerConfig; the search asks it, and these functions do the work.
"""

import cv2
import numpy as np
from tpf_tracker_ros.core.boxes import centre, from_centre, iou

# Where the search crops of the first frame look, in target sizes beside the target.
FIRST_VIEWS = (0, 0), (0.4, 0.2), (-0.2, 0.4), (-0.4, -0.2), (0.2, -0.4)
LARGEST_ERROR = 1.0  # in target sizes, and of log width and height
DRAWN_BESIDE = 3.0  # px by which a side may be drawn beside the target's

THUMBNAIL = 160  # px of the longer side of what a whole frame is judged on

Pair = tuple[np.ndarray, np.ndarray]


def stand_in(
    rgb: np.ndarray | None,
    thermal: np.ndarray | None,
    blank_std: float,
    *,
    inside: tuple[slice, slice] = (slice(None), slice(None)),
    hide: bool = False,
) -> tuple[Pair, str]:
    """
    Two uint8 (H, W, 3) images of RGB and of the second camera, and those in use.

    rgb: uint8 (H, W, 3); thermal: uint8 (H, W), or (H, W, 3) in colours. An image that is absent,
    or whose contrast is below blank_std, is replaced by the other one: fusion then leaves that one
    as it is, instead of halving its contrast. inside: rows and columns that show the cameras'
    images, whose contrast counts; around them lies padding. hide: it is black instead.
    """
    grey = thermal
    if thermal is not None and thermal.ndim == 2:
        grey = cv2.cvtColor(thermal, cv2.COLOR_GRAY2RGB)
    if blank_std > 0 and rgb is not None and grey is not None:
        flat_rgb, flat_grey = (contrast(each[inside]) < blank_std for each in (rgb, thermal))
        if flat_rgb and not flat_grey:
            rgb = None
        elif flat_grey and not flat_rgb:
            grey = None
    if rgb is None:
        return (np.zeros_like(grey) if hide else grey, grey), 'thermal'
    if grey is None:
        return (rgb, np.zeros_like(rgb) if hide else rgb), 'rgb'
    return (rgb, grey), 'rgb+thermal'


def contrast(image: np.ndarray) -> float:
    """Deviation in grey levels of an image (H, W[, C]) averaged over 8 x 8 px: noise is none."""
    if image.size == 0:
        return 0.0
    height, width = (max(1, round(side / 8)) for side in image.shape[:2])
    coarse = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return float(coarse.std((0, 1)).max())


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Shrink an image (H, W[, 3]) of a whole frame: its longer side to THUMBNAIL px."""
    height, width = image.shape[:2]
    # Most of a large image is left out before the rest is averaged, which takes long.
    stride = max(1, max(height, width) // (4 * THUMBNAIL))
    scale = thumbnail_scale((width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    thinned = np.ascontiguousarray(image[::stride, ::stride])
    return cv2.resize(thinned, size, interpolation=cv2.INTER_AREA)


def thumbnail_scale(size: tuple[int, int]) -> float:
    """Px of a thumbnail in one px of a frame of this (width, height)."""
    return min(1, THUMBNAIL / max(size))


def faded(first: dict[str, float], now: dict[str, float], share: float) -> str:
    """
    Return which of two cameras has faded, '' for none: at dusk, in fog, as heat evens out.

    first, now: contrast by camera, in the first frame and in this one. A camera has faded that
    keeps less than this share of its contrast, and of what the other one keeps of its own: where
    both do, the scene has changed.
    """
    kept = {name: now[name] / first[name] for name in now if first.get(name)}
    if len(kept) == 2:
        least, most = sorted(kept, key=kept.get)
        if kept[least] < share * min(1, kept[most]):
            return least
    return ''


def first_views(box: np.ndarray) -> list[np.ndarray]:
    """Boxes (4,) of the true size around which the first frame is searched."""
    x, y, w, h = box
    return [np.array([x + right * w, y + down * h, w, h]) for right, down in FIRST_VIEWS]


def first_error(found: list[np.ndarray], box: np.ndarray) -> np.ndarray:
    """
    Return the network's error (4,) in the first frame, where the true box (4,) is known.

    found: boxes (4,) of the first views; those off the target do not count. The found centre less
    the true one in target sizes (x, y), and the log of found over true (width, height). What a
    network takes for the target's middle and extent is not always what the user drew a box
    around, and it errs alike in later frames.
    """
    errors = []
    for each in found:
        place = (centre(each) - centre(box)) / each[2:]
        if np.abs(place).max() < 0.5:
            errors.append(np.concatenate([place, np.log(each[2:] / box[2:])]))
    error = np.median(errors or [np.zeros(4)], axis=0)
    return error.clip(-LARGEST_ERROR, LARGEST_ERROR)


def without_error(found: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Take an error (4,) as first_error gives it off a found box (4,)."""
    middle, size = centre(found) - error[:2] * found[2:], found[2:] / np.exp(error[2:])
    return np.concatenate([middle - size / 2, size])


def with_error(box: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return the box (4,) that a network with this error (4,) finds where the given one is."""
    size = box[2:] * np.exp(error[2:])
    return from_centre(*(centre(box) + error[:2] * size), *size)


def is_other(found: np.ndarray, box: np.ndarray, least_overlap: float) -> bool:
    """
    Whether the found box (4,) is that of another thing than what the user drew a box (4,) around.

    Its overlap is too small then, and not since the target is: nobody draws to the pixel.
    """
    beside = found - box
    sides = np.abs([beside[:2], beside[:2] + beside[2:]])
    return bool(sides.max() > DRAWN_BESIDE and iou(found, box) < least_overlap)


def shape_of(box: np.ndarray) -> np.ndarray:
    """Sides (2,) of a box (4,) scaled to the area 1."""
    return box[2:] / np.sqrt(box[2:].prod())


def in_shape(box: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Give a box (4,) this shape (2,), with its centre and area as they are."""
    return from_centre(*centre(box), *(shape * np.sqrt(box[2:].prod())))


def eased_size(old: np.ndarray, found: np.ndarray, *, keep: float, trust: float) -> np.ndarray:
    """
    Move a size (2,) towards the found one, geometrically.

    keep: share of the old size kept at full trust (0..1); without trust all of it is. A small
    network's sizes jitter, and each crop follows from the box; as in SiamRPN, a low score moves
    the size less.
    """
    keep = 1 - (1 - keep) * trust
    return old**keep * found ** (1 - keep)


def log_odds(score: float) -> float:
    """
    Log odds of a score in 0..1, in which scores of several frames are averaged.

    One frame's score depends on where on the network's grid the target happens to lie.
    """
    score = min(max(score, 1e-6), 1 - 1e-6)
    return float(np.log(score / (1 - score)))
