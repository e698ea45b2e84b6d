"""
Real images on the training device: textures and cut-outs for the world, and tracked targets.

They come from the folder that `samples/pack.py` makes. Photographs have no temperature: theirs is
a smooth random function of colour, drawn for each crop, with contrasts as real thermal cameras
show them. Thermal images have no colour: RGB is the grey image, as where a camera is absent, or
dark.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Generator, Tensor
import torch.nn.functional as F
from tpf_tracker_ros.core.crops import Framing
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.textures import uniform

# Of HIT-UAV, in full scale: deviation in an image; median contrast of what lies in a box to the
# ring around it, by night and by day; deviation within.
HEAT_DEVIATION = 0.14
HEAT_CONTRAST = {
    'intel_one-by-one-person': (0.27, 0.08),
    'intel_car-detection': (-0.14, 0.075),
    'intel_bottle-detection': (0.1, -0.1),
}
HEAT_INSIDE = 0.15
WAVES = 4  # of colour that make a temperature


@dataclass(frozen=True)
class RealConfig:
    """Which real images the world has, and how often."""

    folder: str = ''  # made by `tpf train pack`; '': none
    background_share: float = 0.5  # scenes that lie in a real image
    crops: int = 4  # of a photograph
    thermal_step: int = 4  # every which thermal image is a background, too
    sprite_share: float = 0.4  # objects that are real cut-outs
    cutout_time: float = 6.0  # deviation of the cut-outs between two views, in those of its film
    track_share: float = 0.3  # samples of a target tracked through real images
    film_share: float = 0.4  # of those, the ones in films rather than thermal images
    still_share: float = 0.3  # of the thermal ones, the same image under two crops
    alone_share: float = 0.6  # tracked samples in which the one image stands in for the other
    night_light: tuple[float, float] = (0.0, 0.12)  # RGB beside a thermal image otherwise


@dataclass(frozen=True)
class Tracks:
    """
    Targets in images: uint8 (F, 3, H, W), each in the top left corner of one canvas.

    extent: (F, 2) width and height px of each image; thermal: bool (F,). image: (E,) and box:
    (E, 4) x, y, w, h px of all entries; first and length (T,) say which are a track's. kinds:
    track numbers by what they are drawn for: 'film', 'moving' and 'still'.
    """

    images: Tensor
    extent: Tensor
    thermal: Tensor
    image: Tensor
    box: Tensor
    first: Tensor
    length: Tensor
    kinds: dict[str, Tensor]


class RealImages:
    """All of a pack. Raises TpfError where the folder is none."""

    def __init__(self, config: RealConfig, generator: Generator) -> None:
        self.config, self.generator, self.device = config, generator, generator.device
        self._folder = Path(config.folder)
        path = self._folder / 'pack.json'
        if not path.is_file():
            raise TpfError(f'{self._folder} holds no pack.json; make it by `tpf train pack`')
        self._index = json.loads(path.read_text())
        with ThreadPoolExecutor() as pool:
            self._images = list(pool.map(self._read, self._index['images']))

    def backgrounds(self, size: int) -> Tensor:
        """Textures (N, 4, size, size) float in 0..1: r, g, b, temperature."""
        config, rng = self.config, np.random.default_rng(self.generator.initial_seed())
        photos = self._of('photo') * config.crops
        colour = self._to_device(np.stack([_crop(image, size, rng) for image in photos]))
        thermal = self._of('thermal')[:: config.thermal_step]
        crops = [_crop(image, size, rng) for image in thermal]
        grey = self._to_device(np.stack(crops))
        return torch.cat(
            [
                torch.cat([colour, draw_heat(len(colour), self.generator)(colour)], 1),
                torch.cat([grey, grey[:, :1]], 1),
            ]
        )

    def _read(self, entry: dict) -> np.ndarray:
        """Return the image of an entry of the index, uint8 (H, W, 3) RGB."""
        image = cv2.imread(str(self._folder / entry['file']))
        if image is None:
            raise TpfError(f'{self._folder / entry["file"]} cannot be read; make the pack again')
        return image[..., ::-1]

    def _of(self, kind: str) -> list[np.ndarray]:
        entries = zip(self._index['images'], self._images)
        return [image for entry, image in entries if entry['kind'] == kind]

    def _to_device(self, images: np.ndarray) -> Tensor:
        """Images uint8 (N, H, W, C) as float (N, C, H, W) in 0..1."""
        return torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float() / 255

    def cutouts(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """
        Objects (M, 5, size, size): r, g, b, temperature, alpha; their log w/h (M,); runs (M, 2).

        A run is the first and the last number of those that show the same object over time. Each
        run is there twice, with its temperature by night and by day.
        """
        sprites, aspects, runs, count = [], [], [], 0
        for entry in self._index['cutouts']:
            sheet = cv2.imread(str(self._folder / entry['file']), cv2.IMREAD_UNCHANGED)
            shots = np.split(sheet[..., [2, 1, 0, 3]], len(entry['aspects']), axis=1)
            shots = [
                cv2.resize(shot, (size, size), interpolation=cv2.INTER_AREA) for shot in shots
            ]
            shown = self._to_device(np.stack(shots))
            pattern = draw_heat(1, self.generator)(shown[:, :3]) - 0.5
            for contrast in HEAT_CONTRAST.get(entry['label'], (0.1, -0.1)):
                heat = 0.5 + contrast + pattern * (HEAT_INSIDE / HEAT_DEVIATION)
                sprites.append(torch.cat([shown[:, :3], heat.clamp(0, 1), shown[:, 3:]], 1))
                aspects += np.log(entry['aspects']).tolist()
                runs += [(count, count + len(shots) - 1)] * len(shots)
                count += len(shots)
        tensors = torch.tensor(aspects), torch.tensor(runs)
        return torch.cat(sprites), *(each.to(self.device) for each in tensors)

    def tracks(self) -> Tracks:
        """All targets with a box, and the images that they are in."""
        used = sorted({number for track in self._index['tracks'] for number in track['images']})
        images = [self._images[number] for number in used]
        thermal = [self._index['images'][number]['kind'] == 'thermal' for number in used]
        extent = np.array([image.shape[1::-1] for image in images])
        canvas = np.zeros((len(images), 3, *extent.max(0)[::-1]), np.uint8)
        for slot, image in zip(canvas, images):
            slot[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
        place = {number: slot for slot, number in enumerate(used)}
        lengths = np.array([len(track['boxes']) for track in self._index['tracks']])
        image = [place[number] for track in self._index['tracks'] for number in track['images']]
        box = [box for track in self._index['tracks'] for box in track['boxes']]
        first = np.cumsum(lengths) - lengths
        hot = np.array(thermal)[np.array(image)[first]]
        kinds = {'film': ~hot, 'moving': hot & (lengths > 1), 'still': hot}
        arrays = extent, np.array(thermal), np.array(image), np.array(box, np.float32)
        return Tracks(
            *(torch.from_numpy(each).to(self.device) for each in (canvas, *arrays)),
            *(torch.from_numpy(each).to(self.device) for each in (first, lengths)),
            {k: torch.from_numpy(np.flatnonzero(v)).to(self.device) for k, v in kinds.items()},
        )


def _crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a random square out of an image, between `size` px and all of its height."""
    height, width = image.shape[:2]
    side = int(rng.integers(min(size, height, width), min(height, width) + 1))
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    rows, columns = slice(y, y + side), slice(x, x + side)
    return cv2.resize(image[rows, columns], (size, size), interpolation=how)


