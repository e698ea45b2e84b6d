"""
Stage 1, MAD: the fusion adapter learns from several image-fusion experts.

KNOWN of TPF (arXiv 2503.11247): adaptive distillation from several heterogeneous experts that
initialises the adapter. Ours, as the paper's text was not at hand: the loss, the experts and
the rules of their weights. L = Σ_k a_k [ |F - E_k|₁ + λ_s (1 - SSIM) + λ_g |∇F - ∇E_k|₁ ] on
luminance, with weights a_k of each image that sum to one over the experts.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn, Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import create_model, packaged_weights
from tpf_tracker_ros.models.checkpoint import load_weights
from tpf_tracker_ros.models.tpf import Tpf
from tpf_tracker_ros.training.experts import box_mean, Fuse, load_expert, luminance
from tpf_tracker_ros.training.losses.fusion import box_at, focal_loss, gaussian_target, giou_loss
from tpf_tracker_ros.training.losses.tracking import merge_view
from tpf_tracker_ros.training.samples.world import Batch, INITIAL, SEARCH
from tpf_tracker_ros.training.trainer import LoopConfig, Training

WEIGHTINGS = ('uniform', 'quality', 'gate', 'tracker')


@dataclass(frozen=True)
class DistillConfig:
    """Who teaches, and what is compared."""

    experts: list[str] = field(default_factory=lambda: ['laplacian', 'guided', 'saliency'])
    temperature: float = 1.0  # of the softmax that makes weights of scores
    ssim_weight: float = 1.0
    gradient_weight: float = 2.0
    colour_weight: float = 0.5  # ours: without it the adapter is free to paint false colours


@dataclass(frozen=True)
class MadConfig(DistillConfig, LoopConfig):
    """Every number of one experiment."""

    steps: int = 1500
    warmup: int = 100
    ema: float = 0.99
    weighting: str = 'quality'  # uniform, quality, gate (learned) or tracker
    gate_entropy: float = 0.1  # ours: keeps a learned gate from turning to the easiest expert
    tracker_weights: str = ''  # of the frozen tracker of weighting 'tracker'; '': the packaged


class MadTraining(Training):
    """Trains the adapter alone; the other weights are handed on as they were."""

    config: MadConfig

    def __init__(self, config: MadConfig, folder: Path, *, device: str = 'cpu') -> None:
        _check(config)
        self.experts = [load_expert(name) for name in config.experts]
        names = (f'a_{Path(name).stem}' for name in config.experts)
        self.columns = ('loss', 'pixel', 'ssim', 'gradient', 'colour', *names)
        super().__init__(config, folder, device=device)
        if config.weighting == 'tracker':
            self.tracker = create_model(config.model).to(self.device).eval().requires_grad_(False)
            load_weights(self.tracker, _tracker_weights(config))

    def build(self) -> nn.Module:
        """Return the network, all frozen but its adapter, and the gate where there is one."""
        self.model.requires_grad_(False)
        self.model.pfa.requires_grad_(True)
        gate = Gate(len(self.experts)) if self.config.weighting == 'gate' else nn.Identity()
        return nn.ModuleDict({'model': self.model, 'gate': gate})

    def finished(self, network: nn.Module) -> Tpf:
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
        cell = (batch.box[:, :2] * grid).floor().long().clamp(0, grid - 1)
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


def teach(experts: list[Fuse], rgb: Tensor, thermal: Tensor) -> Tensor:
    """Return what K experts make of images (B, 3, H, W) in 0..1: (B, K, 3, H, W)."""
    return torch.stack([expert(rgb, thermal) for expert in experts], 1)


def distill(
    fused: Tensor, taught: Tensor, config: DistillConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cost (B, K) of images (B, 3, H, W) against each expert's (B, K, 3, H, W), and terms."""
    each = distances(fused[:, None].expand_as(taught).flatten(0, 1), taught.flatten(0, 1))
    terms = {name: term.view(taught.shape[:2]) for name, term in each.items()}
    cost = (
        terms['pixel']
        + config.ssim_weight * terms['ssim']
        + config.gradient_weight * terms['gradient']
        + config.colour_weight * terms['colour']
    )
    return cost, terms


def quality_weights(taught: Tensor, config: DistillConfig) -> Tensor:
    """Weights (B, K) of the experts for each image by the quality of what they make."""
    scores = torch.stack([quality(images) for images in taught.unbind(1)], 1)
    return torch.softmax(scores / config.temperature, 1)


def distances(fused: Tensor, taught: Tensor) -> dict[str, Tensor]:
    """How far images (N, 3, H, W) in 0..1 are from an expert's: terms (N,), zero when equal."""
    f, e = luminance(fused), luminance(taught)
    steps = zip(gradients(f), gradients(e))
    return {
        'pixel': _mean((f - e).abs()),
        'ssim': 1 - ssim(f, e),
        'gradient': sum(_mean((a - b).abs()) for a, b in steps),
        'colour': _mean(((fused - f) - (taught - e)).abs()),
    }


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (N,) of (N, 1, H, W) in 0..1, over windows of 7 (Wang et al. 2004)."""
    mean_a, mean_b = box_mean(a, 3), box_mean(b, 3)
    var_a = box_mean(a * a, 3) - mean_a**2
    var_b = box_mean(b * b, 3) - mean_b**2
    covariance = box_mean(a * b, 3) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminous = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return _mean(luminous * (2 * covariance + c2) / (var_a + var_b + c2))


def gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences along rows and along columns."""
    return image.diff(dim=-1), image.diff(dim=-2)


def quality(images: Tensor) -> Tensor:
    """
    Scores (B,) of fused images (B, 3, H, W): bits of entropy + 10 times the mean gradient.

    Both are about as large as they vary: 3 to 7 bits, 0.02 to 0.2 of full scale a pixel.
    """
    grey = luminance(images)
    steep = sum(_mean(step.abs()) for step in gradients(grey))
    level = (grey.flatten(1) * 63).round().long()
    ones = torch.ones_like(level, dtype=torch.float32)
    share = ones.new_zeros(len(grey), 64).scatter_add_(1, level, ones) / level.shape[1]
    bits = -(share * share.clamp(min=1e-9).log2()).sum(1)
    return bits + 10 * steep


def _mean(images: Tensor) -> Tensor:
    return images.flatten(1).mean(1)


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
