"""
Painted RGB-T textures: dead leaves over fractal noise, each leaf with its own temperature.

Dead leaves and 1/f noise share the edge and spectrum statistics of natural images ("Learning
to see by looking at noise", Baradad et al. 2021). Colour and temperature are independent, so
that some things show in one modality only.
"""

from collections.abc import Callable
from dataclasses import dataclass
import math

import torch
from torch import Generator, Tensor
import torch.nn.functional as F

CHANNELS = 4  # r, g, b, temperature, all in 0..1
DIRECTIONS = 64  # in which it is known how far a silhouette reaches


@dataclass(frozen=True)
class TextureConfig:
    """
    Every number of what is painted; two numbers are a range.

    Sizes and places are in the texture's coordinates, -1..1; contrasts and tones in full scale.
    """

    grains: int = 32  # noise images that the materials of a chunk share
    grain_slope: tuple[float, float] = (0.8, 2.0)  # b of their spectrum 1/f^b
    tone: tuple[float, float] = (0.05, 0.95)  # colours and temperatures of materials
    grey_share: float = 0.5  # materials without a colour; the others have more or less of one
    grain_contrast: float = 0.16  # deviation of the grain in colour, at most
    heat_follows: float = 0.06  # of the temperature by the visible grain, at most, of either sign
    heat_grain: float = 0.06  # of the temperature's own grain, at most
    leaf_least: float = 0.02  # half-size of the smallest leaf
    leaf_power: float = 2.5  # of a uniform number, between smallest and largest: few are large
    leaf_narrow: float = 0.25  # least share of its half-size that a leaf has in one direction
    leaf_place: float = 1.05  # of its centre, at most
    leaf_cover: float = 1.4  # a leaf shows in a modality by uniform(0, this), at most in full
    background_leaves: int = 110
    background_largest: float = 0.35  # half-size of the largest leaf
    sky_every: int = 7  # so many backgrounds have one that is almost empty
    sky_leaves: int = 3
    sky_largest: float = 0.7
    sprite_leaves: int = 24
    sprite_largest: float = 0.7
    plain_every: int = 5  # so many objects have one of a single gradient
    plain_leaves: int = 1
    plain_largest: float = 0.9
    body_half: tuple[float, float] = (0.55, 0.95)  # half-sizes of a silhouette's first shape
    part_half: tuple[float, float] = (0.12, 0.5)  # of the two that may be joined to it
    part_place: float = 0.6  # of their centres, at most
    part_share: float = 0.4  # of silhouettes that have one, for each of the two
    part_turn: float = 0.5  # radians, at most, besides quarters


PAINTED = TextureConfig()


def uniform(low: float, high: float, *shape: int, generator: Generator) -> Tensor:
    """Uniform random numbers on the generator's device."""
    empty = torch.empty(shape, device=generator.device)
    return empty.uniform_(low, high, generator=generator)


