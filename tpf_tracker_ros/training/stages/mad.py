"""
Stage 1, MAD: the fusion adapter learns from several image-fusion experts.

KNOWN of TPF (arXiv 2503.11247): adaptive distillation from several heterogeneous experts that
initialises the adapter. Ours, as the paper's text was not at hand: the loss, the experts and
the rules of their weights. L = Σ_k a_k [ |F - E_k|₁ + λ_s (1 - SSIM) + λ_g |∇F - ∇E_k|₁ ] on
luminance, with weights a_k of each image that sum to one over the experts.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, nn, Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import packaged_weights
from tpf_tracker_ros.models.checkpoint import load_model
from tpf_tracker_ros.models.network import TrackingNetwork
from tpf_tracker_ros.training.experts import Fuse, load_expert
from tpf_tracker_ros.training.losses.centre import (
    box_at,
    centre_cell,
    focal_loss,
    gaussian_target,
    giou_loss,
)
from tpf_tracker_ros.training.losses.images import (
    distill,
    DistillConfig,
    quality_weights,
    teach,
)
from tpf_tracker_ros.training.losses.tracking import merge_view
from tpf_tracker_ros.training.samples.world import Batch, INITIAL, SEARCH
from tpf_tracker_ros.training.stage import register_stage, RunConfig, Stage

WEIGHTINGS = ('uniform', 'quality', 'gate', 'tracker')


@dataclass(frozen=True)
class MadConfig(DistillConfig, RunConfig):
    """Every number of one experiment."""

    steps: int = 1500
    warmup: int = 100
    ema: float = 0.99
    weighting: str = 'quality'  # uniform, quality, gate (learned) or tracker
    gate_entropy: float = 0.1  # ours: keeps a learned gate from turning to the easiest expert
    tracker_weights: str = ''  # of the frozen tracker of weighting 'tracker'; '': the packaged


@register_stage(
    'mad', config=MadConfig, experiment='mad', examples=('tpf train mad --out runs/mad',)
)
class Mad(Stage):
    """
    Stage 1 of TPF: teach the fusion adapter by several image-fusion experts.

    The other weights are handed on as they were. What it writes is what the next stage starts
    from: its init_weights.
    """

    config: MadConfig

    def __init__(self, config: MadConfig, generator: Generator, host: Generator) -> None:
        _check(config)
        self.experts = [load_expert(name) for name in config.experts]
        names = (f'a_{Path(name).stem}' for name in config.experts)
        self.columns = ('loss', 'pixel', 'ssim', 'gradient', 'colour', *names)
        super().__init__(config, generator, host)
        if config.weighting == 'tracker':
            tracker = load_model(config.model, _tracker_weights(config))
            self.tracker = tracker.to(generator.device).eval().requires_grad_(False)

    def build(self) -> nn.Module:
        """Return the network, and the gate where there is one."""
        require_fusion(self)
        gate = Gate(len(self.experts)) if self.config.weighting == 'gate' else nn.Identity()
        return nn.ModuleDict({'model': self.model, 'gate': gate})

    def group(self, name: str) -> str:
        """Freeze all but the adapter and the gate."""
        group = super().group(name)
        return group if group == 'adapter' or name.startswith('gate.') else 'frozen'

    def finished(self, network: nn.Module) -> TrackingNetwork:
        """Return the network without the gate."""
        return network['model']

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """Distances to the experts on the search view, weighted for each image."""
        config = self.config
        taught = teach(self.experts, batch.rgb[SEARCH], batch.thermal[SEARCH])
        fused = self.model.normalization.undo(merge_view(self.model, batch, SEARCH).float())
        weights = self.weigh(batch, taught)
        cost, terms = distill(fused, taught, config)
        mean = {name: (weights * term).sum(1).mean() for name, term in terms.items()}
        shares = dict(zip(self.columns[5:], weights.mean(0)))
        loss = (weights * cost).sum(1).mean()
        if config.weighting == 'gate':
            loss = loss + config.gate_entropy * (weights * weights.log()).sum(1).mean()
        return {'loss': loss, **mean, **shares}

    def weigh(self, batch: Batch, taught: Tensor) -> Tensor:
        """How much each image learns from each expert: a (B, K), rows sum to one."""
        rule = self.config.weighting
        if rule == 'gate':
            scores = self.network['gate'](batch.rgb[SEARCH], batch.thermal[SEARCH])
        elif rule == 'quality':
            return quality_weights(taught, self.config)
        elif rule == 'tracker':
            scores = -torch.stack(
                [self._tracking_cost(batch, expert) for expert in self.experts], 1
            )
        else:
            scores = taught.new_zeros(taught.shape[:2])
        return torch.softmax(scores / self.config.temperature, 1)

    @torch.no_grad()
    def _tracking_cost(self, batch: Batch, expert: Fuse) -> Tensor:
        """Return what the frozen tracker loses on an expert's images of each sample: (B,)."""
        template, search = (
            self.tracker.normalization.apply(expert(batch.rgb[view], batch.thermal[view]))
            for view in (INITIAL, SEARCH)
        )
        maps = self.tracker(self.tracker.template(template)[:, None], search)
        score = maps.score.float().clamp(1e-4, 1 - 1e-4)
        grid = score.shape[-1]
        target = gaussian_target(batch.box, grid)
        cell = centre_cell(batch.box, grid).long().clamp(0, grid - 1)
        found = box_at(maps.size.float(), maps.offset.float(), cell)
        inside = target.flatten(1).amax(1)  # a target out of view has no box to be judged by
        return torch.vmap(focal_loss)(score, target) + 2 * giou_loss(found, batch.box) * inside


class Gate(nn.Module):
    """Scores (B, K) of K experts from a pair of images (B, 3, S, S) in 0..1; starts at zero."""

    def __init__(self, experts: int, *, channels: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(6, channels, 5, 4, 2),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, 2, 1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, experts),
        )
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Scores, the higher the more trusted."""
        return self.layers(torch.cat([rgb, thermal], 1))


def require_fusion(stage: Stage) -> None:
    """Raise TpfError on a network without a fused image."""
    if not stage.model.fuses:
        raise TpfError(
            f'model {stage.config.model!r} fuses no pixels, so there is no image that experts '
            f'could teach; choose one that does, such as tpf_tiny'
        )


def _check(config: MadConfig) -> None:
    if not config.experts:
        raise TpfError('experts is empty; name at least one')
    if config.weighting not in WEIGHTINGS:
        raise TpfError(f'weighting {config.weighting!r} is none of {", ".join(WEIGHTINGS)}')
    if config.weighting == 'tracker':
        _tracker_weights(config)


def _tracker_weights(config: MadConfig) -> Path:
    path = (
        Path(config.tracker_weights) if config.tracker_weights else packaged_weights(config.model)
    )
    if path is None:
        raise TpfError(
            f'model {config.model!r} ships without weights, and tracker_weights is empty; '
            "set it for weighting 'tracker'"
        )
    return path
