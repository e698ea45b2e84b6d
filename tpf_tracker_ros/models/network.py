"""
The contract: all that engines, exports, benchmarks, training and tests know of a network.

A network looks at template crops, which are kept, and at the search crop of a frame pair, and
answers with maps over the search crop. It is registered in registry.py; crops, their places in
the image and what is kept over time are the business of tracking/.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import nn, Tensor
from tpf_tracker_ros.core.crops import Framing, SQUARE


@dataclass(frozen=True)
class Crops:
    """What of an image a network sees, and the grids of its tokens and maps."""

    template_size: int = 128  # px, side of a template crop
    search_size: int = 256  # px, side of a search crop
    template_grid: int = 8  # cells along a side
    search_grid: int = 16  # cells along a side of the maps
    framing: Framing = SQUARE


@dataclass(frozen=True)
class Normalization:
    """What a network wants of 8-bit R, G, B scaled to 0..1: (value - mean) / std. ImageNet's."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def apply(self, images: Tensor) -> Tensor:
        """Normalise images (B, 3, H, W) in 0..1; thermal images are repeated to three channels."""
        mean, std = self._planes(images.device)
        return (images - mean) / std

    def undo(self, images: Tensor) -> Tensor:
        """Bring normalised images (B, 3, H, W) back to 0..1."""
        mean, std = self._planes(images.device)
        return images * std + mean

    @cache  # noqa: B019  a copy from the host in each batch would wait for the GPU
    def _planes(self, device: torch.device) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False):  # training may use them after tracking
            return tuple(
                torch.tensor(each, device=device).view(3, 1, 1) for each in (self.mean, self.std)
            )


class Maps(NamedTuple):
    """
    What a network answers for a search crop, on a grid of G x G cells.

    The box of cell (column, row) has its centre at ((column, row) + offset) / G and this size,
    all relative to the crop; the box taken is that of the largest hann window * score.
    """

    score: Tensor  # (B, 1, G, G) in 0..1
    size: Tensor  # (B, 2, G, G) width and height, 1: the crop's side
    offset: Tensor  # (B, 2, G, G) x and y, in cells
    confidence: Tensor | None = None  # (B, 1, G, G) in 0..1; None: hann window * score
    similarity: Tensor | None = None  # (B, Nx, K * Nz) of search to template cells, for training


class TrackingNetwork(nn.Module):
    """A network behind three verbs: merge a pair, keep a template, search for it."""

    name = ''  # in the registry, which sets it
    crops = Crops()
    normalization = Normalization()
    max_templates = 1  # that search takes at once; 2: the initial and a dynamic one
    # What the other camera gives: 'thermal', shown grey; 'depth', in colours; 'events' as drawn.
    second = 'thermal'
    hides_dead = False  # a dead camera's crop is black; else it is that of the other camera
    fuses = False  # whether merge gives one image that a person can look at

    def merge(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """
        Return what the other two verbs see of normalised pairs (B, 3, H, W) each: (B, C, H, W).

        A network that fuses pixels gives the fused images, normalised alike, of any H and W;
        others keep this: both images stacked, RGB first, (B, 6, H, W). The only verb that may
        run compiled code: engines trace the other two.
        """
        return torch.cat([rgb, thermal], 1)

    def template(self, merged: Tensor) -> Tensor:
        """Return what is kept of merged template crops (B, C, T, T): (B, ...), the rest opaque."""
        raise NotImplementedError

    def search(self, templates: Tensor, merged: Tensor) -> Maps:
        """
        Find the target in merged search crops (B, C, S, S).

        templates: (B, K, ...), K <= max_templates of those that template gives, the initial one
        first. K equal templates must answer as one does, or have been trained with.
        """
        raise NotImplementedError

    def forward(self, templates: Tensor, merged: Tensor) -> Maps:
        """Search."""
        return self.search(templates, merged)

    def parts(
        self, templates: Tensor, rgb: Tensor, thermal: Tensor
    ) -> dict[str, Callable[[], object]]:
        """Name the parts of one search step in their order, each ready to be run and timed."""
        merged = self.merge(rgb, thermal)
        return {
            'merge': lambda: self.merge(rgb, thermal),
            'search': lambda: self.search(templates, merged),
        }

    def group(self, key: str) -> str:
        """Tell of a weight, by its key in the state: 'frozen', 'adapter', 'backbone' or 'head'."""
        return 'head' if 'head' in key.partition('.')[0] else 'backbone'
