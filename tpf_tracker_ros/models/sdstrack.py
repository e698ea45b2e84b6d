"""
SDSTrack: one frozen RGB tracker for two modalities, through adapters (CVPR 2024).

Both modalities pass the same ViT-B of OSTrack, the second one with a patch embedding of its own
and small adapters beside attention and MLP. After four of the blocks both pass the same block
once more and attend to each other only. Names and shapes are those of the published checkpoints;
the code is ours. In the published code that second pass is masked self-attention over the tokens
of both; here it is cross attention: the same numbers for half the products.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn, Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.layers.head import CentreHead
from tpf_tracker_ros.models.layers.vit import (
    Block,
    PatchEmbed,
    template_bias,
    to_slots,
    VisionTransformer,
)
from tpf_tracker_ros.models.registry import PublishedKeys, register_model
from tpf_tracker_ros.models.two_stream import TwoStreamNetwork
from tpf_tracker_ros.models.vit_config import VitConfig


@dataclass(frozen=True)
class SdsTrackConfig(VitConfig):
    """Every number of an SDSTrack network."""

    fusion_blocks: tuple[int, ...] = (3, 6, 9, 11)  # after which the modalities attend each other
    adapter_dim: int = 192


class Fused(NamedTuple):
    """What a fusion pass gives: tokens (2 B, N, D), RGB first, and the places of the search's."""

    tokens: Tensor
    kept: Tensor  # (2 B, n), original indices


