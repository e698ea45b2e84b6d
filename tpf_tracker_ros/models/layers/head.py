"""The centre head of the OSTrack family: score, offset and size maps, and their decoding."""

import torch
from torch import nn, Tensor


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
        maps = []
        for name, _ in self.branches:
            x = features
            for i in range(1, 6):
                x = getattr(self, f'conv{i}_{name}')(x)
            maps.append(x)
        score, size, offset = maps
        return self._probability(score), self._probability(size), offset

    @staticmethod
    def _probability(logits: Tensor) -> Tensor:
        return logits.sigmoid().clamp(1e-4, 1 - 1e-4)


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
