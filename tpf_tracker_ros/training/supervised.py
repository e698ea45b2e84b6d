"""
Plain supervised training of a TPF network on the synthetic world.

Box losses as in the OSTrack family, and a matching loss: every template token that is still
visible must find its place in the search image by the correlation of the stem's features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from tpf_tracker_ros.training.loop import LoopConfig, Training
from tpf_tracker_ros.training.tracking_loss import compute_losses, Losses
from tpf_tracker_ros.training.world import Batch


@dataclass(frozen=True)
class SupervisedConfig(LoopConfig):
    """Every number of one experiment."""

    giou_weight: float = 2.0
    l1_weight: float = 5.0
    score_weight: float = 1.0
    matching_weight: float = 0.5
    dynamic_share: float = 0.6  # batches with a dynamic template beside the initial one


class SupervisedTraining(Training):
    """All parts of the network at once."""

    columns = ('loss', 'giou', 'l1', 'score', 'matching', 'iou')
    config: SupervisedConfig

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum and its terms."""
        return self.weigh(compute_losses(self.model, batch, dynamic=self.draw_dynamic()))

    def draw_dynamic(self) -> bool:
        """Whether the next batch has a dynamic template."""
        drawn = torch.rand((), generator=self.generator, device=self.device)
        return bool(drawn < self.config.dynamic_share)

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
