"""
The Pixel-level Fusion Adapter: one fused image from an RGB and a thermal image.

KNOWN of TPF (arXiv 2503.11247): a light Mamba adapter in front of, and independent of, the
tracker. Its inside was not published; what stands here is our reconstruction: a stem for each
modality, a difference-guided exchange (m = Mamba(LN(v - t)); v += tanh(m) t; t += tanh(m) v)
and a joint mixer that scans rows and columns.
"""

import math

import torch
from torch import nn, Tensor
import torch.nn.functional as F
from tpf_tracker_ros.models.layers.mamba import DIRECTIONS, GridMamba

FLAT = 0.01  # mean |Laplacian| of a cell that shows nothing, in normalised units


class GridStem(nn.Module):
    """
    An image (B, 3, H, W) to features (B, C, H/s, W/s): strided convolutions and local contrast.

    Contrast, the log of the mean |Laplacian| of each cell, is what fusion by guided filters
    decides by, and what so few convolutions cannot see themselves.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, channels, 4, stride // 2, padding=1),
            nn.SiLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 2, padding=1),
        )
        self.contrast = nn.Conv2d(1, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        grey = F.pad(image.mean(1, keepdim=True), (1, 1, 1, 1), mode='replicate')
        # The mean of 3 x 3 by shifted sums: a pooling or a convolution takes five times as long.
        rows = grey[..., :-2, :] + grey[..., 1:-1, :] + grey[..., 2:, :]
        total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
        laplacian = grey[..., 1:-1, 1:-1] - total / 9
        contrast = torch.log(F.avg_pool2d(laplacian.abs(), self.stride) + FLAT)
        return self.convolutions(image) + self.contrast(contrast - math.log(FLAT))


class PixelFusionAdapter(nn.Module):
    """
    V, T (B, 3, H, W) to F (B, 3, H, W), all in the same normalised space.

    stride 1: F = (V + T) / 2 + delta, all at full resolution.
    even stride s: the mixers run on an H/s x W/s grid and predict two gains and a level, which
    are upsampled: F = a V + b T + d. V and T stay at full resolution, so F stays sharp, and what
    is dull in both can be stretched. H and W need not be multiples of s.
    convex, with such a stride: F = T + a (V - T): two equal images stay exactly as they are, as
    a tracker that was trained on one camera wants them. The stems see images of half the size.
    All start as plain averaging: the last convolution is zero.
    """

    def __init__(
        self,
        *,
        channels: int,
        stride: int = 1,
        d_state: int = 16,
        expand: int = 1,
        exchange_directions: tuple[str, ...] = ('right',),
        mixer_directions: tuple[str, ...] = DIRECTIONS,
        convex: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.convex = stride, convex
        mamba = {'d_state': d_state, 'd_conv': 4, 'expand': expand}
        self.stem_rgb = self._stem(channels)
        self.stem_thermal = self._stem(channels)
        self.norm_exchange = nn.LayerNorm(channels)
        self.exchange = GridMamba(channels, directions=exchange_directions, **mamba)
        self.join = nn.Linear(2 * channels, channels)
        self.norm_mixer = nn.LayerNorm(channels)
        self.mixer = GridMamba(channels, directions=mixer_directions, **mamba)
        self.out = nn.Conv2d(channels, 1 if convex else 3, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def _stem(self, channels: int) -> nn.Module:
        if self.stride == 1:
            return nn.Conv2d(3, channels, 3, padding=1)
        return GridStem(channels, self.stride // 2 if self.convex else self.stride)

    def forward(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        height, width = rgb.shape[-2:]
        pad = (0, -width % self.stride, 0, -height % self.stride)
        if any(pad):
            padded = [F.pad(image, pad, mode='replicate') for image in (rgb, thermal)]
        else:
            padded = [rgb, thermal]
        if self.convex:
            padded = [halve(image) for image in padded]
        v = self.stem_rgb(padded[0]).permute(0, 2, 3, 1).contiguous()  # (B, H/s, W/s, C)
        t = self.stem_thermal(padded[1]).permute(0, 2, 3, 1).contiguous()
        gate = self.exchange(self.norm_exchange(v - t)).tanh()
        v, t = torch.addcmul(v, gate, t), torch.addcmul(t, gate, v)
        joint = self.join(torch.cat([v, t], -1))
        joint = joint + self.mixer(self.norm_mixer(joint))
        out = self.out(joint.permute(0, 3, 1, 2))
        if self.stride == 1:
            return (rgb + thermal) / 2 + out
        if self.convex:
            a = magnify(out + 0.5, self.stride)[..., :height, :width]
            return torch.lerp(thermal, rgb, a)
        mix = magnify(torch.cat([out[:, :2] + 0.5, out[:, 2:]], 1), self.stride)  # a, b, d
        a, b, d = mix[..., :height, :width].split(1, dim=1)
        return torch.addcmul(torch.addcmul(d, b, thermal), a, rgb)


def halve(image: Tensor) -> Tensor:
    """Average (B, C, H, W), even sides, over 2 x 2 px; a pooling takes four times as long."""
    rows = image[..., 0::2, :] + image[..., 1::2, :]
    return (rows[..., 0::2] + rows[..., 1::2]) / 4


def magnify(grid: Tensor, factor: int) -> Tensor:
    """
    Upsample (B, C, h, w) bilinearly to (B, C, factor h, factor w).

    The same as F.interpolate, which takes several times as long as these two small products.
    """
    rows, columns = (
        F.interpolate(
            torch.eye(n, dtype=grid.dtype, device=grid.device)[None],
            scale_factor=factor,
            mode='linear',
            align_corners=False,
        )[0]
        for n in grid.shape[-2:]
    )
    return rows.T @ grid @ columns
