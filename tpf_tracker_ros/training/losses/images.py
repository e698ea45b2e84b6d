"""How far fused images are from what image-fusion experts make of the same pair."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from tpf_tracker_ros.training.experts import box_mean, Fuse, luminance


@dataclass(frozen=True)
class DistillConfig:
    """Who teaches, and what is compared."""

    experts: list[str] = field(default_factory=lambda: ['laplacian', 'guided', 'saliency'])
    temperature: float = 1.0  # of the softmax that makes weights of scores
    ssim_weight: float = 1.0
    gradient_weight: float = 2.0
    colour_weight: float = 0.5  # ours: without it the adapter is free to paint false colours


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
