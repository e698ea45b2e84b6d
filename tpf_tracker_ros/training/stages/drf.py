"""
Stage 2, DRF: what the tracker needs is separated from what it does not (decoupling).

KNOWN of TPF (arXiv 2503.11247): decoupled representation learning separates task-relevant from
task-irrelevant fused features. Ours, as the paper's text was not at hand: of the search
features f, f_r = P_r(f) goes to the head and f_i = P_i(f) takes the rest,
L = L_track(head(f_r)) + λ1 cos²(f_r, f_i) + λ2 |f - (f_r + f_i)|² + λ3 KL(uniform ‖ head(f_i)).
Both projections are linear without bias, so that P_r can be folded into the head's first
convolutions: the network that comes out is the plain one and costs nothing more.

Two free matrices may end as P_r = 1, P_i = 0, which meets all terms. With relevant_rank P_r is an
orthogonal projector of that rank and P_i = 1 - P_r: neither part can be empty, both are orthogonal
and sum to f whatever is learned, and what is left to learn is which part tells of the target.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn, Tensor
from torch.func import functional_call
import torch.nn.functional as F
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.layers.head import CentreHead
from tpf_tracker_ros.models.network import Maps
from tpf_tracker_ros.models.tpf import Tpf
from tpf_tracker_ros.training.losses.tracking import (
    keep_templates,
    losses_of,
    merge_view,
    weigh,
)
from tpf_tracker_ros.training.samples.world import Batch, SEARCH
from tpf_tracker_ros.training.stage import register_stage
from tpf_tracker_ros.training.stages.supervised import Supervised, SupervisedConfig


@dataclass(frozen=True)
class DrfConfig(SupervisedConfig):
    """Every number of one experiment; a weight of zero leaves a term out."""

    learning_rate: float = 5e-4
    orthogonality_weight: float = 0.1
    reconstruction_weight: float = 0.1
    uninformative_weight: float = 0.05
    relevant_rank: int = 0  # of the features' channels, by a projector; 0: two free matrices


@register_stage(
    'drf', config=DrfConfig, experiment='drf', examples=('tpf train drf --out runs/drf',)
)
class Drf(Supervised):
    """
    Stage 2 of TPF: train the tracker with decoupled features, from the weights of stage 1.

    What decouples them is folded away in the weights that it writes.
    """

    columns = (*Supervised.columns, 'orthogonality', 'reconstruction', 'uninformative')
    config: DrfConfig

    def build(self) -> nn.Module:
        """Return the network and its projections."""
        super().build()
        if not isinstance(self.model, Tpf):
            raise TpfError(f'model {self.config.model!r} is no TPF network; stage drf needs one')
        dim, rank = self.model.config.dim, self.config.relevant_rank
        if rank:
            projector = Projector(_first_kernels(self.model.box_head), rank)
            return nn.ModuleDict({'model': self.model, 'relevant': projector})
        projections = {'relevant': Projection(dim), 'irrelevant': Projection(dim)}
        # Relevant starts as all there is, so that trained weights go on where they were.
        nn.init.eye_(projections['relevant'].weight)
        nn.init.orthogonal_(projections['irrelevant'].weight, gain=0.1)
        return nn.ModuleDict({'model': self.model, **projections})

    def finished(self, network: nn.Module) -> Tpf:
        """Return the plain network with the relevant projection folded into its head."""
        return fold(network['model'], network['relevant'])

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """Return the supervised losses on the relevant features, and what decouples the others."""
        config, model = self.config, self.model
        templates = keep_templates(model, batch, dynamic=self.draw_dynamic())
        merged = merge_view(model, batch, SEARCH)
        features, similarity = model.features(templates, merged)  # (B, D, G, G)
        relevant = self.network['relevant'](features)
        rest = self.config.relevant_rank > 0
        irrelevant = features - relevant if rest else self.network['irrelevant'](features)
        maps = Maps(*model.box_head(relevant), similarity=similarity)
        terms = weigh(losses_of(maps, batch, published=config.published_labels), config)
        decoupling = {
            'orthogonality': orthogonality(relevant, irrelevant),
            'reconstruction': (features - (relevant + irrelevant)).float().square().mean(),
            'uninformative': uninformative(model.box_head, irrelevant),
        }
        loss = terms['loss']
        for name, term in decoupling.items():
            loss = loss + getattr(config, f'{name}_weight') * term
        return self.with_fusion({**terms, **decoupling, 'loss': loss}, batch)


class Projection(nn.Module):
    """A matrix over the channels of features (B, D, G, G); no bias, so that it can be folded."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, dim))

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape."""
        return F.conv2d(features, self.weight[:, :, None, None])


class Projector(nn.Module):
    """
    An orthogonal projector of fixed rank over the channels of features (B, D, G, G).

    readers: kernels (O, D, k, k) that read the features; it starts on what they read most.
    """

    def __init__(self, readers: Iterable[Tensor], rank: int) -> None:
        super().__init__()
        rows = torch.cat([kernel.detach().transpose(1, 3).flatten(0, 2) for kernel in readers])
        if not 0 < rank < rows.shape[1]:
            raise TpfError(
                f'relevant_rank is {rank}; it must be above 0 and below the {rows.shape[1]} '
                'channels of the features, so that neither part is empty'
            )
        self.basis = nn.Parameter(_most_read(rows, rank))

    @property
    def weight(self) -> Tensor:
        """Give the matrix (D, D)."""
        basis = torch.linalg.qr(self.basis).Q
        return basis @ basis.mT

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape."""
        return F.conv2d(features, self.weight[:, :, None, None])


def _most_read(rows: Tensor, rank: int) -> Tensor:
    """Directions (D, rank) in which rows (N, D) are largest."""
    return torch.linalg.svd(rows, full_matrices=False).Vh[:rank].mT.clone()


def _first_kernels(head: CentreHead) -> list[Tensor]:
    return [getattr(head, f'conv1_{name}')[0].weight for name, _ in head.branches]


def orthogonality(relevant: Tensor, irrelevant: Tensor) -> Tensor:
    """Mean squared cosine of the two features (B, D, G, G) of each token: 0 to 1."""
    return F.cosine_similarity(relevant.float(), irrelevant.float(), dim=1).square().mean()


def uninformative(head: CentreHead, irrelevant: Tensor) -> Tensor:
    """
    KL(uniform ‖ score map) of irrelevant features (B, D, G, G): 0 where all cells are equal.

    The head is only asked: its weights and statistics learn nothing from these features.
    """
    frozen = {name: value.detach() for name, value in head.state_dict().items()}
    training = head.training
    head.eval()
    score, _, _ = functional_call(head, frozen, (irrelevant,))
    head.train(training)
    return from_uniform(score)


def from_uniform(score: Tensor) -> Tensor:
    """KL(uniform ‖ score map), the mean over maps (B, 1, G, G)."""
    share = score.float().flatten(1).clamp(1e-4, 1 - 1e-4)
    share = share / share.sum(1, keepdim=True)
    return -(share * share.shape[1]).log().mean()


@torch.no_grad()
def fold(model: Tpf, relevant: Projection | Projector) -> Tpf:
    """Give a copy of the network that sees its features as they are and the same relevant ones."""
    folded = deepcopy(model)
    for name, _ in CentreHead.branches:
        first = getattr(folded.box_head, f'conv1_{name}')[0]
        first.weight.copy_(torch.einsum('omhw,mi->oihw', first.weight, relevant.weight))
    return folded
