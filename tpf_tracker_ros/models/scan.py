"""The selective scan of Mamba (Gu and Dao, arXiv 2312.00752), as one operator with backends.

    h_t = exp(delta_t a) h_{t-1} + delta_t b_t u_t        y_t = <c_t, h_t> + d u_t

The paper's kernel runs on CUDA alone and steps through time. The form here cuts the sequence into
K chunks of T steps: all chunks are stepped at once, first for their end states, then, after the
carry has run over the chunks, for their outputs. Every exponent is a sum of delta * a <= 0, so
nothing overflows however long the chunk or strong the decay.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tpf_tracker_ros.core.errors import TpfError

try:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn as _mamba_scan
except ImportError:
    _mamba_scan = None

BACKENDS = ('auto', 'mamba_ssm', 'chunked')
CACHE_ELEMENTS = 2 << 20  # states per block on a CPU: what one core's caches still hold


def selective_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None = None,
    *,
    reverse: bool = False,
    backend: str = 'auto',
) -> Tensor:
    """Scan along L, from the first token on, or from the last (reverse); gives y (B, L, D).

    u, delta: (B, L, D), delta positive (softplus already applied). a: (D, N), negative.
    b, c: (B, L, N). d: (D,) or None. The state is kept in float32; y has the dtype of u.
    backend: 'chunked', 'mamba_ssm' (its CUDA kernel), or 'auto', the kernel where it can run.
    Raises TpfError on an unknown backend or one that is not installed.
    """
    if backend not in BACKENDS:
        raise TpfError(f'scan backend {backend!r} is unknown; use one of {", ".join(BACKENDS)}')
    if backend == 'mamba_ssm' and _mamba_scan is None:
        raise TpfError("scan backend 'mamba_ssm' is not installed; install it or use 'chunked'")
    if reverse:
        flipped = (v.flip(1) for v in (u, delta, b, c))
        u, delta, b, c = flipped
    if backend == 'mamba_ssm' or (backend == 'auto' and _mamba_scan is not None and u.is_cuda):
        y = _mamba_scan(*(v.mT.contiguous() for v in (u, delta)), a, b.mT, c.mT, D=d).mT
    else:
        y = _chunked(u.float(), delta.float(), a.float(), b.float(), c.float()).to(u.dtype)
        y = y if d is None else y + u * d.to(u.dtype)
    return y.flip(1) if reverse else y


def _chunked(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    batch, length, dim = u.shape
    state = u.new_zeros(batch, a.shape[1], dim)
    block = length
    if not u.is_cuda:
        block = min(length, max(64, CACHE_ELEMENTS // state.numel()))
    outputs = []
    for start in range(0, length, block):
        part = (v[:, start : start + block] for v in (delta * u, delta, b, c))
        y, state = _scan_block(*part, a.mT.contiguous(), state)
        outputs.append(y)
    return torch.cat(outputs, 1)


def _scan_block(
    x: Tensor, delta: Tensor, b: Tensor, c: Tensor, a: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """(y, last state) of one block; x = delta * u, a (N, D), state (B, N, D)."""
    batch, length, dim = x.shape
    steps = 1 << max(0, round(math.log2(math.sqrt(length / 3))))
    chunks = -(-length // steps)

    def by_step(v: Tensor) -> Tensor:  # (B, K T, ...) -> (T, B, K, ...), steps outermost
        v = F.pad(v, (0, 0, 0, chunks * steps - length))  # delta = 0: the state stays as it is
        return v.view(batch, chunks, steps, -1).permute(2, 0, 1, 3).contiguous()

    # Part 1: decay and input of every step, (T, B, K, N, D); D is innermost for long vectors.
    delta = by_step(delta)
    decay = torch.exp(delta.unsqueeze(3) * a).unbind(0)
    inputs = (by_step(x).unsqueeze(3) * by_step(b).unsqueeze(4)).unbind(0)

    # Part 2: the end state of each chunk when it starts from zero.
    ends = inputs[0]
    for step in range(1, steps):
        ends = torch.addcmul(inputs[step], decay[step], ends)

    # Part 3: carry over the chunks, so that each knows the state it starts from.
    total = torch.exp(delta.sum(0).unsqueeze(2) * a).unbind(1)
    starts = []
    for end, fade in zip(ends.unbind(1), total):
        starts.append(state)
        state = torch.addcmul(end, fade, state)

    # Part 4: step again from the right states and read out.
    h = torch.stack(starts, 1)  # (B, K, N, D)
    outputs = []
    for step, c_step in enumerate(by_step(c).unsqueeze(3).unbind(0)):
        h = torch.addcmul(inputs[step], decay[step], h)
        outputs.append(torch.matmul(c_step, h))
    y = torch.stack(outputs, 3).view(batch, chunks * steps, dim)
    return y[:, :length], state