class Adapter(nn.Module):
    """Two small layers beside a large one; they are not zero at the start."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.D_fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.D_fc2 = nn.Linear(hidden, dim)
        for layer in (self.D_fc1, self.D_fc2):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.D_fc2(self.act(self.D_fc1(x)))


class TwoModalityBlock(Block):
    """
    A block that RGB (the first half of a batch) passes as it is, and X (the other) with adapters.

    All tokens are (2 B, N, D): both modalities pass the shared weights as one batch.
    """

    def __init__(
        self, dim: int, heads: int, mlp_ratio: float, keep: float, *, adapter_dim: int
    ) -> None:
        super().__init__(dim, heads, mlp_ratio, keep)
        self.Space_X_DTE_Adapter = Adapter(dim, adapter_dim)
        self.MLP_X_DTE_Adapter = Adapter(dim, adapter_dim)
        self.Space_X_X_DTE_Adapter = Adapter(dim, adapter_dim)
        self.MLP_X_X_DTE_Adapter = Adapter(dim, adapter_dim)

    def attend(
        self, x: Tensor, *, query: int | None = None, bias: Tensor | None = None, skip: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        attended, paid = self.attn(self.norm1(x), query=query, bias=bias, skip=skip)
        rgb, other = attended.chunk(2)
        adapted = torch.cat([rgb, other + self.Space_X_DTE_Adapter(other)])
        return x[:, skip:] + self.drop_path(adapted), paid

    def transform(self, x: Tensor) -> Tensor:
        normed = self.norm2(x)
        rgb, other = self.mlp(normed).chunk(2)
        adapted = other + 0.5 * self.MLP_X_DTE_Adapter(normed.chunk(2)[1])
        # As published: of all residuals that of RGB here is never dropped in training.
        return x + torch.cat([rgb, self.drop_path(adapted)])

    def fuse(self, x: Tensor, *, bias: Tensor | None = None, skip: int = 0) -> Tensor:
        """
        Do the second pass, in which each modality attends to the other one only.

        skip: so many tokens at the front are attended to but not returned.
        """
        q, k, v = self.attn.split(self.norm1(x), skip)
        swapped = (torch.cat(values.chunk(2)[::-1]) for values in (k, v))
        attended = self.attn.attend(q, *swapped, bias)
        x = x[:, skip:] + self.drop_path(attended + self.Space_X_X_DTE_Adapter(attended))
        normed = self.norm2(x)
        return x + self.drop_path(self.mlp(normed) + 0.5 * self.MLP_X_X_DTE_Adapter(normed))


class TwoModalityTransformer(VisionTransformer):
    """The ViT of OSTrack with a second patch embedding, adapters and fusion passes."""

    def __init__(
        self,
        *,
        dim: int,
        stride: int,
        stem: str,
        fusion_blocks: tuple[int, ...],
        adapter_dim: int,
        **more: Any,
    ) -> None:
        if stem != 'patch':
            raise TpfError(f"stem is {stem!r}; SDSTrack has a second patch embedding: 'patch'")
        block = partial(TwoModalityBlock, adapter_dim=adapter_dim)
        super().__init__(dim=dim, stride=stride, stem=stem, block=block, **more)
        self.fusion_blocks = fusion_blocks
        self.patch_embed_multimodal = PatchEmbed(dim, stride)
        # Both belong to the published checkpoints; nothing uses them.
        self.pos_embed_z_z_dte = nn.Parameter(torch.zeros(1, 2 * self.grid_z**2, dim))
        self.pos_embed_x_x_dte = nn.Parameter(torch.zeros(1, 2 * self.grid_x**2, dim))

    def forward(
        self, templates: Tensor, search: Tensor, *, taps: list[Fused] | None = None
    ) -> Tensor:
        """
        Search features (B, D, G, G): the mean of both modalities, normalised.

        templates: tokens (2 B, K * Nz, D), RGB first; search: (2 B, Nx, D). taps, if given,
        receives what each fusion pass gives.
        """
        count = templates.shape[1]
        x, kept, skip = self.place(templates, search, 0.0), self.candidates(search), 0
        for i, block in enumerate(self.blocks):
            bias = template_bias(x, count, count // self.grid_z**2)
            x, kept = block(x, kept, templates=count, centre=self.centre, bias=bias)
            if i in self.fusion_blocks:
                bias = template_bias(x, count, count // self.grid_z**2)
                # Nothing reads the templates after the last block.
                skip = count if block is self.blocks[-1] and taps is None else 0
                x = block.fuse(x, bias=bias, skip=skip)
                if taps is not None:
                    taps.append(Fused(x, kept))
        # The norm follows the mean, so a slot that both eliminated holds the norm's bias.
        rgb, other = to_slots(x[:, count - skip :], kept, search.shape[1]).chunk(2)  # noqa: E203
        features = self.norm((rgb + other) / 2)
        return features.transpose(1, 2).unflatten(2, (self.grid_x, self.grid_x))


class SdsTrack(TwoStreamNetwork):
    """Both modalities as one batch through the shared ViT, then the head on their mean."""

    hides_dead = True

    def __init__(self, config: SdsTrackConfig, *, second: str = 'thermal') -> None:
        super().__init__(config)
        self.second = second
        self.backbone = config.stream(
            TwoModalityTransformer,
            fusion_blocks=config.fusion_blocks,
            adapter_dim=config.adapter_dim,
        )
        self.box_head = CentreHead(config.dim, config.head_channels)

    def embed(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """
        Patch tokens (B, N, 2 D), RGB first, of normalised crops (B, 3, S, S).

        The tokens of a crop without any contrast are zero: training hides tokens so.
        """
        embeds = self.backbone.patch_embed, self.backbone.patch_embed_multimodal
        return torch.cat(
            [embed(crop) * _shows(crop) for embed, crop in zip(embeds, (rgb, thermal))], -1
        )

    def features(
        self, templates: Tensor, search: Tensor, *, taps: list[Fused] | None = None
    ) -> Tensor:
        """
        Give what the head sees, (B, D, G, G), of tokens (B, K * Nz, 2 D) and (B, Nx, 2 D).

        taps, if given, receives what each fusion pass gives. A masked pass of training is one on
        tokens that `hide` was applied to.
        """
        z, x = (torch.cat(tokens.chunk(2, -1)) for tokens in (templates, search))
        return self.backbone(z, x, taps=taps)

    def group(self, key: str) -> str:
        """Tell the group of a weight by its key: the published training freezes most."""
        if 'Adapter' in key or 'multimodal' in key:
            return 'adapter'
        return 'backbone' if key.startswith('backbone.norm.') else 'frozen'


# Weights that published files hold though nothing uses them.
_UNUSED = ('cls_token', 'pos_embed', 'pos_embed_z_z_dte', 'pos_embed_x_x_dte')
_UNUSED_KEYS = tuple(f'backbone.{name}' for name in _UNUSED)
PUBLISHED = PublishedKeys(
    unused=lambda key: key in _UNUSED_KEYS, ours=lambda key: key not in _UNUSED_KEYS
)


@register_model(policy='published', published=PUBLISHED)
def sdstrack() -> SdsTrack:
    """One ViT-B for both modalities, with adapters, at 128/256 px; loads SDSTrack's RGB-T file."""
    return SdsTrack(SdsTrackConfig())


@register_model(policy='published', published=PUBLISHED)
def sdstrack_depth() -> SdsTrack:
    """Two-modality ViT-B as sdstrack, for RGB and depth in mm; loads SDSTrack's RGB-D file."""
    return SdsTrack(SdsTrackConfig(), second='depth')


@register_model(policy='published', published=PUBLISHED)
def sdstrack_event() -> SdsTrack:
    """Two-modality ViT-B as sdstrack, for RGB and event images; loads SDSTrack's RGB-E file."""
    return SdsTrack(SdsTrackConfig(), second='events')


def hide(tokens: Tensor, rgb: Tensor, other: Tensor) -> Tensor:
    """Patch tokens (B, N, 2 D) with those zero that the masks (B, N), true where hidden, name."""
    seen = torch.stack([~rgb, ~other], -1)[..., None]  # (B, N, 2, 1)
    return (tokens.unflatten(-1, (2, -1)) * seen).flatten(2)


def _shows(crop: Tensor) -> Tensor:
    """1 for crops (B, 3, S, S) that show anything, 0 for those of one colour: (B, 1, 1)."""
    flat = crop.flatten(2)
    return (flat.amax(-1) > flat.amin(-1)).any(1).to(crop.dtype)[:, None, None]
