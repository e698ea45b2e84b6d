"""The centre head of the OSTrack family: score, offset and size maps, and their decoding."""

from collections.abc import Callable

import torch
from torch import nn, Tensor
import torch.nn.functional as F


def _branch(dim: int, channels: int, outputs: int) -> list[nn.Module]:
    widths = (dim, channels, channels // 2, channels // 4, channels // 8)
    convs = [
        nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
        for a, b in zip(widths, widths[1:])
    ]
    return [*convs, nn.Conv2d(widths[-1], outputs, 1)]


class CentreHead(nn.Module):
    """
    Search features (B, D, G, G) to score (B, 1, G, G), size and offset (B, 2, G, G).

    score and size are clamped sigmoids; the offset is linear, in cells.
    """

    branches = (('ctr', 1), ('size', 2), ('offset', 2))

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        for name, outputs in self.branches:
            for i, layer in enumerate(_branch(dim, channels, outputs), 1):
                setattr(self, f'conv{i}_{name}', layer)
        # A rare-positive prior (RetinaNet's), so that the focal loss starts calm.
        nn.init.constant_(self.conv5_ctr.bias, -4.0)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._maps(lambda first: first(features))

    def of_tokens(self, tokens: Tensor, kept: Tensor, grid: int) -> tuple[Tensor, Tensor, Tensor]:
        """Give the maps of features that are zero but for tokens (B, n, D), see sparse."""
        return self._maps(lambda first: first[1:](sparse(first[0], tokens, kept, grid)))

    def _maps(self, begin: Callable[[nn.Sequential], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        maps = []
        for name, _ in self.branches:
            first, *others = (getattr(self, f'conv{i}_{name}') for i in range(1, 6))
            x = begin(first)
            for layer in others:
                x = layer(x)
            maps.append(x)
        score, size, offset = maps
        return self._probability(score), self._probability(size), offset

    @staticmethod
    def _probability(logits: Tensor) -> Tensor:
        return logits.sigmoid().clamp(1e-4, 1 - 1e-4)


def sparse(conv: nn.Conv2d, tokens: Tensor, kept: Tensor, grid: int) -> Tensor:
    """
    Return what a 3x3 convolution makes of a map that is zero but for some tokens: (B, O, G, G).

    tokens (B, n, D) at the places kept (B, n) of a grid of G x G. Each is multiplied by all nine
    taps, and each cell adds up what its neighbours hold for it: n / G² of the products.
    """
    taps = conv.weight.permute(0, 2, 3, 1).flatten(0, 2)  # (9 O, D), a view where channels_last
    products = F.linear(tokens, taps).unflatten(-1, (-1, 9)).transpose(2, 3)  # (B, n, 9, O)
    rows = F.pad(products, (0, 0, 0, 0, 0, 1)).flatten(0, 2)  # a zero token ends each sample's
    count, side = kept.shape[1] + 1, grid + 2  # the grid with a border of zero tokens
    step = torch.arange(side, device=kept.device)
    cells = (step[1:-1, None] * side + step[1:-1]).flatten()
    around = ((step[:3, None] - 1) * side + step[:3] - 1).flatten()
    order = torch.arange(count - 1, device=kept.device).expand_as(kept)
    token_at = kept.new_full((len(kept), side**2), count - 1).scatter(1, cells[kept], order)
    token_at = token_at + count * torch.arange(len(kept), device=kept.device)[:, None]
    chosen = token_at[:, cells[:, None] + around] * 9 + torch.arange(9, device=kept.device)
    added = rows.index_select(0, chosen.flatten()).unflatten(0, chosen.shape).sum(2)  # (B, G², O)
    return added.transpose(1, 2).unflatten(2, (grid, grid)) + conv.bias[:, None, None]


def decode(response: Tensor, size: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """
    Boxes (B, 4) as cx, cy, w, h relative to the crop, and their confidence (B,).

    response: score map, windowed or not (B, 1, G, G); size, offset: (B, 2, G, G).
    """
    grid = response.shape[-1]
    confidence, best = response.flatten(1).max(1)
    at = best[:, None, None].expand(-1, 2, 1)
    offset = offset.flatten(2).gather(2, at)[..., 0]
    size = size.flatten(2).gather(2, at)[..., 0]
    cell = torch.stack([best % grid, best // grid], 1)
    return torch.cat([(cell + offset) / grid, size], 1), confidence


def hann_window(grid: int) -> Tensor:
    """Make the response window (1, 1, G, G): hann(i) = 0.5 (1 - cos(2 pi i / (G + 1))), i=1..G."""
    hann = torch.hann_window(grid + 2, periodic=False)[1:-1]
    return torch.outer(hann, hann)[None, None]
