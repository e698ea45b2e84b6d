"""
NanoTrack v3's network: a small MobileNetV3 (arXiv 1905.02244) and an anchor-free Siamese head.

Written after the graph of its published ONNX files; names of weights are those of its published
checkpoint (HonglinChu/NanoTrack, Apache-2.0), which loads unchanged. Two correlations stand side
by side: every template pixel against every search pixel, weighed by channel attention (as in
LightTrack, arXiv 2104.14545), and the template's middle as a depth-wise kernel (SiamRPN++).
"""

import torch
from torch import nn, Tensor
import torch.nn.functional as F

# in, hidden and out channels, kernel, stride, hidden channels of squeeze and excite (0: none)
BLOCKS = (
    (16, 16, 16, 3, 2, 8),
    (16, 72, 24, 3, 2, 0),
    (24, 88, 24, 3, 1, 0),
    (24, 96, 40, 5, 2, 24),
    (40, 240, 40, 5, 1, 64),
    (40, 240, 40, 5, 1, 64),
    (40, 120, 48, 5, 1, 32),
    (48, 144, 48, 5, 1, 40),
    (48, 288, 96, 5, 1, 72),
)
DIM = BLOCKS[-1][2]
TOWER = 6  # depth-wise separable convolutions in each branch of the head
MIDDLE = slice(2, 6)  # rows and columns of the template's 8 that see the target itself


class SqueezeExcite(nn.Module):
    """Weigh each channel of (B, C, H, W) by what all of them are in the mean."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Hardsigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3)))[..., None, None]


class InvertedResidual(nn.Module):
    """One block of MobileNetV3; the first widens nothing and activates before it squeezes."""

    def __init__(
        self, channels: int, hidden: int, out: int, kernel: int, stride: int, squeeze: int
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and channels == out
        activation = nn.Hardswish if kernel == 5 else nn.ReLU
        excite = SqueezeExcite(hidden, squeeze) if squeeze else nn.Identity()
        deep = (
            nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
        )
        narrow = _pointwise(hidden, out)
        if hidden == channels:
            self.conv = nn.Sequential(*deep, activation(), excite, *narrow)
        else:
            wide = _pointwise(channels, hidden)
            self.conv = nn.Sequential(*wide, activation(), *deep, excite, activation(), *narrow)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class NanoBackbone(nn.Module):
    """Raw images, B G R in 0..255, (B, 3, S, S) to features (B, 96, S / 16, S / 16)."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Sequential(
            nn.Conv2d(3, BLOCKS[0][0], 3, 2, 1, bias=False),
            nn.BatchNorm2d(BLOCKS[0][0]),
            nn.Hardswish(),
        )
        self.features = nn.Sequential(first, *(InvertedResidual(*block) for block in BLOCKS))

    def forward(self, image: Tensor) -> Tensor:
        return self.features(image)


class ChannelAttention(nn.Module):
    """Weigh each channel of (B, C, H, W) by what all of them are in the mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels, 1)
        self.fc2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class PixelCorrelation(nn.Module):
    """Template (B, 96, 8, 8) against search features (B, 96, G + 1, G + 1): (B, 64, G, G)."""

    def __init__(self, template_cells: int = 64) -> None:
        super().__init__()
        n = template_cells
        self.conv_kernel = nn.Sequential(*_pointwise(DIM, DIM, bias=True))
        self.conv_search = nn.Sequential(*_pointwise(DIM, DIM, bias=True))
        self.CA_layer = ChannelAttention(n)
        self.conv = nn.Sequential(
            nn.Conv2d(n, n, 2, groups=n, bias=False),
            nn.BatchNorm2d(n),
            nn.ReLU6(),
            *_pointwise(n, n, bias=True),
        )

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        kernel = self.conv_kernel(template).flatten(2).mT  # (B, 64, 96)
        search = self.conv_search(search)
        likeness = (kernel @ search.flatten(2)).unflatten(2, search.shape[2:])
        return self.conv(self.CA_layer(likeness))


class DepthwiseCorrelation(nn.Module):
    """Template (B, 96, 8, 8) over search features (B, 96, G + 1, G + 1): (B, 96, G, G)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_kernel = nn.Sequential(*_pointwise(DIM, DIM, bias=True))
        self.conv_search = nn.Sequential(*_pointwise(DIM, DIM, bias=True))

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        kernel = self.conv_kernel(template[..., MIDDLE, MIDDLE])  # (B, 96, 4, 4)
        search = self.conv_search(search)
        batch, channels = search.shape[:2]
        # One group for each sample and channel.
        found = F.conv2d(
            search.reshape(1, batch * channels, *search.shape[2:]),
            kernel.reshape(batch * channels, 1, *kernel.shape[2:]),
            padding=1,
            groups=batch * channels,
        )
        return found.view(batch, channels, *found.shape[2:])


class NanoHead(nn.Module):
    """
    Template (B, 96, 8, 8) and search features (B, 96, G + 1, G + 1) to maps of G x G cells.

    Logits (B, 2, G, G) of background and target, and distances (B, 4, G, G) in px of the crop from
    a cell's point to the box's left, top, right and bottom side.
    """

    def __init__(self) -> None:
        super().__init__()
        self.corr_pw_reg, self.corr_pw_cls = PixelCorrelation(), PixelCorrelation()
        self.corr_dw_reg, self.corr_dw_cls = DepthwiseCorrelation(), DepthwiseCorrelation()
        self.down_reg = nn.Sequential(nn.Conv2d(64 + DIM, DIM, 1))
        self.down_cls = nn.Sequential(nn.Conv2d(64 + DIM, DIM, 1))
        self.bbox_tower, self.cls_tower = _tower(), _tower()
        self.bbox_pred = nn.Sequential(nn.Conv2d(DIM, 4, 1))
        self.cls_logits = nn.Sequential(nn.Conv2d(DIM, 2, 1))

    def forward(self, template: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
        return self.classify(template, search), self.regress(template, search)

    def classify(self, template: Tensor, search: Tensor) -> Tensor:
        """Logits (B, 2, G, G)."""
        found = self.corr_pw_cls(template, search), self.corr_dw_cls(template, search)
        return self.cls_logits(self.cls_tower(self.down_cls(torch.cat(found, 1))))

    def regress(self, template: Tensor, search: Tensor) -> Tensor:
        """Distances (B, 4, G, G) in px."""
        found = self.corr_pw_reg(template, search), self.corr_dw_reg(template, search)
        return self.bbox_pred(self.bbox_tower(self.down_reg(torch.cat(found, 1)))).exp()


def _pointwise(channels: int, out: int, *, bias: bool = False) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, out, 1, bias=bias), nn.BatchNorm2d(out)


def _tower() -> nn.Sequential:
    layers = []
    for _ in range(TOWER):
        layers += [
            nn.Conv2d(DIM, DIM, 3, padding=1, groups=DIM, bias=False),
            nn.BatchNorm2d(DIM),
            nn.ReLU6(),
            *_pointwise(DIM, DIM),
        ]
    return nn.Sequential(*layers)
