"""
Sequences panned over one registered pair of images.

A virtual camera moves, zooms and turns a little over a real pair; the target is a fixed patch
of the scene, so its box is known exactly in every view. One modality, or each in its turn, can
be degraded. Everything follows from the pair and the seed.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair

FRAME_NS = 33_333_333
DEGRADATIONS = ('none', 'rgb_dark', 'thermal_blank', 'switch', 'fade')
FADED = 0.06  # of the light and of the thermal contrast is left where a camera has faded most
READ_NOISE = 2.0  # of 255 grey levels: deviation in the dark, and in both images of 'fade'


class PannedSequence:
    """
    A camera panning over a registered pair; a Sequence.

    rgb: uint8 (H, W, 3). thermal: uint8 or uint16 (H, W). size: (width, height) of the views.
    degradation: 'none'; 'rgb_dark': RGB at night; 'thermal_blank': a thermal image without
    contrast; 'switch': RGB dark in the first half, thermal blank in the second; 'fade': RGB
    loses its light and has it back in the first half, then thermal its contrast.
    """

    def __init__(
        self,
        rgb: np.ndarray,
        thermal: np.ndarray,
        *,
        seed: int,
        frames: int = 150,
        size: tuple[int, int] = (320, 240),
        degradation: str = 'none',
        name: str = 'panned',
    ) -> None:
        check_degradation(degradation)
        FramePair(rgb, thermal)  # refuses what is not a registered pair
        self.rgb, self.thermal = rgb, thermal
        self.seed, self.frames, self.size = seed, frames, size
        self.degradation, self.name = degradation, name
        rng = np.random.default_rng(seed)
        height, width = thermal.shape
        # Source pixels per view pixel when zoomed to the middle: half to two thirds of the scene.
        step = min(width / size[0], height / size[1]) * rng.uniform(0.5, 0.65)
        patch_size = step * size[0] * rng.uniform(0.12, 0.25, 2)
        self.patch = patch = choose_patch(rgb, thermal, patch_size, rng, margin=0.1)
        steps = step * 1.3 ** (2 * smooth_path(rng, frames) - 1)
        angles = np.radians(5) * (2 * smooth_path(rng, frames) - 1)
        self.warps = self._camera(patch, steps, angles, rng)  # (N, 2, 3) scene -> view
        # Warps map pixel centres; edges lie half a pixel beside them.
        x, y, w, h = patch - (0.5, 0.5, 0, 0)
        corners = np.array([[x, y, 1], [x + w, y, 1], [x + w, y + h, 1], [x, y + h, 1]])
        seen = corners @ self.warps.transpose(0, 2, 1) + 0.5  # (N, 4 corners, 2)
        self.ground_truth = np.concatenate([seen.min(1), np.ptp(seen, axis=1)], axis=1)

    def _camera(
        self, patch: np.ndarray, steps: np.ndarray, angles: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Warps (N, 2, 3) whose views stay in the scene and hold the whole patch."""
        scene = np.array(self.thermal.shape[::-1])
        view = np.array(self.size)
        cos, sin = np.cos(angles), np.sin(angles)
        turn = np.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)  # scene -> view
        outer = steps[:, None] * (np.abs(turn) @ view) / 2  # half the turned view, scene px
        slack = np.abs(sin)[:, None] * (outer[:, ::-1] + patch[2:])  # what a turn can take away
        inner = steps[:, None] * view / 2 - patch[2:] / 2 - slack
        middle = patch[:2] + patch[2:] / 2
        low = np.maximum(outer, middle - inner)
        high = np.minimum(scene - outer, middle + inner)
        path = np.stack([smooth_path(rng, self.frames) for _ in range(2)], -1)
        centres = np.where(low < high, low + path * (high - low), (low + high) / 2)
        linear = turn / steps[:, None, None]
        offsets = view / 2 - np.einsum('nij,nj->ni', linear, centres)
        return np.concatenate([linear, offsets[..., None]], -1)

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[FramePair]:
        for index, warp in enumerate(self.warps):
            rgb, thermal = (
                cv2.warpAffine(image, warp, self.size, borderMode=cv2.BORDER_REFLECT_101)
                for image in (self.rgb, self.thermal)
            )
            rgb, thermal = degrade(
                rgb, thermal, self.degradation, index / self.frames, [self.seed, index]
            )
            yield FramePair(rgb, thermal, stamp=index * FRAME_NS)


def check_degradation(degradation: str) -> None:
    """Raise TpfError on an unknown degradation."""
    if degradation not in DEGRADATIONS:
        raise TpfError(f'degradation {degradation!r} is not one of {", ".join(DEGRADATIONS)}')


