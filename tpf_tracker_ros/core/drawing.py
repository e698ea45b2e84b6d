"""The only drawing of boxes: the node's overlay, `tpf track --video` and the demo look alike."""

import cv2
import numpy as np

# Okabe and Ito's palette: told apart by colour-blind eyes, and on dark and bright images.
COLOURS = {
    'IDLE': (153, 153, 153),
    'TRACKING': (0, 220, 150),
    'UNCERTAIN': (230, 159, 0),
    'LOST': (213, 94, 0),
}
GROUND_TRUTH = (255, 255, 255)


def draw_result(
    rgb: np.ndarray,
    box: np.ndarray | None,
    *,
    state: str,
    score: float,
    ground_truth: np.ndarray | None = None,
) -> np.ndarray:
    """
    Return a copy of the image with the box, its state and its score; colour tells the state.

    rgb: uint8 (H, W, 3). box, ground_truth: (4,) x, y, w, h in pixels; None or NaN is not drawn.
    state: a TrackState or its name. Returns uint8 (H, W, 3).
    """
    image = np.ascontiguousarray(rgb).copy()
    height, width = image.shape[:2]
    state = state.upper()
    colour = COLOURS[state]
    thick = max(1, round(min(height, width) / 300))
    if ground_truth is not None:
        _rectangle(image, ground_truth, GROUND_TRUTH, 1)
    if box is not None:
        _rectangle(image, box, colour, thick)
    size = min(height, width) / 800 + 0.15
    origin = (round(12 * size), round(34 * size))
    for shade, extra in ((0, 0, 0), 2), (colour, 0):
        cv2.putText(
            image,
            f'{state} {score:.2f}',
            origin,
            cv2.FONT_HERSHEY_SIMPLEX,
            size,
            shade,
            thick + extra,
            cv2.LINE_AA,
        )
    return image


def _rectangle(image: np.ndarray, box: np.ndarray, colour: tuple, thick: int) -> None:
    """Draw around the box, not over it, so that small targets stay visible; black edge outside."""
    x, y, w, h = np.asarray(box, dtype=np.float64)
    if not np.isfinite((x, y, w, h)).all():
        return
    # cv2 counts in 32 bits; what lies far outside is not seen anyway.
    limit = 4 * max(image.shape)
    corners = np.clip([np.floor([x, y]), np.ceil([x + w, y + h]) - 1], -limit, limit)
    left, top, right, bottom = corners.astype(int).ravel().tolist()
    for grow in range(1, thick + 2):
        shade = colour if grow <= thick else (0, 0, 0)
        cv2.rectangle(image, (left - grow, top - grow), (right + grow, bottom + grow), shade)
