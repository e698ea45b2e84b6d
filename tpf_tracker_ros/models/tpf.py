"""
TPF: pixel-level fusion in front of a one-stream ViT with a centre head (arXiv 2503.11247).

One definition, three sizes. The tracker's network is that of OSTrack-256; the fusion adapter
and the second, dynamic template are our reconstruction (see docs/model.md).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn, Tensor
from tpf_tracker_ros.models.layers.head import CentreHead
from tpf_tracker_ros.models.layers.mamba import DIRECTIONS
from tpf_tracker_ros.models.layers.pfa import PixelFusionAdapter
from tpf_tracker_ros.models.network import Maps, TrackingNetwork
from tpf_tracker_ros.models.published import ostrack_weights
from tpf_tracker_ros.models.registry import PublishedKeys, register_model
from tpf_tracker_ros.models.vit_config import TINY, VitConfig


@dataclass(frozen=True)
class TpfConfig(VitConfig):
    """Every number of a TPF network."""

    share_mass: bool = True  # two equal templates are exactly one, as imported weights need it
    pfa_channels: int = 32
    pfa_stride: int = 4  # px of a cell of the grid that the mixers run on; 1: every pixel
    pfa_state: int = 16
    pfa_directions: tuple[str, ...] = DIRECTIONS  # in which the joint mixer scans


class Tpf(TrackingNetwork):
    """Pixels are fused first; what follows sees one image, as a tracker of RGB alone would."""

    max_templates = 2
    fuses = True

    def __init__(self, config: TpfConfig) -> None:
        super().__init__()
        self.config = config
        self.crops = config.crops()
        self.pfa = PixelFusionAdapter(
            channels=config.pfa_channels,
            stride=config.pfa_stride,
            d_state=config.pfa_state,
            mixer_directions=config.pfa_directions,
        )
        self.backbone = config.stream(share_mass=config.share_mass)
        self.box_head = CentreHead(config.dim, config.head_channels)
        self.template_type = nn.Parameter(torch.zeros(1, 1, config.dim))  # of the dynamic one

    def merge(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Fused images (B, 3, H, W) from normalised RGB and thermal (B, 3, H, W) of any size."""
        return self.pfa(rgb, thermal)

    def template(self, merged: Tensor) -> Tensor:
        """Patch tokens (B, Nz, D) of fused template crops (B, 3, T, T)."""
        return self.backbone.patch_embed(merged)

    def search(self, templates: Tensor, merged: Tensor) -> Maps:
        """Head maps from the tokens of one or two templates (B, K, Nz, D), see the contract."""
        features, similarity = self.features(templates, merged)
        return Maps(*self.box_head(features), similarity=similarity)

    def features(
        self, templates: Tensor, merged: Tensor, *, taps: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """
        Return what the head sees of fused search crops, (B, D, G, G), and the similarity.

        taps, if given, receives the tokens (B, N, D) after each block.
        """
        tokens = self.backbone.patch_embed(merged)
        similarity = None
        if self.training and self.backbone.correlation is not None:
            similarity = self.backbone.correlation.similarity(templates.flatten(1, 2), tokens)
        return self._stream(templates, tokens, taps), similarity

    def _stream(
        self, templates: Tensor, tokens: Tensor, taps: list[Tensor] | None = None
    ) -> Tensor:
        initial = torch.zeros_like(self.template_type)
        types = torch.cat([initial, self.template_type])[: templates.shape[1]]
        return self.backbone(templates.flatten(1, 2), tokens, types, taps=taps)

    def parts(
        self, templates: Tensor, rgb: Tensor, thermal: Tensor
    ) -> dict[str, Callable[[], object]]:
        """Name the parts of a search step in their order, see the contract."""
        fused = self.merge(rgb, thermal)
        tokens = self.backbone.patch_embed(fused)
        features = self._stream(templates, tokens)
        return {
            'pfa': lambda: self.merge(rgb, thermal),
            'embedding': lambda: self.backbone.patch_embed(fused),
            'backbone': lambda: self._stream(templates, tokens),
            'head': lambda: self.box_head(features),
        }

    def group(self, key: str) -> str:
        """Tell the group of a weight by its key."""
        return {'pfa': 'adapter', 'backbone': 'backbone'}.get(key.partition('.')[0], 'head')


OSTRACK = PublishedKeys(
    convert=ostrack_weights,
    ours=lambda key: key.startswith(('backbone.', 'box_head.')),
    rest='the fusion adapter starts as plain averaging',
)


@register_model(published=OSTRACK)
def tpf_base() -> Tpf:
    """ViT-B at 128/256 px; loads OSTrack-256 and DropMAE/DropTrack checkpoints."""
    return Tpf(TpfConfig())


@register_model(published=OSTRACK)
def tpf_small() -> Tpf:
    """ViT-S at 128/256 px."""
    return Tpf(TpfConfig(dim=384, heads=6, head_channels=128, pfa_channels=16))


@register_model()
def tpf_tiny() -> Tpf:
    """Three narrow blocks behind a convolutional stem at 64/128 px; for plain CPUs."""
    return Tpf(
        TpfConfig(
            **TINY,
            ce_blocks=(),
            share_mass=False,  # trained with two templates as they are
            pfa_channels=16,
            pfa_stride=8,
            pfa_state=4,
            pfa_directions=('right', 'up'),
        )
    )
