"""The selective scan as it is defined, one token after the other: slow and obvious."""

import torch
from torch import Tensor


def sequential_scan(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor | None = None
) -> Tensor:
    """Return y (B, L, D); arguments as in tpf_tracker_ros.models.scan.selective_scan."""
    h = u.new_zeros(u.shape[0], *a.shape)  # (B, D, N)
    y = []
    for t in range(u.shape[1]):
        decay = torch.exp(delta[:, t, :, None] * a)
        h = decay * h + (delta[:, t] * u[:, t])[:, :, None] * b[:, t, None]
        y.append((h * c[:, t, None]).sum(-1))
    y = torch.stack(y, 1)
    return y if d is None else y + d * u
