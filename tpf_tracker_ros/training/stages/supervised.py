"""
Plain supervised training of a TPF network on the synthetic world.

Box losses as in the OSTrack family, and a matching loss: every template token that is still
visible must find its place in the search image by the correlation of the stem's features.
"""

from dataclasses import dataclass, field

import torch
from torch import nn, Tensor
from tpf_tracker_ros.training.experts import load_expert
from tpf_tracker_ros.training.losses.tracking import compute_losses, Losses
from tpf_tracker_ros.training.samples.world import Batch, SEARCH
from tpf_tracker_ros.training.stages.mad import distill, DistillConfig, quality_weights, teach
from tpf_tracker_ros.training.trainer import LoopConfig, Training


@dataclass(frozen=True)
class SupervisedConfig(LoopConfig):
    """Every number of one experiment."""

    giou_weight: float = 2.0
    l1_weight: float = 5.0
    score_weight: float = 1.0
    matching_weight: float = 0.5
    fusion_weight: float = 0.0  # of stage 1's loss, which keeps the fused image worth seeing
    fusion_share: float = 0.125  # of the batch that it is computed on
    train_adapter: bool = True  # false: the fusion adapter stays as it starts
    dynamic_share: float = 0.6  # batches with a dynamic template beside the initial one
    fusion: DistillConfig = field(default_factory=DistillConfig)


class SupervisedTraining(Training):
    """All parts of the network at once."""

    columns = ('loss', 'giou', 'l1', 'score', 'matching', 'iou', 'fusion')
    config: SupervisedConfig

    def build(self) -> nn.Module:
        """Return the network; the experts of stage 1 go on teaching beside the tracking."""
        self.experts = [load_expert(name) for name in self.config.fusion.experts]
        self.model.pfa.requires_grad_(self.config.train_adapter)
        return self.model

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum and its terms."""
        terms = self.weigh(compute_losses(self.model, batch, dynamic=self.draw_dynamic()))
        return self.with_fusion(terms, batch)

    def with_fusion(self, terms: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """
        Add the loss of stage 1 on a part of the search views.

        Ours: nothing in the tracking losses keeps an image that a person likes to look at. Only
        where no camera fails: experts take noise for detail, and the tracker needs what is left.
        """
        config = self.config
        count = max(1, round(config.fusion_share * len(batch.box)))
        if config.fusion_weight == 0:
            return {**terms, 'fusion': terms['loss'].new_zeros(())}
        # The first sound ones; as many others follow as are missing, and count nothing.
        sound, first = batch.sound.float().sort(descending=True, stable=True)
        sound, first = sound[:count], first[:count]
        rgb, thermal = batch.rgb[SEARCH][first], batch.thermal[SEARCH][first]
        taught = teach(self.experts, rgb, thermal)
        normalization = self.model.normalization
        merged = self.model.merge(normalization.apply(rgb), normalization.apply(thermal))
        fused = normalization.undo(merged.float())
        cost, _ = distill(fused, taught, config.fusion)
        each = (quality_weights(taught, config.fusion) * cost).sum(1)
        fusion = (each * sound).sum() / sound.sum().clamp(min=1)
        return {**terms, 'fusion': fusion, 'loss': terms['loss'] + config.fusion_weight * fusion}

    def draw_dynamic(self) -> bool:
        """Whether the next batch has a dynamic template."""
        return float(torch.rand((), generator=self.world.host)) < self.config.dynamic_share

    def weigh(self, terms: Losses) -> dict[str, Tensor]:
        """'loss', the weighted sum, and the terms by name."""
        config = self.config
        loss = (
            config.giou_weight * terms.giou
            + config.l1_weight * terms.l1
            + config.score_weight * terms.score
            + config.matching_weight * terms.matching
        )
        return {'loss': loss, **vars(terms)}
