"""
The one-stream ViT of the OSTrack family (arXiv 2203.11991) with candidate elimination.

Parameter names and shapes of the patch-embedding variant are those of the published ViT-B
checkpoints, so these load unchanged. Ours: the convolutional stem of the small model, whose
features are matched explicitly between templates and search before the first block; from
scratch, attention alone learns this matching too slowly.
"""

from collections.abc import Callable
import math

import torch
from torch import nn, Tensor
import torch.nn.functional as F
from tpf_tracker_ros.core.errors import TpfError


class PatchEmbed(nn.Module):
    """Image (B, 3, H, W) to tokens (B, H/p * W/p, D) by one strided convolution."""

    def __init__(self, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)


class ConvStem(nn.Module):
    """
    Image (B, 3, H, W) to tokens (B, H/8 * W/8, D) by strided 3x3 convolutions.

    Group normalisation makes the features follow each image's own contrast, which differs
    widely between daylight, darkness and thermal images.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        widths = (3, dim // 4, dim // 2, dim)
        layers = []
        for fan_in, fan_out in zip(widths, widths[1:]):
            layers += [
                nn.Conv2d(fan_in, fan_out, 3, 2, 1, bias=False),
                nn.GroupNorm(4, fan_out),
                nn.ReLU(inplace=True),
            ]
        self.down = nn.Sequential(*layers)
        self.refine = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, bias=False),
            nn.GroupNorm(4, dim),
            nn.ReLU(inplace=True),
            nn.Conv2d(dim, dim, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        features = self.down(image)
        features = features + self.refine(features)
        return features.flatten(2).transpose(1, 2)


class Correlation(nn.Module):
    """
    Cosine similarity of every search token to every template token, added to the search.

    A search token learns which part of the target it looks like; the head needs no more to
    find the centre and the size.
    """

    def __init__(self, dim: int, template_tokens: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.embed = nn.Sequential(nn.Linear(template_tokens, dim), nn.GELU(), nn.Linear(dim, dim))

    def similarity(self, templates: Tensor, search: Tensor) -> Tensor:
        """Scaled cosines (B, Nx, Nz) of search (B, Nx, D) to templates (B, Nz, D)."""
        z = F.normalize(self.project(templates), dim=-1)
        x = F.normalize(self.project(search), dim=-1)
        return x @ z.transpose(1, 2) * self.log_scale.exp()

    def forward(self, templates: Tensor, search: Tensor) -> Tensor:
        similarity = self.similarity(templates, search)  # (B, Nx, K * Nz)
        by_template = similarity.unflatten(-1, (-1, self.embed[0].in_features))
        return self.embed(by_template).mean(2)


class Attention(nn.Module):
    """Multi-head self-attention over tokens (B, N, D)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def split(self, x: Tensor, skip: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """
        Give queries, keys and values (B, heads, N, D / heads) of tokens (B, N, D).

        skip: so many tokens at the front ask nothing, queries are (B, heads, N - skip, ...).
        """
        if not skip or callable(self.qkv.weight):  # quantized: its weights cannot be split
            q, k, v = self._heads(self.qkv(x), 3)
            return q[:, :, skip:], k, v
        dim = x.shape[-1]
        weights, biases = (p.split((dim, 2 * dim)) for p in (self.qkv.weight, self.qkv.bias))
        (q,) = self._heads(F.linear(x[:, skip:], weights[0], biases[0]), 1)
        return q, *self._heads(F.linear(x, weights[1], biases[1]), 2)

    def _heads(self, x: Tensor, count: int) -> tuple[Tensor, ...]:
        return x.unflatten(-1, (count, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """Give what the queries get, (B, N, D); bias (N,) is added to the logits of each key."""
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=_as_mask(bias))
        return self.proj(attended.transpose(1, 2).flatten(2))

    def forward(
        self, x: Tensor, *, query: int | None = None, bias: Tensor | None = None, skip: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """
        Attended tokens, and the softmax attention (B, heads, N) that token `query` pays, if asked.

        Only that one row is ever needed (candidate elimination), so only it is computed and
        the rest can run in a fused kernel. skip: see split; so many tokens are not returned.
        """
        q, k, v = self.split(x, skip)
        paid = None
        if query is not None:
            logits = q.narrow(2, query, 1) @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
            paid = (logits if bias is None else logits + bias).softmax(-1)[:, :, 0]
        return self.attend(q, k, v, bias), paid


def _as_mask(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias[None, None, None]


class Elimination(nn.Module):
    """
    Keeps the ceil(keep * n) search tokens with the highest scores, the best first.

    keep: at 1 nothing is eliminated; schedules of training set it between steps.
    """

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep

    def forward(
        self, x: Tensor, kept: Tensor, scores: Tensor, *, templates: int
    ) -> tuple[Tensor, Tensor]:
        """
        Tokens (B, templates + n, D) and original indices (B, n) of their search tokens, fewer.

        scores: (B, n) of the search tokens, in their order.
        """
        best = scores.topk(math.ceil(self.keep * kept.shape[1]), dim=1).indices
        search = x[:, templates:].gather(1, best[..., None].expand(-1, -1, x.shape[-1]))
        return torch.cat([x[:, :templates], search], 1), kept.gather(1, best)


def to_slots(x: Tensor, kept: Tensor, count: int) -> Tensor:
    """Search tokens (B, n, D) at their places among `count`, zeros where one was eliminated."""
    if kept.shape[1] == count:
        return x
    slots = kept[..., None].expand(-1, -1, x.shape[-1])
    return x.new_zeros(x.shape[0], count, x.shape[-1]).scatter(1, slots, x)


class Mlp(nn.Module):
    """Two linear layers with exact GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


def set_keep(network: nn.Module, keep: float) -> nn.Module:
    """Let every eliminating block of a network keep this share; 1 switches elimination off."""
    for layer in network.modules():
        if isinstance(layer, Elimination):
            layer.keep = keep
    return network


class DropPath(nn.Module):
    """
    Leaves a residual out in `share` of the samples in training (arXiv 1603.09382).

    draw: gives uniform numbers (count, 1, 1) for so many samples, on their device.
    """

    share = 0.0
    draw: Callable[[int], Tensor]

    def forward(self, residual: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return residual
        stays = self.draw(len(residual)) >= self.share
        return residual * stays.to(residual.dtype) / (1 - self.share)


def set_drop_path(network: nn.Module, most: float, generator: torch.Generator) -> None:
    """Let the blocks of each stream drop residuals: none in the first, `most` in the last."""

    def draw(count: int) -> Tensor:
        return torch.rand(count, 1, 1, generator=generator, device=generator.device)

    for stream in network.modules():
        if isinstance(stream, VisionTransformer):
            for share, block in zip(torch.linspace(0, most, len(stream.blocks)), stream.blocks):
                block.drop_path.share, block.drop_path.draw = share.item(), draw


def template_bias(x: Tensor, templates: int, count: int) -> Tensor | None:
    """
    Logits (N,) to add to the keys of tokens x (B, N, D): K templates share the mass of one.

    templates: tokens of all K = count templates, at the front. -ln K on each of their keys makes
    K equal templates the same as one, which is what published weights were trained with.
    """
    if count == 1:
        return None
    front = x.new_full((templates,), -math.log(count))
    return F.pad(front, (0, x.shape[1] - templates))


class Block(nn.Module):
    """Pre-norm transformer block; with `keep` < 1 it eliminates search candidates."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, keep: float = 1.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.eliminate = Elimination(keep) if keep < 1 else None
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath()

    @property
    def eliminates(self) -> bool:
        """Whether search tokens are eliminated here at the present keep rate."""
        return self.eliminate is not None and self.eliminate.keep < 1

    def attend(
        self, x: Tensor, *, query: int | None = None, bias: Tensor | None = None, skip: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """First half of the block; arguments and returns of Attention.forward."""
        attended, paid = self.attn(self.norm1(x), query=query, bias=bias, skip=skip)
        return x[:, skip:] + self.drop_path(attended), paid

    def transform(self, x: Tensor) -> Tensor:
        """Second half of the block: each token by itself."""
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def forward(
        self,
        x: Tensor,
        kept: Tensor,
        *,
        templates: int,
        centre: int,
        bias: Tensor | None = None,
        skip: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """
        Tokens (B, templates + n, D) and the original indices (B, n) of the search tokens.

        skip: see Attention.forward; not of a block that eliminates.
        """
        query = centre if self.eliminates else None
        x, paid = self.attend(x, query=query, bias=bias, skip=skip)
        if paid is not None:
            # Pruned before the MLP, so that pruned tokens cost nothing in it.
            scores = paid.mean(1)[:, templates:]
            x, kept = self.eliminate(x, kept, scores, templates=templates)
        return self.transform(x), kept


class VisionTransformer(nn.Module):
    """
    Tokens of one or two templates and of the search image through one stream.

    grid_z, grid_x: tokens along a side of template and search. ce_blocks: the blocks that
    keep only ceil(ce_keep * n) of their n search tokens. share_mass: K templates share the
    attention of one (see template_bias). block: makes a Block of its arguments.
    Raises TpfError on an unknown stem, one of PatchEmbed ('patch') and ConvStem ('conv').
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        stride: int,
        grid_z: int,
        grid_x: int,
        stem: str,
        ce_blocks: tuple[int, ...],
        ce_keep: float,
        share_mass: bool = True,
        block: Callable[[int, int, float, float], nn.Module] = Block,
    ) -> None:
        super().__init__()
        if stem not in ('patch', 'conv'):
            raise TpfError(f"unknown stem {stem!r}; choose 'patch' or 'conv'")
        beyond = [i for i in ce_blocks if not 0 <= i < depth]
        if beyond:
            raise TpfError(f'ce_blocks names block {beyond[0]}, but there are 0 to {depth - 1}')
        self.grid_z, self.grid_x, self.share_mass = grid_z, grid_x, share_mass
        if stem == 'patch':
            self.patch_embed = PatchEmbed(dim, stride)
            # Both belong to the published checkpoints; the one-stream forward uses neither.
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
            self.pos_embed = nn.Parameter(torch.zeros(1, 197, dim))
            self.correlation = None
        else:
            self.patch_embed = ConvStem(dim)
            self.correlation = Correlation(dim, grid_z**2)
        self.pos_embed_z = nn.Parameter(torch.randn(1, grid_z**2, dim) * 0.02)
        self.pos_embed_x = nn.Parameter(torch.randn(1, grid_x**2, dim) * 0.02)
        self.blocks = nn.ModuleList(
            block(dim, heads, mlp_ratio, ce_keep if i in ce_blocks else 1.0) for i in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    @property
    def centre(self) -> int:
        """Return the template token whose attention scores the candidates: the middle one."""
        middle = (self.grid_z - 1) // 2
        return middle * self.grid_z + middle

    def place(self, templates: Tensor, search: Tensor, types: Tensor | float) -> Tensor:
        """Tokens (B, K * grid_z² + grid_x², D) before the first block; arguments of forward."""
        matched = 0 if self.correlation is None else self.correlation(templates, search)
        placed = templates.unflatten(1, (-1, self.grid_z**2)) + self.pos_embed_z + types
        return torch.cat([placed.flatten(1, 2), search + matched + self.pos_embed_x], 1)

    def candidates(self, search: Tensor) -> Tensor:
        """Original indices (B, grid_x²) of the search tokens (B, grid_x², D) at the start."""
        return torch.arange(search.shape[1], device=search.device).expand(search.shape[0], -1)

    def restore(self, x: Tensor, kept: Tensor) -> Tensor:
        """Search tokens (B, n, D) as a map (B, D, grid_x, grid_x), zeros where eliminated."""
        x = to_slots(x, kept, self.grid_x**2)
        return x.transpose(1, 2).unflatten(2, (self.grid_x, self.grid_x))

    def forward(
        self,
        templates: Tensor,
        search: Tensor,
        types: Tensor | float,
        *,
        taps: list[Tensor] | None = None,
    ) -> Tensor:
        """
        Search features (B, D, grid_x, grid_x).

        templates: patch tokens (B, K * grid_z², D) of K templates, the initial one first;
        search: patch tokens (B, grid_x², D); types: (K, 1, D), the template
        type embeddings, one added to each template.
        taps, if given, receives the tokens (B, N, D) after each block.
        """
        count = templates.shape[1]
        x, kept = self.place(templates, search, types), self.candidates(search)
        alike = count // self.grid_z**2 if self.share_mass else 1
        last, skip = self.blocks[-1], 0
        for block in self.blocks:
            if block is last and not block.eliminates and taps is None:
                skip = count  # nothing reads the templates after it
            bias = template_bias(x, count, alike)
            x, kept = block(x, kept, templates=count, centre=self.centre, bias=bias, skip=skip)
            if taps is not None:
                taps.append(x)
        return self.restore(self.norm(x[:, count - skip :]), kept)  # noqa: E203