def smooth_path(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Return a smooth random walk (frames,) that fills 0..1: three slow sines of random phase."""
    cycles = rng.uniform(0.5, 1, 3) * (1, 2, 3) * frames / 150
    phases = rng.uniform(0, 2 * np.pi, 3)
    time = np.linspace(0, 2 * np.pi, frames)[:, None]
    path = (np.sin(cycles * time + phases) / (1, 2, 3)).sum(1)
    return (path - path.min()) / max(np.ptp(path), 1e-9)


def degrade(
    rgb: np.ndarray, thermal: np.ndarray, degradation: str, progress: float, seed: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Degrade the pair as cameras do; progress in 0..1 tells 'switch' and 'fade' how far it is."""
    rng = np.random.default_rng(seed)
    if degradation == 'switch':
        degradation = 'rgb_dark' if progress < 0.5 else 'thermal_blank'
    if degradation == 'rgb_dark':
        rgb = _read(rgb * 0.02, READ_NOISE, rng, rgb.dtype)  # read noise hides what is left
    elif degradation == 'thermal_blank':
        noise = rng.normal(0, 0.01, thermal.shape)
        thermal = ((0.5 + noise) * np.iinfo(thermal.dtype).max).astype(thermal.dtype)
    elif degradation == 'fade':
        left = 1 - (1 - FADED) * np.sin(2 * np.pi * progress) ** 2
        light, contrast = (left, 1.0) if progress < 0.5 else (1.0, left)
        level, noise = thermal.mean(), READ_NOISE / 255 * np.ptp(thermal)
        rgb = _read(rgb * light, READ_NOISE, rng, rgb.dtype)
        thermal = _read(level + (thermal - level) * contrast, noise, rng, thermal.dtype)
    return rgb, thermal


def _read(
    image: np.ndarray, noise: float, rng: np.random.Generator, dtype: np.dtype
) -> np.ndarray:
    """Return the image as a camera reads it, with noise of this deviation."""
    read = image + rng.normal(0, noise, image.shape)
    return np.clip(read, 0, np.iinfo(dtype).max).astype(dtype)


def choose_patch(
    rgb: np.ndarray,
    thermal: np.ndarray,
    size: np.ndarray,
    rng: np.random.Generator,
    *,
    margin: float,
    tries: int = 48,
) -> np.ndarray:
    """
    Give a box (4,) of about this (width, height) that a person could follow in either modality.

    Of some random boxes that keep clear of the image's border by margin (a part of its side), the
    seed picks one of the three whose weaker image has the most texture and looks least like
    another part of the scene.
    """
    height, width = thermal.shape
    w, h = (max(8, round(side)) for side in size)
    limits = [
        (round(margin * side), round((1 - margin) * side) - part)
        for side, part in ((width, w), (height, h))
    ]
    if any(low >= high for low, high in limits):
        raise TpfError(f'image pair is {width}x{height}, too small for a patch of {w}x{h}')
    boxes = np.array([[rng.integers(*limit) for limit in limits] for _ in range(tries)])
    # Half the resolution tells the same for a quarter of the time.
    greys = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), to_uint8(thermal)
    halves = [cv2.pyrDown(grey) for grey in greys]
    quality = []
    for x, y in boxes // 2:
        parts = (x, y, w // 2, h // 2)
        quality.append(min(texture(half, *parts) * distinctness(half, *parts) for half in halves))
    x, y = boxes[rng.choice(np.argsort(quality)[-3:])]
    return np.array([x, y, w, h], dtype=np.float64)


def texture(image: np.ndarray, x: int, y: int, w: int, h: int) -> float:
    """How much the patch fixes both directions: its weaker gradient energy, as a grey level."""
    bottom, right = y + h, x + w
    patch = cv2.GaussianBlur(image[y:bottom, x:right], (0, 0), 1).astype(np.float32)
    dx, dy = cv2.Sobel(patch, cv2.CV_32F, 1, 0), cv2.Sobel(patch, cv2.CV_32F, 0, 1)
    tensor = [[(dx * dx).mean(), (dx * dy).mean()], [(dx * dy).mean(), (dy * dy).mean()]]
    return float(np.sqrt(max(np.linalg.eigvalsh(tensor)[0], 0)))


def distinctness(image: np.ndarray, x: int, y: int, w: int, h: int) -> float:
    """1 - the correlation of the patch with the most similar other place in the image."""
    bottom, right = y + h, x + w
    match = cv2.matchTemplate(image, image[y:bottom, x:right], cv2.TM_CCOEFF_NORMED)
    rows = slice(max(0, y - h // 2), y + h // 2)
    columns = slice(max(0, x - w // 2), x + w // 2)
    match[rows, columns] = -1
    return float(np.clip(1 - np.nan_to_num(match).max(), 0, 1))


def to_uint8(thermal: np.ndarray) -> np.ndarray:
    """Thermal of any depth as uint8 between its own extremes."""
    return cv2.normalize(thermal, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)


def read_pairs(folder: Path, count: int, seed: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """
    (name, rgb, thermal) of `count` seeded pairs of folder/visible and folder/infrared.

    Images of one scene have the same file name in both. Raises TpfError when there are too few.
    """
    names = sorted(
        path.name
        for path in (folder / 'visible').glob('*')
        if (folder / 'infrared' / path.name).is_file()
    )
    if len(names) < count:
        raise TpfError(
            f'{folder} has {len(names)} pairs visible/NAME, infrared/NAME; {count} are needed'
        )
    picked = np.random.default_rng(seed).permutation(names)[:count]
    pairs = []
    for name in picked:
        rgb = cv2.imread(str(folder / 'visible' / name))
        thermal = cv2.imread(
            str(folder / 'infrared' / name), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
        )
        if rgb is None or thermal is None:
            raise TpfError(f'{folder}: image pair {name} cannot be decoded; restore it')
        pairs.append((Path(name).stem, cv2.cvtColor(rgb, cv2.COLOR_BGR2RGB), thermal))
    return pairs


def panned_set(
    folder: Path,
    *,
    count: int = 10,
    seed: int = 0,
    degradations: tuple[str, ...] = DEGRADATIONS[:3],
) -> list[PannedSequence]:
    """`count` sequences over pairs of folder, degraded in turn: a third dark, a third blank."""
    return [
        PannedSequence(
            rgb,
            thermal,
            seed=seed + index,
            degradation=degradations[index % len(degradations)],
            name=f'{name}-{degradations[index % len(degradations)]}',
        )
        for index, (name, rgb, thermal) in enumerate(read_pairs(folder, count, seed))
    ]
