"""
A scene of the synthetic world: where its layers lie, what they wear, and what each view shows.

A layer is the background or an object over it; its own coordinates are -1..1, as are those of a
view. Maps (..., 3, 3) take points (x, y, 1) of one into another.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
import torch.nn.functional as F
from tpf_tracker_ros.data.textures import CHANNELS, DIRECTIONS

INITIAL, DYNAMIC, SEARCH = range(3)  # views, in time order
GROUND, TARGET = 0, 1  # layers; further objects follow, the last one above all others


@dataclass(frozen=True)
class Scene:
    """The scenes of a batch, with three views of each (initial, dynamic template, search)."""

    ground: Tensor  # (B, 4, S, S) textures of the backgrounds
    sprites: Tensor  # (M, 5, S, S) all that objects may wear: r, g, b, temperature, alpha
    layers: Tensor  # (B, V, L, 3, 3) from layers to the world
    views: Tensor  # (B, V, 3, 3) from views to the world
    boxes: Tensor  # (B, V, 4) cx, cy, w, h of the target relative to each view
    dress: Tensor  # (B, V, objects) the sprite whose colours an object has
    shape: Tensor  # (B, V, objects) the sprite whose silhouette it has
    tint: Tensor  # (B, objects, 4) added to r, g, b, temperature
    shown: Tensor  # (B, V, objects, 2) how much shows in rgb and in thermal

    @cached_property
    def maps(self) -> Tensor:
        """From views to layers (B, V, L, 3, 3)."""
        return inverse(self.layers) @ self.views[:, :, None]

    def render(self, view: int, size: int) -> Tensor:
        """Clean images (B, 4, size, size) of a view: the background, then the objects over it."""
        maps, (batch, _, objects) = self.maps[:, view], self.dress.shape
        shape = (batch, CHANNELS, size, size)

        def look_up(texture: Tensor, layer: int, padding: str) -> Tensor:
            grid = F.affine_grid(maps[:, layer, :2], shape, align_corners=False)
            return F.grid_sample(texture, grid, padding_mode=padding, align_corners=False)

        canvas = look_up(self.ground, GROUND, 'reflection')
        for index in back_to_front(objects):
            dress = self.sprites[self.dress[:, view, index], :CHANNELS]
            outline = self.sprites[self.shape[:, view, index], CHANNELS:]
            painted = look_up(torch.cat([dress, outline], 1), index + 1, 'zeros')
            colour = painted[:, :CHANNELS] + self.tint[:, index, :, None, None]
            alpha = painted[:, CHANNELS:]
            shown = self.shown[:, view, index, :, None, None]
            alpha = torch.cat(
                [(alpha * shown[:, :1]).expand(-1, 3, -1, -1), alpha * shown[:, 1:]], 1
            )
            canvas = canvas + alpha * (colour.clamp(0, 1) - canvas)
        return canvas

    def matches(self, grid: int) -> tuple[Tensor, Tensor]:
        """
        Where the grid² = N tokens of both templates are found in the search view, and if seen.

        Returns x, y in 0..1 (B, 2, N, 2) and bool (B, 2, N).
        """
        maps, batch = self.maps, len(self.maps)
        line = (torch.arange(grid, device=maps.device) + 0.5) * (2 / grid) - 1
        tokens = torch.stack(torch.meshgrid(line, line, indexing='xy'), -1).reshape(1, 1, -1, 2)
        into_search = inverse(maps[:, SEARCH])  # layer -> search view
        spots, visible = [], []
        for view in (INITIAL, DYNAMIC):
            top = self._top_layer(view, tokens.expand(batch, -1, -1, -1))
            route = into_search @ maps[:, view]  # (B, L, 3, 3)
            chosen = route.gather(1, top[:, :, None, None].expand(-1, -1, 3, 3))
            ones = torch.ones_like(tokens[0, ..., :1]).expand(batch, -1, -1)
            points = torch.cat([tokens[0].expand(batch, -1, -1), ones], -1)
            spot = (chosen @ points[..., None])[..., :2, 0]  # (B, N, 2) in -1..1
            same = self._top_layer(SEARCH, spot[:, None]) == top
            visible.append(same & (spot.abs().amax(-1) < 1))
            spots.append(spot / 2 + 0.5)
        return torch.stack(spots, 1), torch.stack(visible, 1)

    def visible_share(self) -> Tensor:
        """Give the share (B,) of the target that nothing hides in the search view."""
        maps = self.maps
        line = torch.linspace(-0.95, 0.95, 8, device=maps.device)
        spots = torch.stack(torch.meshgrid(line, line, indexing='xy'), -1).reshape(1, 1, -1, 2)
        spots = spots.expand(len(maps), -1, -1, -1)  # of the target's layer
        outline = self.sprites[self.shape[:, SEARCH, 0], CHANNELS:]
        solid = F.grid_sample(outline, spots, align_corners=False)[:, 0, 0] > 0.5
        patch = (self.shown[:, SEARCH, 0].amax(-1) == 0)[:, None]
        solid = solid | patch
        onto = inverse(maps[:, SEARCH, None, TARGET])
        points = spots @ onto[..., :2, :2].transpose(-1, -2) + onto[..., None, :2, 2]
        top = self._top_layer(SEARCH, points)
        seen = (top == torch.where(patch, GROUND, TARGET)) & solid
        return seen.sum(1) / solid.sum(1).clamp(min=1)

    def _top_layer(self, view: int, points: Tensor) -> Tensor:
        """Index (B, N) of the layer that lies on top at points (B, 1, N, 2) of a view."""
        maps = self.maps[:, view]
        top = torch.zeros(points.shape[0], points.shape[2], dtype=torch.long, device=maps.device)
        for index in back_to_front(self.dress.shape[-1]):
            inside = points @ maps[:, None, index + 1, :2, :2].transpose(-1, -2)
            inside = inside + maps[:, None, None, index + 1, :2, 2]
            mask = self.sprites[self.shape[:, view, index], CHANNELS:]
            alpha = F.grid_sample(mask, inside, align_corners=False)[:, 0, 0]
            solid = (alpha > 0.5) & (self.shown[:, view, index].amax(-1) > 0)[:, None]
            top = torch.where(solid, index + 1, top)
        return top


def back_to_front(objects: int) -> tuple[int, ...]:
    """Objects as they are drawn: the target lies below the last one, the occluder."""
    last = objects - 1
    return (*range(1, last), 0, last)


def rotate(xy: Tensor, angle: Tensor) -> Tensor:
    """Turn points (..., 2) about the origin by angles (...), from x towards y."""
    cos, sin = angle.cos(), angle.sin()
    x, y = xy[..., 0], xy[..., 1]
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1)


def sides_of(log_scale: Tensor, log_aspect: Tensor) -> Tensor:
    """Widths and heights (..., 2) of this scale and aspect."""
    return torch.exp(torch.stack([log_scale + log_aspect / 2, log_scale - log_aspect / 2], -1))


def similarity(centre: Tensor, half: Tensor, angle: Tensor) -> Tensor:
    """Return maps (..., 3, 3) from -1..1 into the world: scale by half, turn by angle, move."""
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    w, h = half.unbind(-1)
    rows = (cos * w, -sin * h, centre[..., 0], sin * w, cos * h, centre[..., 1], zero, zero, one)
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def inverse(maps: Tensor) -> Tensor:
    """Inverse of maps (..., 3, 3), unchecked: torch.linalg.inv would wait for the GPU."""
    return torch.linalg.inv_ex(maps).inverse


def square_support(device: torch.device) -> Tensor:
    """Support function (1, DIRECTIONS) of the square -1..1."""
    angle = torch.arange(DIRECTIONS, device=device) * (2 * torch.pi / DIRECTIONS)
    return (angle.cos().abs() + angle.sin().abs())[None]


def bounds(maps: Tensor, reach: Tensor) -> Tensor:
    """Bounding boxes (B, V, 4) cx, cy, w, h of shapes, support (B, V, DIRECTIONS), under maps."""
    linear = maps[..., :2, :2]
    edges = []
    for axis in (0, 1):
        row = linear[..., axis, :]  # direction e_axis pulled back into the shape's own frame
        for sign in (1, -1):
            direction = torch.atan2(sign * row[..., 1], sign * row[..., 0]) % (2 * torch.pi)
            steps = reach.shape[-1]
            at = direction * (steps / (2 * torch.pi))
            low = at.long() % steps
            part = at - at.floor()
            nearest = torch.stack([low, (low + 1) % steps], -1)
            before, after = reach.gather(-1, nearest).unbind(-1)
            reached = before * (1 - part) + after * part
            edges.append(sign * reached * row.norm(dim=-1) + maps[..., axis, 2])
    right, left, bottom, top = edges
    return torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], -1)
