"""
CKD: two streams that learned a common style from each other (ACM MM 2024).

One ViT for each modality and one head over both. The streams share nothing but the candidates
that they keep: what either of them holds for the target stays in both. Names and shapes are
those of the published checkpoints; the code is ours. What training adds (two teachers with heads
of their own) is CkdWithTeachers, whose 878 weights are those of a published training file.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from tpf_tracker_ros.models.layers.head import CentreHead
from tpf_tracker_ros.models.layers.vit import template_bias
from tpf_tracker_ros.models.network import Maps
from tpf_tracker_ros.models.registry import PublishedKeys, register_model
from tpf_tracker_ros.models.two_stream import mean_similarity, TwoStreamNetwork
from tpf_tracker_ros.models.vit_config import VitConfig

Pair = tuple[Tensor, Tensor]  # of the RGB and the thermal stream


class Ckd(TwoStreamNetwork):
    """Tokens of both modalities through their streams, then the head over both."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__(config)
        self.rgb_branch, self.tir_branch = config.stream(), config.stream()
        self.box_head = CentreHead(2 * config.dim, config.head_channels)
        # So that its taps are a view of the weights (layers/head.py).
        self.box_head.to(memory_format=torch.channels_last)

    def embed(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Patch tokens (B, N, 2 D), RGB first, of normalised crops (B, 3, S, S)."""
        return torch.cat(
            [self.rgb_branch.patch_embed(rgb), self.tir_branch.patch_embed(thermal)], -1
        )

    def similarity(self, templates: Tensor, search: Tensor) -> Tensor | None:
        """Give the mean of both stems' similarities; None without a convolutional stem."""
        stems = self.rgb_branch.correlation, self.tir_branch.correlation
        return mean_similarity(stems, templates, search)

    def features(
        self, templates: Tensor, search: Tensor, *, taps: list[Pair] | None = None
    ) -> Tensor:
        """
        Give what the head sees, (B, 2 D, G, G), of tokens (B, K * Nz, 2 D) and (B, Nx, 2 D).

        taps, if given, receives both streams' tokens (B, N, D) after each block.
        """
        tokens, kept = self._tokens(templates, search, taps)
        return self.rgb_branch.restore(tokens, kept)

    def seen(self, templates: Tensor, search: Tensor) -> tuple[Tensor, ...]:
        """Give the search tokens (B, n, 2 D) that are left, and their places (B, n)."""
        return self._tokens(templates, search)

    def answer(self, seen: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Give the maps of the head, whose first layer works on the tokens alone."""
        return self.box_head.of_tokens(*seen, self.crops.search_grid)

    def _tokens(
        self, templates: Tensor, search: Tensor, taps: list[Pair] | None = None
    ) -> tuple[Tensor, Tensor]:
        streams = self.rgb_branch, self.tir_branch
        placed = zip(streams, templates.chunk(2, -1), search.chunk(2, -1))
        tokens = [stream.place(z, x, 0.0) for stream, z, x in placed]
        kept = self.rgb_branch.candidates(search)
        count, first = templates.shape[1], self.rgb_branch
        for blocks in zip(*(stream.blocks for stream in streams)):
            query = first.centre if blocks[0].eliminates else None
            bias = template_bias(tokens[0], count, count // first.grid_z**2)
            # Nothing reads the templates after the last block.
            skip = count if blocks[0] is first.blocks[-1] and taps is None else 0
            halves = [
                b.attend(x, query=query, bias=bias, skip=skip) for b, x in zip(blocks, tokens)
            ]
            tokens = [x for x, _ in halves]
            if query is not None:
                # The maximum of the streams before the mean over heads: either may know.
                scores = torch.maximum(*(paid for _, paid in halves)).mean(1)[:, count:]
                pruned = [
                    b.eliminate(x, kept, scores, templates=count) for b, x in zip(blocks, tokens)
                ]
                tokens, kept = [x for x, _ in pruned], pruned[0][1]
            tokens = [b.transform(x) for b, x in zip(blocks, tokens)]
            if taps is not None:
                taps.append(tuple(tokens))
        search = slice(count - skip, None)
        return torch.cat([s.norm(x[:, search]) for s, x in zip(streams, tokens)], -1), kept


# A training file holds the teachers, too.
TEACHERS = ('teacher_rgb.', 'teacher_tir.', 'box_head_v.', 'box_head_i.')
PUBLISHED = PublishedKeys(unused=lambda key: key.startswith(TEACHERS))


@register_model(policy='published', published=PUBLISHED)
def ckd_base() -> Ckd:
    """Two ViT-B streams and a head over both, at 128/256 px; loads published CKD checkpoints."""
    return Ckd(VitConfig())


@register_model()
def ckd_small() -> Ckd:
    """Two ViT-S streams and a head over both, at 128/256 px."""
    return Ckd(VitConfig(dim=384, heads=6, head_channels=128))


@dataclass(frozen=True)
class Taught:
    """
    What the four streams make of a batch: of the students fused, then of both teachers.

    features: what each head sees, (B, 2 D, G, G) fused and (B, D, G, G) of the RGB and the
    thermal teacher; maps: of the three heads. The tokens (B, Nz + Nx, D) after each block, RGB and
    thermal, of the students and of the teachers.
    """

    features: tuple[Tensor, Tensor, Tensor]
    maps: tuple[Maps, Maps, Maps]
    student_taps: list[Pair]
    teacher_taps: list[Pair]


class CkdWithTeachers(Ckd):
    """
    The network as it is trained: each student has a teacher that sees the same crops unmasked.

    All four streams learn online. Elimination is off in the published first stage: call
    layers.vit.set_keep(network, 1). What tracks are the weights of Ckd among these.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__(config)
        self.teacher_rgb, self.teacher_tir = config.stream(), config.stream()
        self.box_head_v = CentreHead(config.dim, config.head_channels)
        self.box_head_i = CentreHead(config.dim, config.head_channels)

    def learn(self, template: Pair, search: Pair, *, visible: Tensor | None = None) -> Taught:
        """
        All four streams on normalised crops (B, 3, S, S), RGB and thermal.

        visible: bool (B, Nx), the search tokens that the students see; None: all of them.
        """
        z, x = self.embed(*template), self.embed(*search)
        taps: list[Pair] = []
        if visible is not None:
            x = x * visible[..., None]
        features, teacher_taps = [self.features(z, x, taps=taps)], []
        for stream, *crops in zip((self.teacher_rgb, self.teacher_tir), template, search):
            own: list[Tensor] = []
            features.append(stream(*(stream.patch_embed(c) for c in crops), 0.0, taps=own))
            teacher_taps.append(own)
        heads = self.box_head, self.box_head_v, self.box_head_i
        maps = tuple(Maps(*head(seen)) for head, seen in zip(heads, features))
        return Taught(tuple(features), maps, taps, list(zip(*teacher_taps)))