def fractal_noise(
    count: int, size: int, generator: Generator, slope_range: tuple[float, float]
) -> Tensor:
    """Zero-mean, unit-deviation 1/f^b noise (count, size, size), b in a range for each."""
    device = generator.device
    fy = torch.fft.fftfreq(size, device=device)[:, None]
    fx = torch.fft.rfftfreq(size, device=device)[None]
    radius = (fy**2 + fx**2).sqrt()
    radius[0, 0] = 1
    slope = uniform(*slope_range, count, 1, 1, generator=generator)
    white = torch.randn(count, size, size // 2 + 1, 2, generator=generator, device=device)
    noise = torch.fft.irfft2(torch.view_as_complex(white) * radius**-slope, s=(size, size))
    return (noise - noise.mean((1, 2), keepdim=True)) / noise.std((1, 2), keepdim=True)


def soft_shape(
    xy: Tensor, centre: Tensor, half: Tensor, angle: Tensor, kind: Tensor, pixel: float
) -> Tensor:
    """
    Anti-aliased masks (count, H, W) of rotated ellipses (kind 0) and rectangles (kind 1).

    xy: (H, W, 2) in -1..1; centre, half: (count, 2); angle, kind: (count,); pixel: its size.
    """
    offset = xy - centre[:, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    u = (cos * offset[..., 0] + sin * offset[..., 1]) / half[:, None, None, 0]
    v = (cos * offset[..., 1] - sin * offset[..., 0]) / half[:, None, None, 1]
    round_edge = (u**2 + v**2).sqrt()
    square_edge = torch.maximum(u.abs(), v.abs())
    edge = torch.where(kind[:, None, None] > 0.5, square_edge, round_edge)
    sharpness = half.amin(1)[:, None, None] / pixel
    return ((1 - edge) * sharpness * 1.5).sigmoid()


def pixel_grid(size: int, device: torch.device) -> Tensor:
    """Pixel centres (size, size, 2) as x, y in -1..1."""
    line = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    return torch.stack(torch.meshgrid(line, line, indexing='xy'), -1)


def paint(
    count: int,
    size: int,
    *,
    leaves: int,
    largest: float,
    generator: Generator,
    config: TextureConfig = PAINTED,
) -> Tensor:
    """
    Opaque textures (count, 4, size, size) in 0..1: a noisy ground and leaves upon it.

    leaves: how many; largest: half-size of the largest, in -1..1 coordinates.
    """
    device = generator.device
    xy = pixel_grid(size, device)
    bank = fractal_noise(config.grains, size, generator, config.grain_slope)

    def noise() -> Tensor:
        pick = torch.randint(config.grains, (count,), generator=generator, device=device)
        rows = int(torch.randint(size, (), generator=generator, device=device))
        return bank[pick].roll(rows, dims=-2)

    def surface() -> Tensor:
        """One material for each texture: a colour, a temperature, grain on both."""
        base = uniform(*config.tone, count, CHANNELS, 1, 1, generator=generator)
        # Half of all materials are grey, as most of the world is.
        grey = base[:, :3].mean(1, keepdim=True).expand(-1, 3, -1, -1)
        coloured = max(1 - config.grey_share, 1e-9)
        fade = (uniform(0, 1, count, 1, 1, 1, generator=generator) / coloured).clamp(max=1)
        colour = grey * fade + base[:, :3] * (1 - fade)
        grain = noise()[:, None]
        colour = colour + grain * uniform(
            0, config.grain_contrast, count, 1, 1, 1, generator=generator
        )
        # Heat follows the visible grain in part, with either sign, and has some of its own.
        most = config.heat_follows
        follows = uniform(-most, most, count, 1, 1, 1, generator=generator)
        own = uniform(0, config.heat_grain, count, 1, 1, 1, generator=generator)
        heat = base[:, 3:] + grain * follows + noise()[:, None] * own
        return torch.cat([colour, heat], 1)

    canvas = surface()
    for _ in range(leaves):
        # Sizes fall off as a power law: many small leaves, few large ones.
        shrink = uniform(0, 1, count, 1, generator=generator) ** config.leaf_power
        half = (config.leaf_least + (largest - config.leaf_least) * shrink) * uniform(
            config.leaf_narrow, 1.0, count, 2, generator=generator
        )
        mask = soft_shape(
            xy,
            uniform(-config.leaf_place, config.leaf_place, count, 2, generator=generator),
            half.clamp(min=1.5 / size),
            uniform(0, math.pi, count, generator=generator),
            uniform(0, 1, count, generator=generator),
            2 / size,
        )[:, None]
        # A leaf often differs from what lies below in one modality only.
        shows = uniform(0, config.leaf_cover, count, 2, 1, 1, generator=generator).clamp(max=1)
        mask = mask * torch.cat([shows[:, :1].expand(-1, 3, -1, -1), shows[:, 1:]], 1)
        canvas = canvas + mask * (surface() - canvas)
    return canvas.clamp(0, 1)


def cut_out(
    count: int, size: int, generator: Generator, config: TextureConfig = PAINTED
) -> Tensor:
    """Silhouettes (count, size, size) in 0..1: one to three shapes joined, within -1..1."""
    xy = pixel_grid(size, generator.device)
    mask = torch.zeros(count, size, size, device=generator.device)
    for part in range(3):
        reach = 0.0 if part == 0 else config.part_place
        low, high = config.body_half if part == 0 else config.part_half
        shape = soft_shape(
            xy,
            uniform(-reach, reach, count, 2, generator=generator),
            uniform(low, high, count, 2, generator=generator),
            uniform(-config.part_turn, config.part_turn, count, generator=generator)
            + (uniform(0, 1, count, generator=generator) > 0.5) * (math.pi / 2),
            uniform(0, 1, count, generator=generator),
            2 / size,
        )
        used = uniform(0, 1, count, 1, 1, generator=generator) < (
            1.0 if part == 0 else config.part_share
        )
        mask = torch.maximum(mask, shape * used)
    inside = (xy.abs().amax(-1) < 0.98).float()
    return mask * inside


def support(masks: Tensor) -> Tensor:
    """
    How far each silhouette (count, S, S) reaches in each of DIRECTIONS directions.

    Returns (count, DIRECTIONS) in -1..1 coordinates; the bounding box of a silhouette under
    any affine map follows from it.
    """
    xy = pixel_grid(masks.shape[-1], masks.device).flatten(0, 1)  # (S*S, 2)
    angle = torch.arange(DIRECTIONS, device=masks.device) * (2 * math.pi / DIRECTIONS)
    along = xy @ torch.stack([angle.cos(), angle.sin()])  # (S*S, DIRECTIONS)
    solid = masks.flatten(1) > 0.5
    return torch.stack([along[pixels].amax(0) for pixels in solid]) + 1 / masks.shape[-1]


def paint_backgrounds(
    count: int, size: int, generator: Generator, config: TextureConfig = PAINTED
) -> Tensor:
    """Backgrounds (count, 4, size, size), some of them almost empty skies."""
    full = config.background_leaves, config.background_largest
    empty = config.sky_leaves, config.sky_largest
    return _paint_both(count, count // config.sky_every, size, full, empty, generator, config)


def in_chunks(
    paint: Callable[..., Tensor],
    count: int,
    size: int,
    generator: Generator,
    config: TextureConfig,
) -> Tensor:
    """Paint in small chunks: a large one would need gigabytes for its intermediate images."""
    chunks = [min(28, count - i) for i in range(0, count, 28)]
    return torch.cat([paint(chunk, size, generator, config) for chunk in chunks])


def _paint_both(
    count: int,
    softened: int,
    size: int,
    full: tuple[int, float],
    bare: tuple[int, float],
    generator: Generator,
    config: TextureConfig,
) -> Tensor:
    """Paint (count, 4, size, size), the last softened; full, bare: leaves, the largest."""
    images = [
        paint(n, size, leaves=leaves, largest=largest, generator=generator, config=config)
        for n, (leaves, largest) in ((count - softened, full), (softened, bare))
    ]
    return torch.cat([images[0], _soften(images[1])])


def _soften(images: Tensor) -> Tensor:
    """Smooth images to gradients."""
    small = F.interpolate(images, scale_factor=1 / 16, mode='area')
    return F.interpolate(small, size=images.shape[-2:], mode='bicubic').clamp(0, 1)


def paint_sprites(
    count: int, size: int, generator: Generator, config: TextureConfig = PAINTED
) -> Tensor:
    """Objects (count, 5, size, size): r, g, b, temperature, alpha; some are plain."""
    full = config.sprite_leaves, config.sprite_largest
    plain = config.plain_leaves, config.plain_largest
    inner = _paint_both(count, count // config.plain_every, size, full, plain, generator, config)
    return torch.cat([inner, cut_out(count, size, generator, config)[:, None]], 1)
