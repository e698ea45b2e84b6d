"""
Supervised training with a teacher's features: a network that has seen real images shows its own.

The teacher is the backbone of NanoTrack v3 (Apache-2.0). It sees the mean of the two images, so
only samples in which no camera fails are asked for. Two terms: the student's stem, through a
matrix that goes with the training, must point where the teacher's features do; and its
similarities must find each template token where the teacher's cosines do, which teaches matches
on real images that have no known ones.
"""

from dataclasses import dataclass

import torch
from torch import nn, Tensor
import torch.nn.functional as F
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import create_model, packaged_weights
from tpf_tracker_ros.models.checkpoint import load_weights
from tpf_tracker_ros.models.layers.nanotrack import DIM, NanoBackbone
from tpf_tracker_ros.models.tpf import Tpf
from tpf_tracker_ros.training.losses.tracking import (
    keep_templates,
    losses_of,
    merge_view,
    weigh,
)
from tpf_tracker_ros.training.samples.world import Batch, DYNAMIC, INITIAL, SEARCH
from tpf_tracker_ros.training.stage import register_stage
from tpf_tracker_ros.training.stages.supervised import Supervised, SupervisedConfig

STRIDE = 16  # px of an image for each of the teacher's tokens


@dataclass(frozen=True)
class DistilConfig(SupervisedConfig):
    """Every number of one experiment; a weight of zero leaves a term out."""

    teacher_zoom: float = 1.5  # of the views: its targets are 64 px in size, the student's 43
    feature_weight: float = 1.0
    relation_weight: float = 0.5
    relation_temperature: float = 0.06  # of the teacher's cosines


@register_stage(
    'distil',
    config=DistilConfig,
    experiment='tpf_tiny_distil',
    examples=('tpf train distil --out runs/tpf_tiny_distil',),
)
class Distil(Supervised):
    """
    Train the tracker on painted and real images with a teacher's features.

    The teacher is the backbone of NanoTrack v3, as tpf_nano of the package has it.
    """

    columns = (*Supervised.columns, 'feature', 'relation')
    config: DistilConfig

    def build(self) -> nn.Module:
        """Return the network and the matrix."""
        super().build()
        if not isinstance(self.model, Tpf) or self.model.config.stem != 'conv':
            raise TpfError(
                f'model {self.config.model!r} compares no tokens, so it cannot be shown where to '
                'find them; stage distil needs a TPF network with a conv stem, such as tpf_tiny'
            )
        self.teacher = load_teacher().to(self.generator.device)
        # A function, since the average is a deep copy, which would copy a method's stage, too.
        self.model.backbone.patch_embed.register_forward_hook(lambda *call: self._note(*call))
        return nn.ModuleDict({'model': self.model, 'show': nn.Linear(self.model.config.dim, DIM)})

    def _note(self, stem: nn.Module, images: tuple[Tensor], tokens: Tensor) -> None:
        self._searched = tokens  # of the last view that the network looked at

    def finished(self, network: nn.Module) -> Tpf:
        """Return the plain network."""
        return network['model']

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """Return the supervised losses and what the teacher would have otherwise."""
        config, model, dynamic = self.config, self.model, self.draw_dynamic()
        templates = keep_templates(model, batch, dynamic=dynamic)  # tokens of the stem
        maps = model(templates, merge_view(model, batch, SEARCH))
        terms = weigh(losses_of(maps, batch, published=config.published_labels), config)
        views = (INITIAL, DYNAMIC, SEARCH) if dynamic else (INITIAL, SEARCH)
        taught = [self._teach(batch, view) for view in views]
        shown = self.network['show'](torch.cat([templates.flatten(1, 2), self._searched], 1))
        feature = _mean(1 - _cosine(shown, torch.cat(taught, 1)).mean(1), batch.sound)
        relation = _mean(self._relation(maps.similarity, taught), batch.sound)
        loss = terms['loss'] + config.feature_weight * feature
        loss = loss + config.relation_weight * relation
        terms |= {'feature': feature, 'relation': relation, 'loss': loss}
        return self.with_fusion(terms, batch)

    @torch.no_grad()
    def _teach(self, batch: Batch, view: int) -> Tensor:
        """Return the teacher's features (B, N, D) where the student's tokens of a view lie."""
        image = (batch.rgb[view] + batch.thermal[view]) / 2
        size = STRIDE * round(self.config.teacher_zoom * image.shape[-1] / STRIDE)
        image = F.interpolate(image, size=(size, size), mode='bilinear', align_corners=False)
        features = self.teacher(255 * image.flip(1)).float()
        cells = image.shape[-1] // STRIDE
        tokens = batch.rgb[view].shape[-1] // self.model.config.stride
        # Both networks' first token looks at the first pixel, not at the first cell's middle.
        at = torch.arange(tokens, device=image.device) * (cells / tokens)
        at = 2 * at / (cells - 1) - 1
        grid = torch.stack(torch.meshgrid(at, at, indexing='xy'), -1).expand(
            len(image), -1, -1, -1
        )
        there = F.grid_sample(features, grid, padding_mode='border', align_corners=True)
        return there.flatten(2).mT

    def _relation(self, similarity: Tensor, taught: list[Tensor]) -> Tensor:
        """
        KL (B,) of where the teacher finds the template tokens to where the student does.

        similarity: the student's scaled cosines (B, Nx, K * Nz).
        """
        *templates, search = taught
        mean = search.mean((0, 1), keepdim=True)
        z, x = (F.normalize(each - mean, dim=-1) for each in (torch.cat(templates, 1), search))
        wanted = (x @ z.mT / self.config.relation_temperature).softmax(1)
        found = similarity.float().log_softmax(1)
        return (wanted * (wanted.clamp(min=1e-8).log() - found)).sum(1).mean(1)


def load_teacher() -> NanoBackbone:
    """Return the frozen backbone of the packaged tpf_nano."""
    teacher = create_model('tpf_nano')
    load_weights(teacher, packaged_weights('tpf_nano'))
    return teacher.backbone.eval().requires_grad_(False)


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    """Cosines (B, N) of features (B, N, D), each less its mean over all tokens."""
    one, other = one.float(), other.float()
    centred = [each - each.mean((0, 1), keepdim=True) for each in (one, other)]
    return F.cosine_similarity(*centred, dim=-1)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of values (B,) over the chosen ones, 0 where there are none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
