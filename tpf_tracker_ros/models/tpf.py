"""
TPF: pixel-level fusion in front of a one-stream ViT with a centre head (arXiv 2503.11247).

One definition, three sizes. The tracker's network is that of OSTrack-256; the fusion adapter
and the second, dynamic template are our reconstruction (see docs/model.md).
"""

from dataclasses import dataclass

import torch
from torch import nn, Tensor
from tpf_tracker_ros.core.crops import Framing, SQUARE
from tpf_tracker_ros.models.layers.head import CentreHead
from tpf_tracker_ros.models.layers.mamba import DIRECTIONS
from tpf_tracker_ros.models.layers.pfa import PixelFusionAdapter
from tpf_tracker_ros.models.layers.vit import VisionTransformer
from tpf_tracker_ros.models.registry import register_model


@dataclass(frozen=True)
class TpfConfig:
    """Every number of a TPF network."""

    template_size: int = 128  # px, side of a template crop
    search_size: int = 256  # px, side of the search crop
    framing: Framing = SQUARE
    stride: int = 16  # px of a crop for each token
    stem: str = 'patch'  # 'patch' (one strided convolution) or 'conv' (with correlation)
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    ce_blocks: tuple[int, ...] = (3, 6, 9)  # blocks with candidate elimination
    ce_keep: float = 0.7  # share of search tokens that such a block keeps
    head_channels: int = 256
    pfa_channels: int = 32
    pfa_stride: int = 4  # px of a cell of the grid that the mixers run on; 1: every pixel
    pfa_state: int = 16
    pfa_directions: tuple[str, ...] = DIRECTIONS  # in which the joint mixer scans


@dataclass(frozen=True)
class TpfOutput:
    """Maps of the centre head: score (B, 1, G, G), size (B, 2, G, G), offset (B, 2, G, G)."""

    score: Tensor
    size: Tensor
    offset: Tensor


class Tpf(nn.Module):
    """fuse -> embed -> forward; the parts are methods so that templates are computed once."""

    def __init__(self, config: TpfConfig) -> None:
        super().__init__()
        self.config = config
        self.pfa = PixelFusionAdapter(
            channels=config.pfa_channels,
            stride=config.pfa_stride,
            d_state=config.pfa_state,
            mixer_directions=config.pfa_directions,
        )
        self.backbone = VisionTransformer(
            dim=config.dim,
            depth=config.depth,
            heads=config.heads,
            mlp_ratio=config.mlp_ratio,
            stride=config.stride,
            grid_z=config.template_size // config.stride,
            grid_x=config.search_size // config.stride,
            stem=config.stem,
            ce_blocks=config.ce_blocks,
            ce_keep=config.ce_keep,
        )
        self.box_head = CentreHead(config.dim, config.head_channels)
        self.segment_dynamic = nn.Parameter(torch.zeros(1, 1, config.dim))

    def fuse(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Fused images (B, 3, H, W) from normalised RGB and thermal (B, 3, H, W) of any size."""
        return self.pfa(rgb, thermal)

    def embed(self, fused: Tensor) -> Tensor:
        """Patch tokens (B, N, D) of fused template or search crops (B, 3, S, S)."""
        return self.backbone.patch_embed(fused)

    def forward(self, templates: Tensor, search: Tensor) -> TpfOutput:
        """Head maps from tokens, see features."""
        return TpfOutput(*self.box_head(self.features(templates, search)))

    def features(self, templates: Tensor, search: Tensor) -> Tensor:
        """
        Return what the head sees of the search image, (B, D, G, G).

        templates: tokens (B, K * Nz, D) of the initial template and, with K = 2, of the
        dynamic one; search: tokens (B, Nx, D).
        """
        initial = torch.zeros_like(self.segment_dynamic)
        count = templates.shape[1] // self.backbone.grid_z**2
        segments = torch.cat([initial, self.segment_dynamic])[:count]
        return self.backbone(templates, search, segments)


@register_model
def tpf_base() -> Tpf:
    """ViT-B at 128/256 px; loads OSTrack-256 and DropMAE/DropTrack checkpoints."""
    return Tpf(TpfConfig())


@register_model
def tpf_small() -> Tpf:
    """ViT-S at 128/256 px."""
    return Tpf(TpfConfig(dim=384, heads=6, head_channels=128, pfa_channels=16))


@register_model
def tpf_tiny() -> Tpf:
    """Three narrow blocks behind a convolutional stem at 64/128 px; for plain CPUs."""
    return Tpf(
        TpfConfig(
            template_size=64,
            search_size=128,
            framing=Framing(template=1.5, search=3.0, wide=6.0, aspect=3.0, smallest=20.0),
            stride=8,
            stem='conv',
            dim=96,
            depth=3,
            heads=3,
            mlp_ratio=2.0,
            ce_blocks=(),
            head_channels=48,
            pfa_channels=16,
            pfa_stride=8,
            pfa_state=4,
            pfa_directions=('right', 'up'),
        )
    )
