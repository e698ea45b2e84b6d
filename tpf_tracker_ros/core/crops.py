"""Square crops around a box, as the OSTrack family takes them."""

from dataclasses import dataclass
import math

import cv2
import numpy as np


@dataclass(frozen=True)
class Window:
    """
    A square of the image: top left corner and side, all in whole pixels.

    It may reach beyond the image; what lies outside reads as zero.
    """

    x: int
    y: int
    side: int

    @classmethod
    def around(cls, box: np.ndarray, factor: float) -> 'Window':
        """Return the window of side ceil(sqrt(w h) factor) around a box (4,) x, y, w, h."""
        x, y, w, h = box
        side = max(1, math.ceil(math.sqrt(w * h) * factor))
        return cls(round(x + w / 2 - side / 2), round(y + h / 2 - side / 2), side)

    def take(self, image: np.ndarray, size: int) -> np.ndarray:
        """
        Return the window's content (size, size[, C]) in the image's dtype, bilinear.

        Shrinking averages areas: a large target would alias at a small crop size.
        """
        height, width = image.shape[:2]
        left, top = max(0, -self.x), max(0, -self.y)
        right = max(0, self.x + self.side - width)
        bottom = max(0, self.y + self.side - height)
        rows = slice(max(0, self.y), self.y + self.side)
        columns = slice(max(0, self.x), self.x + self.side)
        inside = image[rows, columns]
        if left or top or right or bottom:
            if inside.size == 0:
                return np.zeros((size, size, *image.shape[2:]), image.dtype)
            inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT)
        how = cv2.INTER_AREA if self.side > size else cv2.INTER_LINEAR
        return cv2.resize(inside, (size, size), interpolation=how)

    def to_image(self, relative: np.ndarray) -> np.ndarray:
        """Give a box (4,) x, y, w, h in image pixels from cx, cy, w, h relative to the window."""
        cx, cy, w, h = np.asarray(relative, dtype=np.float64) * self.side
        return np.array([self.x + cx - w / 2, self.y + cy - h / 2, w, h])
