"""
CMD: one shallow stream for both modalities that learned from two deep ones (CVPR 2023).

KNOWN of the paper: a student of one stream whose weights the modalities share, with a simple
fusion, taught by a deeper network of two streams with a complex one. Its text, code and weights
were not at hand, so the student is our reconstruction: the ViT of this project at a third of the
depth and half the width, both modalities as one batch, candidates in common as in CKD, and a
linear fusion that starts as the mean. How it is taught is in training/ (docs/models.md).
"""  # noqa: A005

from dataclasses import dataclass

import torch
from torch import nn, Tensor
from tpf_tracker_ros.models.layers.head import CentreHead
from tpf_tracker_ros.models.registry import register_model
from tpf_tracker_ros.models.two_stream import mean_similarity, TwoStreamNetwork
from tpf_tracker_ros.models.vit_config import TINY, VitConfig


@dataclass(frozen=True)
class CmdConfig(VitConfig):
    """Every number of a CMD student."""

    dim: int = 384
    depth: int = 6
    heads: int = 6
    ce_blocks: tuple[int, ...] = (1, 3, 4)
    head_channels: int = 128


class Cmd(TwoStreamNetwork):
    """Both modalities as one batch through one stream, their tokens fused, then the head."""

    def __init__(self, config: CmdConfig) -> None:
        super().__init__(config)
        self.backbone = config.stream()
        # What tells the modalities and the dynamic template apart; zero until it is learned.
        self.modality = nn.Parameter(torch.zeros(2, 1, 1, config.dim))
        self.template_type = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.fusion = nn.Linear(2 * config.dim, config.dim)
        with torch.no_grad():
            half = torch.eye(config.dim) / 2
            self.fusion.weight.copy_(torch.cat([half, half], 1))
            self.fusion.bias.zero_()
        self.box_head = CentreHead(config.dim, config.head_channels)

    def embed(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Patch tokens (B, N, 2 D), RGB first, of normalised crops (B, 3, S, S)."""
        return torch.cat(self.backbone.patch_embed(torch.cat([rgb, thermal])).chunk(2), -1)

    def similarity(self, templates: Tensor, search: Tensor) -> Tensor | None:
        """Give the mean of both modalities' similarities; None without a convolutional stem."""
        return mean_similarity((self.backbone.correlation,) * 2, templates, search)

    def features(
        self,
        templates: Tensor,
        search: Tensor,
        *,
        taps: list[tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """
        Give what the head sees, (B, D, G, G), of tokens (B, K * Nz, 2 D) and (B, Nx, 2 D).

        taps, if given, receives the tokens (B, N, D) of RGB and thermal after each block.
        """
        backbone, count = self.backbone, templates.shape[1]
        initial = torch.zeros_like(self.template_type)
        types = torch.cat([initial, self.template_type])[: count // backbone.grid_z**2]
        stacked = (torch.cat(tokens.chunk(2, -1)) for tokens in (templates, search))
        x = backbone.place(*stacked, types)  # (2 B, N, D), RGB first
        x = (x.unflatten(0, (2, -1)) + self.modality).flatten(0, 1)
        kept = backbone.candidates(x[:, count:])
        for block in backbone.blocks:
            query = backbone.centre if block.eliminates else None
            # Nothing reads the templates after the last block.
            skip = count if block is backbone.blocks[-1] and taps is None else 0
            x, paid = block.attend(x, query=query, skip=skip)
            if paid is not None:
                # As in CKD: what either modality takes for the target stays in both.
                scores = torch.maximum(*paid.chunk(2)).mean(1)[:, count:].repeat(2, 1)
                x, kept = block.eliminate(x, kept, scores, templates=count)
            x = block.transform(x)
            if taps is not None:
                taps.append(x.chunk(2))
        both = torch.cat(backbone.norm(x[:, count - skip :]).chunk(2), -1)  # noqa: E203
        return backbone.restore(self.fusion(both), kept.chunk(2)[0])


# Each modality keeps a template of its own; a second one costs a fifth more time.
ONE_TEMPLATE = {'ndtu_interval': 0}


@register_model(defaults=ONE_TEMPLATE)
def cmd_small() -> Cmd:
    """One shared stream of six blocks for both modalities, at 128/256 px; 13 M parameters."""
    return Cmd(CmdConfig())


@register_model(defaults={**ONE_TEMPLATE, 'score_smoothing': 0.8})
def cmd_tiny() -> Cmd:
    """Three narrow blocks shared by both modalities, at 64/128 px; for plain CPUs."""
    return Cmd(CmdConfig(**TINY, ce_blocks=(0, 1), ce_keep=0.6))
