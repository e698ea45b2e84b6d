"""
What CKD, SDSTrack and CMD share: tokens of both modalities up to the head that sees them.

A crop pair becomes patch tokens (B, N, 2 D), the RGB channels first; the network carries them
through its streams, and a centre head sees what comes out.
"""

from collections.abc import Callable

import torch
from torch import nn, Tensor
from tpf_tracker_ros.models.layers.head import CentreHead
from tpf_tracker_ros.models.network import Maps, TrackingNetwork
from tpf_tracker_ros.models.vit_config import VitConfig


class TwoStreamNetwork(TrackingNetwork):
    """The contract on top of embed, features and box_head, which a network gives."""

    max_templates = 2
    box_head: CentreHead

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        self.crops = config.crops()

    def embed(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Patch tokens (B, N, 2 D) of normalised crops (B, 3, S, S), S that of either view."""
        raise NotImplementedError

    def features(self, templates: Tensor, search: Tensor, *, taps: list | None = None) -> Tensor:
        """
        Give what the head sees, (B, C, G, G), of tokens (B, K * Nz, 2 D) and (B, Nx, 2 D).

        taps, if given, receives what training compares inside the network; see each network.
        """
        raise NotImplementedError

    def seen(self, templates: Tensor, search: Tensor) -> tuple[Tensor, ...]:
        """Give what answer takes; arguments of features."""
        return (self.features(templates, search),)

    def answer(self, seen: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Give the three maps of the head."""
        return self.box_head(*seen)

    def similarity(self, templates: Tensor, search: Tensor) -> Tensor | None:
        """Similarity (B, Nx, K * Nz) of a stem that compares tokens like those of features."""
        return None

    def template(self, merged: Tensor) -> Tensor:
        """Patch tokens (B, Nz, 2 D) of template crops (B, 6, T, T)."""
        return self.embed(*merged.chunk(2, 1))

    def search(self, templates: Tensor, merged: Tensor) -> Maps:
        """Head maps from the tokens of one or two templates (B, K, Nz, 2 D), see the contract."""
        z, x = templates.flatten(1, 2), self.embed(*merged.chunk(2, 1))
        similarity = self.similarity(z, x) if self.training else None
        return Maps(*self.answer(self.seen(z, x)), similarity=similarity)

    def parts(
        self, templates: Tensor, rgb: Tensor, thermal: Tensor
    ) -> dict[str, Callable[[], object]]:
        """Name the parts of a search step in their order, see the contract."""
        z, x = templates.flatten(1, 2), self.embed(rgb, thermal)
        seen = self.seen(z, x)
        return {
            'embedding': lambda: self.embed(rgb, thermal),
            'streams': lambda: self.seen(z, x),
            'head': lambda: self.answer(seen),
        }


def mean_similarity(
    stems: tuple[nn.Module | None, ...], templates: Tensor, search: Tensor
) -> Tensor | None:
    """Mean (B, Nx, K * Nz) of what each modality's Correlation finds; None without one."""
    if stems[0] is None:
        return None
    pairs = zip(stems, templates.chunk(2, -1), search.chunk(2, -1))
    return torch.stack([stem.similarity(z, x) for stem, z, x in pairs]).mean(0)
