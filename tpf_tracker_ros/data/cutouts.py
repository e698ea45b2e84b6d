"""
Real cut-outs moving over a real registered pair: one target among two distractors.

Where panned.py moves the camera, here the objects move on their own. Each is an oval patch of
another registered pair, pasted at the same place in both modalities; the target is never
covered, but it crosses the distractors. Everything follows from the pairs and the seed.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.data.panned import (
    check_degradation,
    choose_patch,
    DEGRADATIONS,
    degrade,
    FRAME_NS,
    read_pairs,
    smooth_path,
    to_uint8,
)

Pair = tuple[np.ndarray, np.ndarray]  # rgb uint8 (H, W, 3), thermal (H, W)


class CutoutSequence:
    """
    Cut-outs of some pairs moving over a background pair; a Sequence.

    background: rgb uint8 (H, W, 3) and thermal (H, W). objects: pairs like it, from each of
    which one oval patch is cut; the first gives the target, the others the distractors.
    size: (width, height) of the frames. degradation: as in PannedSequence.
    """

    def __init__(
        self,
        background: Pair,
        objects: list[Pair],
        *,
        seed: int,
        frames: int = 150,
        size: tuple[int, int] = (320, 240),
        degradation: str = 'none',
        name: str = 'cutout',
    ) -> None:
        check_degradation(degradation)
        for pair in (background, *objects):
            FramePair(*pair)  # refuses what is not a registered pair
        rng = np.random.default_rng(seed)
        self.seed, self.frames, self.size = seed, frames, size
        self.degradation, self.name = degradation, name
        self.background = [cover(image, size) for image in stretch(background)]
        self.patches = [cut(stretch(pair), size, rng) for pair in objects]
        self.boxes = [self._path(images[0].shape[:2], rng) for images in self.patches]
        self.ground_truth = self.boxes[0]

    def _path(self, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Boxes (N, 4) of a patch (height, width) that drifts and breathes within the frame."""
        scales = 1.2 ** (2 * smooth_path(rng, self.frames) - 1)
        sides = np.array(shape[::-1]) * scales[:, None]
        corners = np.stack([smooth_path(rng, self.frames) for _ in range(2)], -1)
        return np.concatenate([corners * (np.array(self.size) - sides), sides], axis=1)

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[FramePair]:
        for index in range(self.frames):
            frame = [image.copy() for image in self.background]
            for images, boxes in reversed(list(zip(self.patches, self.boxes))):  # target last
                frame = paste(frame, images, boxes[index])
            rgb, thermal = degrade(
                *frame, self.degradation, index / self.frames, [self.seed, index]
            )
            yield FramePair(rgb, thermal, stamp=index * FRAME_NS)


def stretch(pair: Pair) -> Pair:
    """Map thermal to 8 bits, so that cut-outs of several cameras share one range."""
    return pair[0], to_uint8(pair[1])


def cover(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the middle of the image, scaled to fill size (width, height)."""
    height, width = image.shape[:2]
    scale = min(width / size[0], height / size[1])
    crop = round(size[0] * scale), round(size[1] * scale)
    middle = cv2.getRectSubPix(image, crop, ((width - 1) / 2, (height - 1) / 2))
    return cv2.resize(middle, size, interpolation=cv2.INTER_AREA)


def cut(pair: Pair, size: tuple[int, int], rng: np.random.Generator) -> Pair:
    """Cut a textured patch (rgb, thermal) of 0.14 to 0.22 of the frame's width a side."""
    rgb, thermal = pair
    sides = size[0] * rng.uniform(0.14, 0.22, 2)
    step = min(thermal.shape[1] / size[0], thermal.shape[0] / size[1])
    x, y, w, h = choose_patch(rgb, thermal, sides * step, rng, margin=0).astype(int)
    fit = tuple(sides.round().astype(int).tolist())
    bottom, right = y + h, x + w
    return tuple(cv2.resize(image[y:bottom, x:right], fit) for image in (rgb, thermal))


def paste(frame: list[np.ndarray], images: Pair, box: np.ndarray) -> list[np.ndarray]:
    """Return the frame (rgb, thermal) with the oval of the images laid over the box x, y, w, h."""
    height, width = images[0].shape[:2]
    x, y, w, h = box
    sx, sy = w / width, h / height
    place = np.array([[sx, 0, x + sx / 2 - 0.5], [0, sy, y + sy / 2 - 0.5]])  # of pixel centres
    middle = width // 2, height // 2
    oval = cv2.ellipse(np.zeros((height, width), np.float32), middle, middle, 0, 0, 360, 1, -1)
    size = frame[0].shape[1::-1]
    alpha = cv2.warpAffine(oval, place, size)
    pasted = []
    for below, image in zip(frame, images):
        above = cv2.warpAffine(image, place, size, borderMode=cv2.BORDER_REPLICATE)
        weight = alpha[..., None] if below.ndim == 3 else alpha
        pasted.append((below * (1 - weight) + above * weight).round().astype(below.dtype))
    return pasted


def cutout_set(
    folder: Path,
    *,
    count: int = 12,
    seed: int = 0,
    degradations: tuple[str, ...] = DEGRADATIONS[:3],
) -> list[CutoutSequence]:
    """`count` sequences over pairs of folder, each with objects of three other pairs."""
    pairs = read_pairs(folder, count + 3, seed)
    sequences = []
    for index in range(count):
        (name, *background), *others = pairs[index:][:4]
        degradation = degradations[index % len(degradations)]
        sequences.append(
            CutoutSequence(
                tuple(background),
                [tuple(images) for _, *images in others],
                seed=seed + index,
                degradation=degradation,
                name=f'{name}-cutout-{degradation}',
            )
        )
    return sequences
