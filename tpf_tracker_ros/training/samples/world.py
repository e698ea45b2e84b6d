"""
The synthetic RGB-T world: endless training samples, made in tensors on the training device.

A scene is a background and a few flat objects, each with its own path. A view is a square of
that world at one time. As every layer moves by a known similarity, each template token knows
where it must be found in the search view: one sample teaches hundreds of matches, not one box.

Units: the target's sqrt(w h) is 1 in the initial template's view.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
import math
from typing import TypeVar

import torch
from torch import Generator, Tensor
import torch.nn.functional as F
from tpf_tracker_ros.core.crops import Framing, SQUARE
from tpf_tracker_ros.data.textures import (
    CHANNELS,
    in_chunks,
    paint_backgrounds,
    paint_sprites,
    support,
    TextureConfig,
    uniform,
)
from tpf_tracker_ros.training.config import at_least
from tpf_tracker_ros.training.samples.real import RealConfig
from tpf_tracker_ros.training.samples.scene import (
    bounds,
    DYNAMIC,
    GROUND,
    INITIAL,
    rotate,
    Scene,
    SEARCH,
    sides_of,
    similarity,
    square_support,
    TARGET,
)
from tpf_tracker_ros.training.samples.sensors import degrade, draw_failing, SensorConfig

T = TypeVar('T')

LARGE = 1000.0  # px; a target of this size has more pixels than any view


@dataclass(frozen=True)
class WorldConfig:
    """
    Every number of the world; two numbers are a range.

    Deviations are those between two views of a sample.
    """

    backgrounds: int = 160  # textures in the pool
    background_size: int = 256  # texels
    background_log_scale: tuple[float, float] = (2.9, 4.0)  # log of texels to a target size
    background_angle: float = 3.2  # largest at the start, radians
    background_tries: int = 8  # spots of a texture, of which the most detailed is looked at
    background_spots: float = 0.8  # how far from its middle they lie, at most; 1 is its edge
    background_drift: float = 0.5  # of the drift below
    sprites: int = 1500
    sprite_size: int = 48  # texels
    objects: int = 3  # in each scene, the target among them
    object_log_size: tuple[float, float] = (-0.5, 0.6)  # of the others
    object_log_aspect: float = 0.35  # deviation between objects
    object_distance: float = 2.2  # of the others from the target at the start, at most
    object_angle: float = 0.3  # largest at the start, radians
    object_tint: float = 0.35  # largest change of the others' colour and temperature
    patch_share: float = 0.4  # samples whose target is a fixed patch of the background
    twin_share: float = 0.45  # distractors of the target's shape
    dyed_share: float = 0.5  # of those, the ones in the target's dress, tinted
    occlusion_share: float = 0.3  # search views in which an object lies over the target
    occluder_distance: float = 0.8  # of their centres, at most, right and down
    occluder_stretch: float = 2.0  # of its log aspect: a bar, at either end of which it shows
    hidden_share: float = 0.15  # a target of which less is to be seen counts as absent
    touch_share: float = 0.3  # later views in which another object begins where the target ends
    touch_distance: tuple[float, float] = (0.6, 1.15)  # of their centres, in half sizes of both
    scale_deviation: float = 0.18  # of log size
    aspect_deviation: float = 0.06  # of log width and height apart
    angle_deviation: float = 0.14  # radians
    camera_turn: float = 0.5  # of the background's turn that all objects have, too
    drift: float = 1.2  # of a moving object against the background, in target sizes
    wide_share: float = 0.15  # search views of a second look, where the network takes one
    search_shift: float = 0.87  # largest offset of a search view, of that which cuts the target
    search_scale: float = 0.2  # deviation of the log side of the search view
    search_scale_limit: float = 0.5  # its largest
    absent_share: float = 0.05  # search views that look far away from the target
    lured_share: float = 0.12  # search views around a distractor, as after a mistake
    lured_shift: float = 0.3  # of search_shift, in those
    dynamic_time: float = 0.8  # of the way from the initial template to the search view
    dynamic_time_deviation: float = 0.2
    dynamic_jitter: float = 0.1  # deviation of the dynamic template's centre and log side
    search_aspect: float = 0.2  # deviation of the log aspect ratio of the search view
    faint_share: float = 0.12  # views in which an object shows in one modality only
    faint_strength: tuple[float, float] = (0.0, 0.3)  # with which it shows in the other
    textures: TextureConfig = field(default_factory=TextureConfig)
    real: RealConfig = field(default_factory=RealConfig)
    sensors: SensorConfig = field(default_factory=SensorConfig)

    def __post_init__(self) -> None:
        """Raise TpfError on a number of which no scene can be made."""
        at_least(self, backgrounds=1, background_size=16, background_tries=1)
        at_least(self, sprites=1, sprite_size=16, objects=2)


@dataclass(frozen=True)
class Views:
    """Three views (initial template, dynamic template, search), float (B, 3, S, S) in 0..1."""

    rgb: tuple[Tensor, Tensor, Tensor]
    thermal: tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Batch:
    """
    One training batch.

    rgb, thermal: three views each (initial template, dynamic template, search), float
    (B, 3, S, S) in 0..1. box: (B, 4) cx, cy, w, h of the target relative to the search view,
    with a centre outside of 0..1 where the target is absent or hidden.
    matches: (B, 2, N, 2) x, y in 0..1 of the search view where the N tokens of either template
    lie now; seen: (B, 2, N) whether they are visible there. sound: (B,) whether no camera fails.
    sound_views: the same views with cameras that do not fail, where they are asked for.
    """

    rgb: tuple[Tensor, Tensor, Tensor]
    thermal: tuple[Tensor, Tensor, Tensor]
    box: Tensor
    matches: Tensor
    seen: Tensor
    sound: Tensor
    sound_views: Views | None = None


def join_batches(parts: list[Batch]) -> Batch:
    """One batch of the samples of several."""

    def views(parts: list[Batch] | list[Views]) -> list[tuple[Tensor, ...]]:
        cameras = [part.rgb for part in parts], [part.thermal for part in parts]
        return [tuple(torch.cat(images) for images in zip(*camera)) for camera in cameras]

    rest = ('box', 'matches', 'seen', 'sound')
    sound = [part.sound_views for part in parts]
    return Batch(
        *views(parts),
        *(torch.cat([getattr(part, name) for part in parts]) for name in rest),
        Views(*views(sound)) if None not in sound else None,
    )


def reordered(batch: Batch, order: Tensor) -> Batch:
    """Take the samples of a batch in this order (B,)."""

    def views(these: Batch | Views) -> list[tuple[Tensor, ...]]:
        return [tuple(image[order] for image in camera) for camera in (these.rgb, these.thermal)]

    rest = (batch.box, batch.matches, batch.seen, batch.sound)
    sound = batch.sound_views
    return Batch(*views(batch), *(x[order] for x in rest), sound and Views(*views(sound)))


class World:
    """
    Draws batches; everything follows from the generator's seed.

    painted: false for a world that only lends its numbers to samples from disk, at once.
    """

    def __init__(self, config: WorldConfig, generator: Generator, *, painted: bool = True) -> None:
        self.config, self.generator = config, generator
        self.device = generator.device
        # What decides on the size of tensors is drawn on the host: a GPU would have to be asked.
        on_cpu = self.device.type == 'cpu'
        self.host = generator if on_cpu else Generator().manual_seed(generator.initial_seed())
        if painted:
            self._paint()

    def _paint(self) -> None:
        config, generator = self.config, self.generator
        painter = generator, config.textures
        self._backgrounds = in_chunks(
            paint_backgrounds, config.backgrounds, config.background_size, *painter
        )
        self._sprites = in_chunks(paint_sprites, config.sprites, config.sprite_size, *painter)
        self._support = support(self._sprites[:, CHANNELS])
        self._aspect = torch.zeros(config.sprites, device=self.device)  # painted ones have none
        self._detail = detail_of(self._backgrounds)
        self._nowhere = torch.tensor([9.0, 9, 0, 0], device=self.device)  # off a view's centre
        self._square = square_support(self.device)

    def sample(
        self,
        batch: int,
        *,
        template_size: int,
        search_size: int,
        grid_z: int,
        framing: Framing = SQUARE,
        sound: bool = False,
    ) -> Batch:
        """
        Draw a batch of views of these sizes (px), with matches for grid_z² tokens each.

        sound: give sound_views, too; that changes nothing in the others.
        """
        pixels = self._target_pixels()
        around = framing.search * max(pixels, framing.smallest)
        scene = self._scene(batch, framing, widened=around / (framing.search * pixels))
        failing = draw_failing(batch, self.config.sensors, self.generator)
        seen_by, sound_views = [], []
        for view in range(3):
            size = search_size if view == SEARCH else template_size
            shown = around if view == SEARCH else framing.template * pixels
            clean = scene.render(view, min(size, round(shown)))
            cameras = partial(
                degrade,
                clean,
                size,
                self.config.sensors,
                self.generator,
                box=scene.boxes[:, view],
                cut=self.config.sensors.border_cut if view != INITIAL else 0.0,
            )
            if sound:
                sound_views.append(self.undrawn(cameras, failing=torch.zeros_like(failing)))
            seen_by.append(cameras(failing=failing))
        matches, seen = scene.matches(grid_z)
        hidden = scene.visible_share() < self.config.hidden_share
        box = scene.boxes[:, SEARCH] - hidden[:, None] * self._nowhere
        others = Views(*zip(*sound_views)) if sound else None
        return Batch(*zip(*seen_by), box, matches, seen, ~failing.flatten(), others)

    def undrawn(self, function: Callable[..., T], **arguments: object) -> T:
        """Call a function; what it draws will be drawn again."""
        state = self.generator.get_state()
        result = function(**arguments)
        self.generator.set_state(state)
        return result

    def _target_pixels(self) -> float:
        """Draw the size of a batch's targets in px: small ones come as upsampled crops."""
        sensors, draw = self.config.sensors, {'generator': self.host}
        coarse = float(uniform(0, 1, **draw)) < sensors.coarse_share
        low, high = math.log(sensors.coarse_least), math.log(sensors.coarse_most)
        return math.exp(float(uniform(low, high, **draw))) if coarse else LARGE

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def _between(self, most: float, *shape: int) -> Tensor:
        return uniform(-most, most, *shape, generator=self.generator)

    def _chance(self, share: float, *shape: int) -> Tensor:
        return uniform(0, 1, *shape, generator=self.generator) < share

    def _scene(self, batch: int, framing: Framing, widened: float) -> Scene:
        """Part 1: paths. Part 2: dresses. Part 3: where each view looks, and the box."""
        near = self._nearness(batch)
        patch = self._chance(self.config.patch_share, batch)
        background, drawn = self._draw_backgrounds(batch), self._draw_sprites(batch)
        layers = self._paths(near, patch, background, self._aspect[drawn])
        sprite, shape, tint, shown = self._dresses(drawn, patch)
        reach = torch.where(patch[:, None, None], self._square, self._support[sprite[:, :, 0]])
        lure = layers[:, SEARCH, TARGET + 1, :2, 2]
        views, boxes = self._views(bounds(layers[:, :, TARGET], reach), lure, framing, widened)
        ground = self._backgrounds[background]
        return Scene(ground, self._sprites, layers, views, boxes, sprite, shape, tint, shown)

    def _draw_backgrounds(self, batch: int) -> Tensor:
        """Texture indices (B,)."""
        draw = {'generator': self.generator, 'device': self.device}
        return torch.randint(len(self._backgrounds), (batch,), **draw)

    def _draw_sprites(self, batch: int) -> Tensor:
        """Sprite indices (B, objects) of the initial template's view."""
        draw = {'generator': self.generator, 'device': self.device}
        return torch.randint(len(self._sprites), (batch, self.config.objects), **draw)

    def _age_sprites(self, sprite: Tensor) -> Tensor:
        """Give the sprites (B, V, objects) that these (B, objects) become; painted ones stay."""
        return sprite[:, None].expand(-1, 3, -1)

    def _paths(self, near: Tensor, patch: Tensor, background: Tensor, aspect: Tensor) -> Tensor:
        """
        Where every layer is in every view: maps (B, V, L, 3, 3) from layers to the world.

        near: (B, V, 1) how much of the motion has happened; patch: (B,) whether the target is
        a patch of the background; background: (B,) textures; aspect: (B, objects) log w/h.
        """
        config, count, draw = self.config, self.config.objects, {'generator': self.generator}
        batch = len(patch)

        growth = near * self._normal(batch, 1, count + 1) * config.scale_deviation
        turn = near * self._normal(batch, 1, count + 1) * config.angle_deviation
        stretch = near * self._normal(batch, 1, count + 1) * config.aspect_deviation
        place = near[..., None] * self._normal(batch, 1, count + 1, 2) * config.drift
        # Objects also share part of the camera's zoom and roll with the background.
        growth = growth + growth[:, :, :1]
        turn = turn + config.camera_turn * turn[:, :, :1]

        log_aspect = self._normal(batch, 1, count + 1) * config.object_log_aspect
        log_aspect[:, :, -1] *= config.occluder_stretch
        log_aspect[:, :, 1:] += aspect[:, None]
        log_aspect = log_aspect + stretch
        size = torch.exp(uniform(*config.object_log_size, batch, 1, count + 1, **draw))
        size[:, :, TARGET] = 1
        half = 0.5 * size[..., None] * sides_of(growth, log_aspect)
        start = self._between(config.object_distance, batch, 1, count + 1, 2)
        start[:, :, TARGET] = 0
        centre = start + place
        angle = self._between(config.object_angle, batch, 1, count + 1) + turn

        # The background starts where it has some detail, and turns and zooms about that spot, so
        # that the spot stays in sight.
        scale = torch.exp(uniform(*config.background_log_scale, batch, 1, **draw))
        span = config.background_size / scale
        zoom = torch.exp(growth[:, :, GROUND])
        half[:, :, GROUND] = (0.5 * span * zoom)[..., None]
        anchor = -0.5 * span[..., None] * self._detailed_spot(background)[:, None]
        angle[:, :, GROUND] = turn[:, :, GROUND]
        angle[:, :, GROUND] += self._between(config.background_angle, batch, 1)
        carried = config.background_drift * place[:, :, GROUND]
        centre[:, :, GROUND] = rotate(anchor, angle[:, :, GROUND]) * zoom[..., None] + carried

        # A patch has the background's motion and is upright at the start.
        is_patch = patch[:, None]
        still = 0.5 * sides_of(growth[:, :, GROUND], log_aspect[:, :1, TARGET])
        centre[:, :, TARGET] = torch.where(is_patch[..., None], carried, centre[:, :, TARGET])
        half[:, :, TARGET] = torch.where(is_patch[..., None], still, half[:, :, TARGET])
        angle[:, :, TARGET] = torch.where(is_patch, turn[:, :, GROUND], angle[:, :, TARGET])

        # The first distractor may touch the target, or begin below it, in either later view.
        later = slice(DYNAMIC, None)
        touches = self._chance(config.touch_share, batch, 2)[..., None]
        way = self._between(math.pi, batch, 2)
        reach = half[:, later, TARGET] + half[:, later, TARGET + 1]
        apart = reach * uniform(*config.touch_distance, batch, 2, 1, **draw)
        touching = centre[:, later, TARGET] + torch.stack([way.cos(), way.sin()], -1) * apart
        centre[:, later, TARGET + 1] = torch.where(touches, touching, centre[:, later, TARGET + 1])

        # The last object may lie over a part of the target in the search view.
        covers = self._chance(config.occlusion_share, batch)[:, None]
        beside = centre[:, SEARCH, TARGET] + self._between(config.occluder_distance, batch, 2)
        centre[:, SEARCH, -1] = torch.where(covers, beside, centre[:, SEARCH, -1])
        return similarity(centre, half, angle)

    def _nearness(self, batch: int) -> Tensor:
        """
        How much of the whole motion has happened at each view (B, V, 1).

        None at the initial template, all at the search view; the dynamic one lies near that.
        """
        near = torch.zeros(batch, 3, 1, device=self.device)
        loose = self.config.dynamic_time_deviation * self._normal(batch, 1)
        near[:, DYNAMIC] = self.config.dynamic_time + loose
        near[:, SEARCH] = 1
        return near

    def _dresses(self, sprite: Tensor, patch: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """
        Dress objects in sprites (B, objects).

        Returns sprites, shapes (B, V, objects), tints (B, objects, 4), what shows
        (B, V, objects, 2).
        """
        config, draw = self.config, {'generator': self.generator}
        batch, count = sprite.shape
        sprite = self._age_sprites(sprite)
        twin = self._chance(config.twin_share, batch, count)
        shape = torch.where(twin[:, None], sprite[:, :, :1], sprite)
        dyed = twin & self._chance(config.dyed_share, batch, count)
        sprite = torch.where(dyed[:, None], sprite[:, :, :1], sprite)
        tint = self._between(config.object_tint, batch, count, CHANNELS)
        tint[:, 0] = 0
        # Each view for itself: now it shows, now not.
        faint = uniform(*config.faint_strength, batch, 3, count, **draw)
        in_thermal = self._chance(0.5, batch, 3, count)
        pale = self._chance(config.faint_share, batch, 3, count)
        shown = torch.stack(
            [
                torch.where(pale & in_thermal, faint, torch.ones_like(faint)),
                torch.where(pale & ~in_thermal, faint, torch.ones_like(faint)),
            ],
            -1,
        )
        shown[:, :, 0] *= (~patch[:, None, None]).float()  # a patch is drawn with the background
        return sprite, shape, tint, shown

    def _views(
        self, boxes: Tensor, lure: Tensor, framing: Framing, widened: float
    ) -> tuple[Tensor, Tensor]:
        """
        Draw views (B, V, 3, 3) of a target, and its boxes (B, V, 4) relative to them.

        boxes: (B, V, 4) of the target; lure: (B, 2) the centre of a distractor in the search view;
        widened: factor by which search views are larger, as those of tiny targets.
        """
        config, batch = self.config, len(boxes)
        side = (boxes[..., 2] * boxes[..., 3]).sqrt()
        look = boxes[..., :2].clone()
        length = side * framing.template
        wide = self._chance(config.wide_share if framing.wide else 0, batch)
        factor = torch.where(wide, framing.wide, framing.search) * widened
        jitter = config.dynamic_jitter
        look[:, DYNAMIC] += boxes[:, DYNAMIC, 2:] * self._normal(batch, 2) * jitter
        length[:, DYNAMIC] = length[:, DYNAMIC] * torch.exp(self._normal(batch) * jitter)
        most = config.search_scale_limit
        scale = (self._normal(batch) * config.search_scale).clamp(-most, most).exp()
        length[:, SEARCH] = side[:, SEARCH] * factor * scale
        # What is cropped follows the box that the tracker has, whose shape is not quite right.
        aspect = (boxes[..., 2] / boxes[..., 3]).log()
        aspect[:, DYNAMIC] += self._normal(batch) * jitter
        aspect[:, SEARCH] += self._normal(batch) * config.search_aspect
        limit = math.log(framing.aspect)
        sides = length[..., None] * sides_of(torch.zeros_like(aspect), aspect.clamp(-limit, limit))
        shift = self._between(config.search_shift, batch, 2)
        shift = shift * (0.5 - 0.5 / factor[:, None])  # in sides of the view
        away = self._chance(config.absent_share, batch)[:, None]
        shift = torch.where(away, shift.sign() * (1 + shift.abs()), shift)
        lured = self._chance(config.lured_share, batch)[:, None]
        look[:, SEARCH] = torch.where(lured, lure, look[:, SEARCH])
        shift = torch.where(lured, config.lured_shift * shift, shift)
        look[:, SEARCH] += shift * sides[:, SEARCH]
        views = similarity(look, sides / 2, length * 0)
        centres = (boxes[..., :2] - look) / sides + 0.5
        return views, torch.cat([centres, boxes[..., 2:] / sides], -1)

    def _detailed_spot(self, background: Tensor) -> Tensor:
        """For each background (B,) the most detailed of a few random spots (B, 2) in -1..1."""
        reach, tries = self.config.background_spots, self.config.background_tries
        spots = self._between(reach, len(background), 1, tries, 2)
        detail = F.grid_sample(self._detail[background], spots, align_corners=False)[:, 0, 0]
        best = detail.argmax(1)[:, None, None].expand(-1, 1, 2)
        return spots[:, 0].gather(1, best)[:, 0]


def detail_of(textures: Tensor) -> Tensor:
    """How much each region of textures (N, 4, S, S) varies: (N, 1, S/16, S/16)."""
    mean = F.avg_pool2d(textures, 16)
    return (F.avg_pool2d(textures**2, 16) - mean**2).clamp(min=0).mean(1, keepdim=True)
