"""Bounding boxes: float64 (..., 4) arrays of x, y, w, h in pixels; x, y is the top left corner."""

from decimal import Decimal

import numpy as np
from tpf_tracker_ros.core.errors import TpfError


def parse_box(text: str) -> np.ndarray:
    """'X,Y,W,H' as a box (4,). Raises TpfError when it is not four finite numbers."""
    try:
        box = np.array([float(part) for part in text.split(',')])
    except ValueError:
        box = np.empty(0)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise TpfError(f'box {text!r} is not four numbers; write it as X,Y,W,H in pixels')
    return box


def parse_target(text: str) -> tuple[np.ndarray, int | None]:
    """
    'X,Y,W,H' or 'X,Y,W,H@SECONDS' as a box (4,) and a stamp in ns, or None.

    Raises TpfError when it is neither.
    """
    box, at, seconds = text.partition('@')
    try:
        stamp = int(Decimal(seconds) * 1_000_000_000) if at else None
    except (ArithmeticError, ValueError):
        raise TpfError(
            f'stamp {seconds!r} of box {text!r} is not a number of seconds; '
            'write it as X,Y,W,H@SECONDS'
        ) from None
    return parse_box(box), stamp


def check_box(box: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """
    Return the box as float64 (4,) when a tracker can start on it, else TpfError.

    image_size: (width, height). The box must be finite, at least 1 px wide and high, no larger
    than the image, and its centre must lie in the image. The one rule for every box that comes
    in, whoever gives it.
    """
    try:
        box = np.asarray(box, dtype=np.float64)
    except (TypeError, ValueError):
        raise TpfError(f'box {box!r} is not four numbers; give x,y,w,h in pixels') from None
    shown = ','.join(f'{value:g}' for value in box.ravel())
    if box.shape != (4,) or not np.isfinite(box).all():
        raise TpfError(f'box {shown} is not four finite numbers; give x,y,w,h in pixels')
    x, y, w, h = box
    if w < 1 or h < 1:
        raise TpfError(f'box {shown} is empty; width and height must be at least 1 px')
    width, height = image_size
    wrong = None
    if w > width or h > height:
        wrong = 'is larger than'
    elif not (0 <= x + w / 2 < width and 0 <= y + h / 2 < height):
        wrong = 'has its centre outside'
    if wrong:
        raise TpfError(
            f'box {shown} {wrong} the {width}x{height} image; '
            'give x,y,w,h in pixels of the rgb image'
        )
    return box


def centre(boxes: np.ndarray) -> np.ndarray:
    """Centres (..., 2) of boxes (..., 4)."""
    return boxes[..., :2] + boxes[..., 2:] / 2


def from_centre(cx: float, cy: float, w: float, h: float) -> np.ndarray:
    """Return the box (4,) of this centre and size."""
    return np.array([cx - w / 2, cy - h / 2, w, h], dtype=np.float64)


def clip_box(box: np.ndarray, image_size: tuple[int, int], margin: float = 10) -> np.ndarray:
    """Clip a box (4,) to the image so that at least margin px stay inside (OSTrack's rule)."""
    width, height = image_size
    x, y, w, h = box
    x1 = min(max(0.0, x), width - margin)
    y1 = min(max(0.0, y), height - margin)
    x2 = min(max(margin, x + w), width)
    y2 = min(max(margin, y + h), height)
    return np.array([x1, y1, max(margin, x2 - x1), max(margin, y2 - y1)], dtype=np.float64)


def inside_image(box: np.ndarray, image_size: tuple[int, int]) -> bool:
    """Whether the whole box (4,) lies in the image."""
    width, height = image_size
    x, y, w, h = box
    return bool(x >= 0 and y >= 0 and x + w <= width and y + h <= height)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (...) of boxes a (..., 4) and b (..., 4), broadcast."""
    top_left = np.maximum(a[..., :2], b[..., :2])
    bottom_right = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    overlap = np.clip(bottom_right - top_left, 0, None).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def present(ground_truth: np.ndarray) -> np.ndarray:
    """Which frames (N,) show the target: rows that are finite with width and height above 0."""
    return np.isfinite(ground_truth).all(1) & (ground_truth[:, 2:] > 0).all(1)