def draw_heat(count: int, generator: Generator) -> Callable[[Tensor], Tensor]:
    """
    Draw random smooth functions of colour: images (count, 3, H, W) to heat (count, 1, H, W).

    With a count of 1, one function for any number of images.
    """
    device = generator.device
    turn = 5 * torch.randn(count, WAVES, 3, 1, 1, generator=generator, device=device)
    phase = uniform(0, 2 * torch.pi, count, WAVES, 1, 1, generator=generator)
    weight = torch.randn(count, WAVES, 1, 1, generator=generator, device=device)
    weight = weight / weight.norm(dim=1, keepdim=True) * (HEAT_DEVIATION * 2**0.5)

    def heat(colour: Tensor) -> Tensor:
        result = torch.full_like(colour[:, :1], 0.5)
        for wave in range(WAVES):
            angle = (turn[:, wave] * colour).sum(1, keepdim=True) + phase[:, wave, None]
            result = result + weight[:, wave, None] * angle.sin()
        return result.clamp(0, 1)

    return heat


def draw_tracked(
    tracks: Tracks, batch: int, config: RealConfig, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Images (B, 3) and boxes (B, 3, 4) x, y, w, h px of one target at three times, in order."""
    device = generator.device
    film = uniform(0, 1, batch, generator=generator) < config.film_share
    still = uniform(0, 1, batch, generator=generator) < config.still_share

    def one_of(kind: str) -> Tensor:
        numbers = tracks.kinds[kind]
        return numbers[torch.randint(len(numbers), (batch,), generator=generator, device=device)]

    track = torch.where(still, one_of('still'), one_of('moving'))
    track = torch.where(film, one_of('film'), track)
    length = tracks.length[track]
    times = uniform(0, 1, batch, 3, generator=generator).sort(1).values
    times[:, 0] *= 0.5  # the initial template is old more often than not
    at = (times * length[:, None]).long()
    at = torch.where((still & ~film)[:, None], at[:, :1], at)
    entry = tracks.first[track][:, None] + at
    return tracks.image[entry], tracks.box[entry]


def tracked_windows(
    boxes: Tensor, world, framing: Framing, generator: Generator
) -> tuple[Tensor, Tensor]:
    """
    Windows (B, 3, 4) x, y, w, h px around boxes (B, 3, 4), jittered as the world's views are.

    The second value is the last box (B, 4) cx, cy, w, h relative to the last window.
    """
    batch = len(boxes)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=boxes.device)

    def chance(share: float) -> Tensor:
        return uniform(0, 1, batch, generator=generator) < share

    middle, sides = boxes[..., :2] + boxes[..., 2:] / 2, boxes[..., 2:]
    aspect = (sides[..., 0] / sides[..., 1]).log()
    length = sides.prod(-1).sqrt()
    _, dynamic, search = range(3)
    middle[:, dynamic] += sides[:, dynamic] * normal(batch, 2) * world.dynamic_jitter
    factor = torch.full_like(length, framing.template)
    factor[:, dynamic] *= torch.exp(normal(batch) * world.dynamic_jitter)
    aspect[:, dynamic] += normal(batch) * world.dynamic_jitter
    wide = chance(world.wide_share if framing.wide else 0)
    view = torch.where(wide, framing.wide, framing.search)
    view = view * (framing.smallest / length[:, search]).clamp(min=1)
    most = world.search_scale_limit
    scale = (normal(batch) * world.search_scale).clamp(-most, most).exp()
    factor[:, search] = view * scale
    aspect[:, search] += normal(batch) * world.search_aspect
    limit = float(np.log(framing.aspect))
    aspect = aspect.clamp(-limit, limit) / 2
    window = (length * factor)[..., None] * torch.stack([aspect, -aspect], -1).exp()
    shift = uniform(-1, 1, batch, 2, generator=generator) * world.search_shift
    shift = shift * (0.5 - 0.5 / view[:, None])
    away = chance(world.absent_share)[:, None]
    shift = torch.where(away, shift.sign() * (1 + shift.abs()), shift)
    middle[:, search] += shift * window[:, search]
    corner = middle - window / 2
    true_middle = boxes[:, search, :2] + boxes[:, search, 2:] / 2
    place = (true_middle - corner[:, search]) / window[:, search]
    box = torch.cat([place, boxes[:, search, 2:] / window[:, search]], 1)
    return torch.cat([corner, window], -1), box


def take_windows(images: Tensor, extent: Tensor, windows: Tensor, size: int) -> Tensor:
    """
    Cut windows (B, 4) x, y, w, h px out of images (B, 3, H, W): (B, 4, size, size) in 0..1.

    The fourth channel is 1 within the image of extent (B, 2) px and 0 beyond, where all reads 0.
    Sampled at twice the size and averaged, so that large targets do not alias.
    """
    height, width = images.shape[2:]
    line = (torch.arange(2 * size, device=images.device) + 0.5) / (2 * size)
    steps = torch.stack(torch.meshgrid(line, line, indexing='xy'), -1)
    points = windows[:, None, None, :2] + steps * windows[:, None, None, 2:]  # px
    inside = ((points >= 0) & (points < extent[:, None, None])).all(-1)[:, None].float()
    # Element by element: a tensor made of host numbers would wait for the GPU.
    grid = torch.stack([points[..., 0] * (2 / width), points[..., 1] * (2 / height)], -1) - 1
    sampled = F.grid_sample(images.float(), grid, padding_mode='border', align_corners=False)
    shown = torch.cat([sampled / 255 * inside, inside], 1)
    return F.avg_pool2d(shown, 2)
