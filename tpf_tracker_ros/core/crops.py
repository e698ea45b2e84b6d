"""Crops around a box: how much of the image a network sees, and cutting it out."""

from dataclasses import dataclass
import math

import cv2
import numpy as np


@dataclass(frozen=True)
class Framing:
    """
    How much around a target a network sees: window sides in multiples of the target's.

    wide: of a second look where the search window shows the target poorly; 0: there is none.
    aspect: windows have the target's shape up to this ratio; 1: square. smallest: px; search
    windows of smaller targets are as large as that one's. context: a square that also grows with
    the longer side, as SiamFC and those after it take it.
    """

    template: float = 2.0
    search: float = 4.0
    wide: float = 0.0
    aspect: float = 1.0
    smallest: float = 0.0
    context: bool = False


SQUARE = Framing()  # as the OSTrack family takes its crops
LARGEST = 1 << 24  # px of a window that is filled up with zeros in its own size: 48 MiB of colour


@dataclass(frozen=True)
class Window:
    """
    A rectangle of the image: top left corner, width and height, all in whole pixels.

    It may reach beyond the image; what lies outside reads as zero.
    """

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def around(
        cls, box: np.ndarray, factor: float, *, aspect: float = 1.0, context: bool = False
    ) -> 'Window':
        """
        Return the window whose area is factor² times that of a box (4,) x, y, w, h.

        It has the box's shape up to this aspect ratio; 1: square, of side ceil(sqrt(w h) factor).
        context: of a box whose sides are each lengthened towards the mean of both, (3 w + h) / 4
        and (3 h + w) / 4.
        """
        x, y, w, h = box
        middle = x + w / 2, y + h / 2
        if context:
            w, h = (3 * w + h) / 4, (3 * h + w) / 4
        side = math.sqrt(w * h) * factor
        stretch = math.sqrt(min(max(w / h, 1 / aspect), aspect))
        # Rounded first: the product of two roots lies a hair above the whole number it means.
        width, height = (
            max(1, math.ceil(round(length, 6))) for length in (side * stretch, side / stretch)
        )
        left, top = round(middle[0] - width / 2), round(middle[1] - height / 2)
        return cls(left, top, width, height)

    def take(self, image: np.ndarray, size: int, *, area: bool = True) -> np.ndarray:
        """
        Return the window's content (size, size[, C]) in the image's dtype, bilinear.

        area: shrinking averages areas, since a large target would alias at a small crop size;
        published trackers do without. What it takes in memory is bounded by LARGEST, however
        large the window is.
        """
        height, width = image.shape[:2]
        left, top = max(0, -self.x), max(0, -self.y)
        right = max(0, self.x + self.width - width)
        bottom = max(0, self.y + self.height - height)
        rows = slice(max(0, self.y), max(0, self.y + self.height))
        columns = slice(max(0, self.x), max(0, self.x + self.width))
        inside = image[rows, columns]
        if left or top or right or bottom:
            if inside.size == 0:
                return np.zeros((size, size, *image.shape[2:]), image.dtype)
            if self.width * self.height > LARGEST:
                return self._take_shrunk(inside, left, top, size)
            inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT)
        shrinks = area and self.width * self.height > size * size
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(inside, (size, size), interpolation=how)

    def inside(self, image_size: tuple[int, int], size: int) -> tuple[slice, slice]:
        """
        Return the rows and columns of a crop of this size that show the image and nothing else.

        image_size: width, height px. Empty slices where the window lies beside the image.
        """

        def part(start: int, length: int, limit: int) -> slice:
            first, last = max(0, -start), min(length, limit - start)
            # Without the image's outermost pixel, which is blended with the zeros beside it.
            low = math.ceil((first + 1) * size / length) if first else 0
            high = math.floor((last - 1) * size / length) if last < length else size
            return slice(low, max(low, high))

        width, height = image_size
        return part(self.y, self.height, height), part(self.x, self.width, width)

    def _take_shrunk(self, inside: np.ndarray, left: int, top: int, size: int) -> np.ndarray:
        """Shrink first, then fill up: the edge of the image lies at a whole pixel of the crop."""
        crop = np.zeros((size, size, *inside.shape[2:]), inside.dtype)
        height, width = inside.shape[:2]
        x, right = (round(px * size / self.width) for px in (left, left + width))
        y, bottom = (round(px * size / self.height) for px in (top, top + height))
        if right > x and bottom > y:
            shape = right - x, bottom - y
            crop[y:bottom, x:right] = cv2.resize(inside, shape, interpolation=cv2.INTER_AREA)
        return crop

    def to_image(self, relative: np.ndarray, *, middle: np.ndarray | None = None) -> np.ndarray:
        """
        Give a box (4,) x, y, w, h in image pixels from cx, cy, w, h relative to the window.

        middle: (2,) px, taken for the window's middle instead of that of its whole pixels, as
        published trackers map; up to half a pixel off.
        """
        sides = self.width, self.height, self.width, self.height
        cx, cy, w, h = np.asarray(relative, dtype=np.float64) * sides
        x, y = self.x, self.y
        if middle is not None:
            x, y = middle - np.array([self.width, self.height]) / 2
        return np.array([x + cx - w / 2, y + cy - h / 2, w, h])
