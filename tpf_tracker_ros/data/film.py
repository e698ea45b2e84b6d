"""
A whole film of the synthetic world, for tests and benchmarks; the demo's is in park.py.

The same painted textures as in training, with seeds of their own, filmed by an RGB camera and
a 16-bit thermal camera on one pixel grid.
"""

from collections.abc import Iterator
import math

import cv2
import numpy as np
import torch
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.data.textures import CHANNELS, cut_out, paint, TextureConfig

GROUND = 1024  # px, side of the painted ground; the camera pans over it
COUNTS_LOW, COUNTS_SPAN = 7200, 500  # raw thermal counts: a scene of a few degrees

NOISE_SHIFTS = 97

# Share of the film: what happens to the cameras and the target in that time.
DARK = (0.30, 0.45)  # the light goes out
NIGHT = 0.06  # of the light is left then
CROSSOVER = (0.60, 0.72)  # target and ground have one temperature
OCCLUSION = (0.50, 0.52)  # a distractor passes in front


class WorldSequence:
    """
    A seeded film with ground truth; implements the Sequence protocol.

    rgb: uint8, thermal: uint16 counts, ground_truth: (frames, 4) x, y, w, h px of the target's
    silhouette. Object 0 is the target, the others distract; two wear its silhouette.
    """

    def __init__(
        self,
        seed: int,
        *,
        frames: int = 300,
        size: tuple[int, int] = (640, 512),
        fps: float = 30.0,
        objects: int = 5,
    ) -> None:
        self.name = f'world-{seed}'
        self._seed, self._frames, self._size, self._fps = seed, frames, size, fps
        self._make_scene(objects)
        # Each frame's sensor noise is a random window of one large image: drawing it anew for
        # every frame would cost more than all the rest.
        shape = (size[1] + NOISE_SHIFTS, size[0] + NOISE_SHIFTS, CHANNELS)
        self._noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        self._noise *= np.array([3, 3, 3, 4], np.float32)  # grey levels; counts
        self._plan_paths(np.random.default_rng(seed), objects)
        self.ground_truth = np.array([self._box(frame) for frame in range(frames)])

    def __len__(self) -> int:
        return self._frames

    def __iter__(self) -> Iterator[FramePair]:
        rng = np.random.default_rng(self._seed + 1)
        for frame in range(self._frames):
            rgb, thermal = self._film(self._draw(frame), frame / self._frames, rng)
            yield FramePair(rgb, thermal, stamp=round(frame * 1e9 / self._fps))

    def _make_scene(self, objects: int) -> None:
        """Make the ground (H, W, 4) and the sprites (L, S, S, 5), float32 in 0..1."""
        generator = torch.Generator().manual_seed(self._seed)
        ground = paint(
            1, 512, leaves=50, largest=0.35, generator=generator, config=TextureConfig(grains=6)
        )[0]
        self._ground = cv2.resize(
            ground.permute(1, 2, 0).numpy(), (GROUND, GROUND), interpolation=cv2.INTER_CUBIC
        )
        dress = paint(objects, 96, leaves=6, largest=0.9, generator=generator)
        shapes = cut_out(objects, 96, generator)
        shapes[1:3] = shapes[0]
        self._sprites = torch.cat([dress, shapes[:, None]], 1).permute(0, 2, 3, 1).numpy()

    def _plan_paths(self, rng: np.random.Generator, objects: int) -> None:
        """Smooth centres, half-sizes and angles of all objects, and the camera's pan."""
        time = np.linspace(0, self._frames / self._fps, self._frames)[:, None]
        width, height = self._size

        def swing(amplitude: float, columns: int) -> np.ndarray:
            """Return a sum of slow sines that starts anywhere: (frames, columns)."""
            speed = rng.uniform(0.3, 1.3, (3, columns))
            phase = rng.uniform(0, 2 * math.pi, (3, columns))
            return amplitude * np.sin(time[:, None] * speed + phase).mean(1) * 1.7

        self._pan = swing(90, 2)
        room = np.array([width, height]) * 0.32
        self._centres = np.stack(
            [np.array([width, height]) / 2 + swing(1, 2) * room for _ in range(objects)]
        )
        size = rng.uniform(22, 40, objects)
        aspect = np.exp(rng.normal(0, 0.25, objects))
        zoom = np.exp(np.stack([swing(0.25, 1)[:, 0] for _ in range(objects)]))  # (L, frames)
        self._halves = np.stack([size * aspect, size / aspect], -1)[:, None] * zoom[..., None]
        self._angles = np.stack([swing(0.35, 1)[:, 0] for _ in range(objects)])
        # The last distractor crosses the target's place while it occludes.
        start, end = (round(share * self._frames) for share in OCCLUSION)
        middle = np.clip((start + end) // 2, 0, self._frames - 1)
        self._centres[-1] += self._centres[0, middle] - self._centres[-1, middle]

    def _to_image(self, index: int, frame: int) -> np.ndarray:
        """Affine map (2, 3) from a sprite's pixels to the image's."""
        side = self._sprites.shape[1]
        half, angle = self._halves[index, frame] * 2 / side, self._angles[index, frame]
        cos, sin = math.cos(angle), math.sin(angle)
        linear = np.array([[cos * half[0], -sin * half[1]], [sin * half[0], cos * half[1]]])
        centre = self._centres[index, frame]
        return np.column_stack([linear, centre - linear.sum(1) * (side - 1) / 2])

    def _box(self, frame: int) -> np.ndarray:
        """Return the target's bounding box, from its silhouette's outline under the map."""
        rows, columns = np.nonzero(self._sprites[0, ..., CHANNELS] > 0.5)
        to_image = self._to_image(0, frame)
        points = to_image[:, :2] @ np.stack([columns, rows]) + to_image[:, 2:]
        pixel = np.abs(to_image[:, :2]).sum(1) / 2  # half a sprite pixel reaches this far
        low, high = points.min(1) - pixel, points.max(1) + pixel
        width, height = self._size
        low, high = np.clip(low + 0.5, 0, (width, height)), np.clip(high + 0.5, 0, (width, height))
        return np.concatenate([low, high - low])

    def _draw(self, frame: int) -> np.ndarray:
        """Return the clean scene (H, W, 4), float32 in 0..1."""
        width, height = self._size
        rest = (np.array(self._ground.shape[1::-1]) - self._size) / 2 + self._pan[frame]
        shift = np.array([[1, 0, -rest[0]], [0, 1, -rest[1]]], np.float64)
        canvas = cv2.warpAffine(
            self._ground, shift, (width, height), borderMode=cv2.BORDER_REFLECT
        )
        last = len(self._sprites) - 1
        for index in (*range(1, last), 0, last):
            faint = index == 0 and CROSSOVER[0] <= frame / self._frames < CROSSOVER[1]
            self._paste(canvas, index, frame, np.array([1, 1, 1, 0.1 if faint else 1], np.float32))
        return canvas

    def _paste(self, canvas: np.ndarray, index: int, frame: int, shows: np.ndarray) -> None:
        """Lay one object over the canvas, within the square that can hold it."""
        reach = math.ceil(math.hypot(*self._halves[index, frame])) + 1
        x, y = np.round(self._centres[index, frame]).astype(int) - reach
        left, top = max(x, 0), max(y, 0)
        bottom, right = max(y + 2 * reach, 0), max(x + 2 * reach, 0)
        area = canvas[top:bottom, left:right]
        if area.size == 0:
            return
        to_area = self._to_image(index, frame)
        to_area[:, 2] -= left, top
        size, sprite = area.shape[1::-1], self._sprites[index]
        dress = cv2.warpAffine(
            sprite[..., :CHANNELS], to_area, size, borderMode=cv2.BORDER_REPLICATE
        )
        alpha = cv2.warpAffine(np.ascontiguousarray(sprite[..., CHANNELS]), to_area, size)
        area += alpha[..., None] * shows * (dress - area)

    def _light(self, share: float) -> float:
        """Return how much light there is at this share of the film."""
        return NIGHT if DARK[0] <= share < DARK[1] else 1.0

    def _film(
        self, scene: np.ndarray, share: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what the two cameras record of a clean scene at this share of the film."""
        left, top = rng.integers(0, NOISE_SHIFTS, 2)
        height, width = scene.shape[:2]
        noise = self._noise[top:, left:][:height, :width]
        light = self._light(share)
        scene[..., 3] = cv2.GaussianBlur(scene[..., 3], (0, 0), 1.0)
        scene *= np.array([255 * light] * 3 + [COUNTS_SPAN], np.float32)
        scene += noise
        rgb = np.clip(scene[..., :3], 0, 255).astype(np.uint8)
        return rgb, (scene[..., 3] + COUNTS_LOW).astype(np.uint16)
