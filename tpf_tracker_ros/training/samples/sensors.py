"""What cameras do to a clean RGB-T view: darkness, glare, thermal crossover, noise, blur."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
import torch.nn.functional as F
from tpf_tracker_ros.data.textures import pixel_grid, uniform


@dataclass(frozen=True)
class SensorConfig:
    """
    Shares are of views, those of failures of views in samples that are not sound.

    Two numbers are a range; an image's full scale is 1.
    """

    coarse_share: float = 0.5  # batches whose targets have few pixels
    coarse_least: float = 9.0  # px, the size of such targets: sqrt(w h)
    coarse_most: float = 45.0
    sound_share: float = 0.5  # samples in which no camera fails, in any view
    light: tuple[float, float] = (0.6, 1.3)  # factor on RGB
    white_balance: tuple[float, float] = (0.9, 1.1)  # further factor on each of its channels
    dark_share: float = 0.15  # RGB has little light
    dark_light: tuple[float, float] = (0.02, 0.3)
    overexposed_share: float = 0.04  # RGB has too much light
    overexposed_light: tuple[float, float] = (2.0, 5.0)
    glare_share: float = 0.08  # a bright spot over a part of RGB
    glare_light: tuple[float, float] = (0.5, 1.2)
    glare_size: tuple[float, float] = (0.05, 0.6)  # squared radius; a view's half side is 1
    thermal_gain: tuple[float, float] = (0.7, 1.4)  # factor on thermal contrast
    thermal_level: tuple[float, float] = (-0.15, 0.15)  # added to thermal
    crossover_share: float = 0.1  # thermal contrast is lost but for a rest
    crossover_gain: tuple[float, float] = (0.02, 0.3)
    frozen_share: float = 0.04  # a thermal image of another scene, as of a camera that hangs
    rgb_absent_share: float = 0.15  # the thermal image stands in for RGB, as in the tracker
    thermal_absent_share: float = 0.15
    blur_share: float = 0.3  # of RGB
    thermal_blur_share: float = 0.5  # thermal optics are softer
    noise: float = 0.03  # largest typical deviation of sensor noise
    stripe_share: float = 0.15  # thermal images whose rows or columns have such offsets
    border_share: float = 0.25  # sides of views that reach beyond the image, where all reads zero
    border_cut: float = 0.3  # most of a target's side that lies there in a later view


def degrade(
    clean: Tensor,
    size: int,
    config: SensorConfig,
    generator: Generator,
    *,
    failing: Tensor,
    box: Tensor,
    cut: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """
    RGB and thermal (B, 3, size, size) in 0..1 from a clean view (B, 4, s, s), s <= size.

    failing: bool (B, 1, 1, 1), the samples in which cameras may fail, see draw_failing. box: of
    the target relative to the view, (B, 4) cx, cy, w, h; cut: the share of its sides that may lie
    beyond the image.
    """
    draw = _Draw(failing, generator)
    rgb, thermal = clean[:, :3], clean[:, 3:]

    blurred = F.avg_pool2d(F.pad(clean, (1, 1, 1, 1), mode='replicate'), 3, 1)
    rgb = torch.where(draw.chance(config.blur_share), blurred[:, :3], rgb)
    thermal = torch.where(draw.chance(config.thermal_blur_share), blurred[:, 3:], thermal)

    rgb, thermal = _expose(rgb, thermal, config, draw)
    rgb, thermal = add_noise(rgb, config, generator), add_noise(thermal, config, generator)

    rgb, thermal = _leave_out(rgb, thermal, config, draw)
    if rgb.shape[-1] != size:
        rgb, thermal = (
            F.interpolate(x, size=(size, size), mode='bilinear', align_corners=False)
            for x in (rgb, thermal)
        )
    inside = _image_area(size, config.border_share, cut, generator, box)
    return rgb * inside, thermal * inside


def add_noise(image: Tensor, config: SensorConfig, generator: Generator) -> Tensor:
    """
    Images (B, C, S, S) with sensor noise, each with a deviation of its own.

    Most have little. In a share of thermal ones, of one channel, each row or each column has an
    offset besides, as the read-out of uncooled cameras leaves it.
    """
    batch = len(image)

    def between(low: float, high: float) -> Tensor:
        return uniform(low, high, batch, 1, 1, 1, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator, device=image.device)

    deviation = between(0, 1) ** 2 * 2 * config.noise
    size = image.shape[-1]
    upright = between(0, 1) < 0.5
    stripes = torch.where(upright, normal(1, 1, size), normal(1, size, 1))
    share = config.stripe_share if image.shape[1] == 1 else 0.0
    striped = (between(0, 1) < share) * deviation
    return image + normal(*image.shape[1:]) * deviation + stripes * striped


def degrade_real(
    rgb: Tensor, thermal: Tensor, config: SensorConfig, generator: Generator, *, failing: Tensor
) -> tuple[Tensor, Tensor]:
    """
    RGB and thermal (B, 3, S, S) from real ones, thermal also (B, 1, S, S), all in 0..1.

    Light, contrast and cameras that fail, as in the world; blur and noise they bring themselves.
    """
    draw = _Draw(failing, generator)
    return _leave_out(*_expose(rgb, thermal, config, draw), config, draw)


def draw_failing(batch: int, config: SensorConfig, generator: Generator) -> Tensor:
    """Draw once for all views of a sample: (B, 1, 1, 1)."""
    return uniform(0, 1, batch, 1, 1, 1, generator=generator) >= config.sound_share


class _Draw:
    """One number for each sample of a batch."""

    def __init__(self, failing: Tensor, generator: Generator) -> None:
        self._failing, self._batch, self._generator = failing, len(failing), generator

    def between(self, low: float, high: float, channels: int = 1) -> Tensor:
        return uniform(low, high, self._batch, channels, 1, 1, generator=self._generator)

    def chance(self, share: float) -> Tensor:
        return self.between(0, 1) < share

    def fails(self, share: float) -> Tensor:
        """Chance among the samples in which cameras may fail."""
        return self.chance(share) & self._failing


def _expose(
    rgb: Tensor, thermal: Tensor, config: SensorConfig, draw: _Draw
) -> tuple[Tensor, Tensor]:
    """Light and glare on RGB; contrast, level and a hanging camera on thermal."""
    fails, between = draw.fails, draw.between
    dark, too_much = config.dark_light, config.overexposed_light
    light = torch.where(fails(config.dark_share), between(*dark), between(*config.light))
    light = torch.where(fails(config.overexposed_share), between(*too_much), light)
    rgb = rgb * light * between(*config.white_balance, 3)
    spot = pixel_grid(rgb.shape[-1], rgb.device)[None] - between(-1, 1, 2).permute(0, 2, 3, 1)
    glow = torch.exp(
        -(spot**2).sum(-1, keepdim=True).permute(0, 3, 1, 2) / between(*config.glare_size)
    )
    rgb = rgb + glow * fails(config.glare_share) * between(*config.glare_light)

    # Automatic gain: each view has its own contrast and level; at crossover little is left.
    lost = fails(config.crossover_share)
    gain = torch.where(lost, between(*config.crossover_gain), between(*config.thermal_gain))
    thermal = 0.5 + (thermal - 0.5) * gain + between(*config.thermal_level)
    return rgb, torch.where(fails(config.frozen_share), thermal.roll(1, 0), thermal)


def _leave_out(
    rgb: Tensor, thermal: Tensor, config: SensorConfig, draw: _Draw
) -> tuple[Tensor, Tensor]:
    """Three channels of both; one stands in for the other in a share of the samples."""
    thermal = thermal.expand(-1, 3, -1, -1)
    no_rgb = draw.fails(config.rgb_absent_share)
    no_thermal = draw.fails(config.thermal_absent_share) & ~no_rgb
    return (
        torch.where(no_rgb, thermal, rgb).clamp(0, 1),
        torch.where(no_thermal, rgb, thermal).clamp(0, 1),
    )


def _image_area(size: int, share: float, cut: float, generator: Generator, box: Tensor) -> Tensor:
    """
    Masks (B, 1, size, size) that are zero beyond the image's edges.

    Each side has one in a share of the views, somewhere between the view's end and the target,
    or a part `cut` of the target's side further. box: (B, 4) cx, cy, w, h of the target relative
    to the view.
    """
    batch = len(box)
    reach = box[:, 2:] * (0.5 - cut)
    room = torch.cat([box[:, :2] - reach, 1 - box[:, :2] - reach], 1)
    there = uniform(0, 1, batch, 4, generator=generator) < share
    gap = there * room.clamp(0, 1) * uniform(0, 1, batch, 4, generator=generator)  # l, t, r, b
    xy = (pixel_grid(size, generator.device) + 1) / 2
    low, high = gap[:, None, None, :2], 1 - gap[:, None, None, 2:]
    return ((xy >= low) & (xy <= high)).all(-1)[:, None].float()
