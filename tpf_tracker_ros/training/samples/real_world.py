"""The world with real images in it: backgrounds, cut-outs, and tracked targets beside it."""

from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor
from tpf_tracker_ros.core.crops import Framing, SQUARE
from tpf_tracker_ros.data.textures import CHANNELS, support, uniform
from tpf_tracker_ros.training.samples.real import (
    draw_heat,
    draw_tracked,
    RealImages,
    take_windows,
    tracked_windows,
)
from tpf_tracker_ros.training.samples.sensors import add_noise, degrade_real, draw_failing
from tpf_tracker_ros.training.samples.world import (
    Batch,
    detail_of,
    join_batches,
    Views,
    World,
    WorldConfig,
)


def open_world(config: WorldConfig, generator: Generator, *, painted: bool = True) -> World:
    """Return the painted world, with real images where the configuration names their folder."""
    if not painted:
        return World(config, generator, painted=False)
    return (RealWorld if config.real.folder else World)(config, generator)


class RealWorld(World):
    """Painted and real things in one scene; `real` of the configuration says how often which."""

    def __init__(self, config: WorldConfig, generator: Generator) -> None:
        super().__init__(config, generator)
        images = RealImages(config.real, generator)
        self._painted_backgrounds, self._painted_sprites = config.backgrounds, config.sprites
        real = images.backgrounds(config.background_size)
        self._backgrounds = torch.cat([self._backgrounds, real])
        self._detail = torch.cat([self._detail, detail_of(real)])
        sprites, aspect, runs = images.cutouts(config.sprite_size)
        self._sprites = torch.cat([self._sprites, sprites])
        self._support = torch.cat([self._support, support(sprites[:, CHANNELS])])
        self._aspect = torch.cat([self._aspect, aspect])
        self._runs = runs + config.sprites
        self._tracks = images.tracks()

    def _draw_backgrounds(self, batch: int) -> Tensor:
        painted = self._painted_backgrounds
        share = self.config.real.background_share
        return self._either(share, painted, len(self._backgrounds), batch)

    def _draw_sprites(self, batch: int) -> Tensor:
        share, painted = self.config.real.sprite_share, self._painted_sprites
        return self._either(share, painted, len(self._sprites), batch, self.config.objects)

    def _either(self, share: float, painted: int, count: int, *shape: int) -> Tensor:
        """Draw indices: in a share real ones, from `painted` to count, else painted ones."""
        draw = {'generator': self.generator, 'device': self.device}
        real = torch.randint(painted, count, shape, **draw)
        return torch.where(
            self._chance(share, *shape), real, torch.randint(painted, shape, **draw)
        )

    def _age_sprites(self, sprite: Tensor) -> Tensor:
        """Real cut-outs become earlier or later ones of the same film."""
        real = sprite >= self._painted_sprites
        run = self._runs[(sprite - self._painted_sprites).clamp(min=0)]  # (B, objects, 2)
        steps = self._normal(len(sprite), 3, 1) * self.config.real.cutout_time
        steps[:, 0] = 0
        aged = sprite[:, None] + steps.round().long()
        aged = aged.clamp(run[:, None, :, 0], run[:, None, :, 1])
        return torch.where(real[:, None], aged, sprite[:, None])

    def sample(self, batch: int, *, framing: Framing = SQUARE, **views: Any) -> Batch:
        """Draw a batch as World.sample does, a share of it from tracked targets."""
        tracked = round(self.config.real.track_share * batch)
        painted = super().sample(batch - tracked, framing=framing, **views)
        return join_batches([painted, self.sample_tracked(tracked, framing=framing, **views)])

    def sample_tracked(
        self,
        batch: int,
        *,
        template_size: int,
        search_size: int,
        grid_z: int,
        framing: Framing,
        sound: bool = False,
    ) -> Batch:
        """
        Draw views of targets that real images show, mirrored in half of the samples.

        Where their tokens are found is not known: none of them is `seen`.
        """
        config, real = self.config, self.config.real
        image, boxes = draw_tracked(self._tracks, batch, real, self.generator)
        windows, box = tracked_windows(boxes, config, framing, self.generator)
        hot = self._tracks.thermal[image[:, 0]].view(-1, 1, 1, 1)
        alone = self._chance(real.alone_share, batch, 1, 1, 1)
        flip = self._chance(0.5, batch, 1, 1, 1)
        night = uniform(*real.night_light, batch, 1, 1, 1, generator=self.generator)
        failing = draw_failing(batch, config.sensors, self.generator)
        sizes = [template_size, template_size, search_size]
        views = []
        for view, size in enumerate(sizes):
            shown = self._tracks.images[image[:, view]], self._tracks.extent[image[:, view]]
            taken = take_windows(*shown, windows[:, view], size)
            views.append(torch.where(flip, taken.flip(-1), taken))
        heat = draw_heat(batch, self.generator)
        seen_by, sound_views = [], []
        for taken in views:
            grey, inside = taken[:, :1], taken[:, 3:]
            colour = torch.where(hot, taken[:, :3] * night, taken[:, :3])
            warmth = torch.where(hot, grey, heat(taken[:, :3]))
            noisy = [add_noise(each, config.sensors, self.generator) for each in (colour, warmth)]
            cameras = partial(degrade_real, *noisy, config.sensors, self.generator)

            def stand_in(a: Tensor, b: Tensor, inside: Tensor = inside) -> tuple[Tensor, Tensor]:
                rgb, thermal = torch.where(hot & alone, b, a), torch.where(~hot & alone, a, b)
                return rgb * inside, thermal * inside

            if sound:
                clean = self.undrawn(cameras, failing=torch.zeros_like(failing))
                sound_views.append(stand_in(*clean))
            seen_by.append(stand_in(*cameras(failing=failing)))
        mirrored = torch.cat([1 - box[:, :1], box[:, 1:]], 1)
        box = torch.where(flip[:, 0, 0], mirrored, box)
        matches = torch.zeros(batch, 2, grid_z**2, 2, device=self.device)
        seen = torch.zeros(batch, 2, grid_z**2, dtype=torch.bool, device=self.device)
        others = Views(*zip(*sound_views)) if sound else None
        return Batch(*zip(*seen_by), box, matches, seen, ~failing.flatten(), others)
