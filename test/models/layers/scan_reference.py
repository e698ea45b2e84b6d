"""The selective scan as it is defined, one token after the other: slow and obvious."""

import torch
from torch import Tensor


def sequential_scan(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor | None = None
) -> Tensor:
    """Return y (B, L, D); arguments as in tpf_tracker_ros.models.layers.scan.selective_scan."""
    h = u.new_zeros(u.shape[0], *a.shape)  # (B, D, N)
    y = []
    for t in range(u.shape[1]):
        decay = torch.exp(delta[:, t, :, None] * a)
        h = decay * h + (delta[:, t] * u[:, t])[:, :, None] * b[:, t, None]
        y.append((h * c[:, t, None]).sum(-1))
    y = torch.stack(y, 1)
    return y if d is None else y + d * u


def make_inputs(batch=2, length=50, dim=6, state=4, *, seed=0, decay=8.0, dtype=torch.float32):
    """u, delta, a, b, c, d; decay: the largest -a, with steps up to 1."""
    rng = torch.Generator().manual_seed(seed)
    u, b, c = (torch.randn(batch, length, n, generator=rng) for n in (dim, state, state))
    delta = torch.rand(batch, length, dim, generator=rng) + 1e-3
    a = -torch.rand(dim, state, generator=rng) * decay - 1e-3
    d = torch.randn(dim, generator=rng)
    return [v.to(dtype) for v in (u, delta, a, b, c, d)]
