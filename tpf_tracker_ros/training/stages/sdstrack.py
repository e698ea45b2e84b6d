"""
SDSTrack (CVPR 2024): a frozen RGB tracker learns a second modality through adapters.

Each batch passes twice, clean and with complementary tokens of both modalities hidden; the fused
tokens of both passes are drawn together. Losses, weights and masks are those of the public code.
"""

from dataclasses import dataclass

import torch
from torch import nn, Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.layers.vit import set_drop_path, set_keep
from tpf_tracker_ros.models.network import Maps
from tpf_tracker_ros.models.sdstrack import Fused, hide, PUBLISHED, SdsTrack
from tpf_tracker_ros.training.elimination import keep_rate
from tpf_tracker_ros.training.losses.features import slots_loss
from tpf_tracker_ros.training.losses.tracking import losses_of, merge_view, weigh
from tpf_tracker_ros.training.samples.world import Batch, INITIAL, SEARCH
from tpf_tracker_ros.training.stage import register_stage, Stage
from tpf_tracker_ros.training.stages.published import PublishedRecipe


@dataclass(frozen=True)
class SdsTrackStageConfig(PublishedRecipe):
    """Every number of one experiment; the defaults are those of the public code."""

    model: str = 'sdstrack'
    learning_rate: float = 1e-4  # of adapters and the second patch embedding
    backbone_rate: float = 0.1  # of the last norm, all that learns of the backbone
    clean_weight: float = 0.6
    masked_weight: float = 0.2
    distillation_weight: float = 0.1
    hidden_share: float = 0.3  # of RGB's tokens; of those of X, this share of the others
    pair_by_rank: bool = False  # true, as published: the k-th best tokens of both passes
    keep_from: float = 0.1  # share of the run until which nothing is eliminated
    keep_until: float = 0.5  # share of the run at which the model's keep rate is reached


@register_stage(
    'sdstrack',
    config=SdsTrackStageConfig,
    experiment='sdstrack_lasher',
    examples=('tpf train sdstrack --out runs/sdstrack --device cuda',),
)
class SdsTrackStage(Stage):
    """
    Teach SDSTrack's adapters by a clean and a masked pass; the RGB tracker stays frozen.

    init_weights: those of an imported SDSTrack or OSTrack.
    """

    columns = ('loss', 'giou', 'l1', 'score', 'iou', 'masked', 'distillation')
    config: SdsTrackStageConfig
    model: SdsTrack

    def initialize(self) -> None:
        """Load all weights, or all but the adapters from a file that holds none: an OSTrack's."""
        keys = filter(PUBLISHED.ours, self.model.state_dict())
        self.load_or_part({key for key in keys if self.model.group(key) != 'adapter'})

    def build(self) -> nn.Module:
        """Return the network."""
        if not isinstance(self.model, SdsTrack):
            raise TpfError(f'model {self.config.model!r} is no SDSTrack network; try sdstrack')
        set_drop_path(self.model, self.config.drop_path, self.generator)
        return self.model

    def begin_step(self, done: float) -> None:
        """Lower the share of the search tokens that is kept."""
        config, least = self.config, self.model.config.ce_keep
        set_keep(self.network, keep_rate(done, config.keep_from, config.keep_until, least))

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """Return the tracking losses of both passes and the distance of their fused tokens."""
        template, search = (
            self.model.embed(*merge_view(self.model, batch, view).chunk(2, 1))
            for view in (INITIAL, SEARCH)
        )
        masks = [self.draw_masks(tokens) for tokens in (template, search)]
        return self.passes(batch, template, search, masks)

    def draw_masks(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Draw which tokens (B, N, 2 D) are hidden of RGB and of X, bool (B, N); never both."""
        drawn = torch.rand(
            2, *tokens.shape[:2], generator=self.generator, device=self.generator.device
        )
        return complementary(*drawn, self.config.hidden_share)

    def passes(
        self,
        batch: Batch,
        template: Tensor,
        search: Tensor,
        masks: list[tuple[Tensor, Tensor]],
    ) -> dict[str, Tensor]:
        """Both passes of tokens (B, N, 2 D); masks: of template and search, RGB and X."""
        config = self.config
        clean_taps: list[Fused] = []
        masked_taps: list[Fused] = []
        hidden = (hide(tokens, *mask) for tokens, mask in zip((template, search), masks))
        features = (
            self.model.features(template, search, taps=clean_taps),
            self.model.features(*hidden, taps=masked_taps),
        )
        maps = (Maps(*self.model.box_head(each)) for each in features)
        clean, masked = (
            weigh(losses_of(each, batch, published=config.published_labels), config)
            for each in maps
        )
        distillation = self.distill(clean_taps, masked_taps)
        loss = (
            config.clean_weight * clean['loss']
            + config.masked_weight * masked['loss']
            + config.distillation_weight * distillation
        )
        return {**clean, 'loss': loss, 'masked': masked['loss'], 'distillation': distillation}

    def distill(self, clean: list[Fused], masked: list[Fused]) -> Tensor:
        """Mean over the fusion passes of the distance of their tokens."""
        total = self.model.crops.search_grid**2
        each = [
            (one.tokens - other.tokens).float().square().mean()
            if self.config.pair_by_rank
            else slots_loss(one, other, total)
            for one, other in zip(clean, masked)
        ]
        return torch.stack(each).mean()


def complementary(rgb: Tensor, other: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Masks, true where hidden, from uniform numbers of the same shape: never both hidden."""
    hidden = rgb < share
    return hidden, (other < share) & ~hidden
