"""
Plain supervised training of any network on the synthetic world and datasets on disk.

Box losses as in the OSTrack family, and a matching loss: every template token that is still
visible must find its place in the search image by the similarity that the network gives.
"""

from dataclasses import dataclass, field

import torch
from torch import nn, Tensor
from tpf_tracker_ros.training.experts import load_expert
from tpf_tracker_ros.training.losses.images import (
    distill,
    DistillConfig,
    quality_weights,
    teach,
)
from tpf_tracker_ros.training.losses.tracking import compute_losses, merge, TrackingConfig, weigh
from tpf_tracker_ros.training.samples.world import Batch, SEARCH
from tpf_tracker_ros.training.stage import register_stage, RunConfig, Stage
from tpf_tracker_ros.training.stages.mad import require_fusion


@dataclass(frozen=True)
class SupervisedConfig(TrackingConfig, RunConfig):
    """Every number of one experiment."""

    fusion_weight: float = 0.0  # of stage 1's loss, which keeps the fused image worth seeing
    fusion_share: float = 0.125  # of the batch that it is computed on
    train_adapter: bool = True  # false: the fusion adapter stays as it starts
    dynamic_share: float = 0.6  # batches with a dynamic template beside the initial one
    fusion: DistillConfig = field(default_factory=DistillConfig)


@register_stage(
    'supervised',
    config=SupervisedConfig,
    experiment='tpf_tiny',
    examples=(
        'tpf train supervised --out runs/tpf_tiny',
        'tpf train supervised --config mine.toml --out runs/mine --device cuda',
    ),
)
class Supervised(Stage):
    """
    Train all of a network with box and matching losses.

    On the synthetic RGB-T world, on datasets on disk, or on both.
    """

    columns = ('loss', 'giou', 'l1', 'score', 'matching', 'iou', 'fusion')
    config: SupervisedConfig

    def build(self) -> nn.Module:
        """Return the network; the experts of stage 1 go on teaching beside the tracking."""
        if self.config.fusion_weight:
            require_fusion(self)
            self.experts = [load_expert(name) for name in self.config.fusion.experts]
        return self.model

    def group(self, name: str) -> str:
        """Freeze the adapter where it is not to be trained."""
        group = super().group(name)
        return 'frozen' if group == 'adapter' and not self.config.train_adapter else group

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum and its terms."""
        published = self.config.published_labels
        losses = compute_losses(
            self.model, batch, dynamic=self.draw_dynamic(), published=published
        )
        return self.with_fusion(weigh(losses, self.config), batch)

    def with_fusion(self, terms: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """
        Add the loss of stage 1 on a part of the search views.

        Ours: nothing in the tracking losses keeps an image that a person likes to look at. Only
        where no camera fails: experts take noise for detail, and the tracker needs what is left.
        """
        config = self.config
        if config.fusion_weight == 0:
            return {**terms, 'fusion': terms['loss'].new_zeros(())}
        # The first sound ones; as many others follow as are missing, and count nothing.
        count = max(1, round(config.fusion_share * len(batch.box)))
        sound, first = batch.sound.float().sort(descending=True, stable=True)
        sound, first = sound[:count], first[:count]
        rgb, thermal = batch.rgb[SEARCH][first], batch.thermal[SEARCH][first]
        taught = teach(self.experts, rgb, thermal)
        fused = self.model.normalization.undo(merge(self.model, rgb, thermal).float())
        cost, _ = distill(fused, taught, config.fusion)
        each = (quality_weights(taught, config.fusion) * cost).sum(1)
        fusion = (each * sound).sum() / sound.sum().clamp(min=1)
        return {**terms, 'fusion': fusion, 'loss': terms['loss'] + config.fusion_weight * fusion}

    def draw_dynamic(self) -> bool:
        """Whether the next batch has a dynamic template; on the host, as shapes follow from it."""
        return float(torch.rand((), generator=self.host)) < self.config.dynamic_share
