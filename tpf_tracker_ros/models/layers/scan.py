"""
The selective scan of Mamba (Gu and Dao, arXiv 2312.00752), as one operator with backends.

    h_t = exp(delta_t a) h_{t-1} + delta_t b_t u_t        y_t = <c_t, h_t> + d u_t

The paper's kernel runs on CUDA alone. The form here cuts the sequence into K chunks of T tokens
and steps through all chunks at once, twice: from zero for the end state of each chunk, then, when
log2(K) doublings have carried the states from chunk to chunk, from the true states for the
outputs. Nothing of the size L * N * D is stored: on a CPU recomputing a step from the caches is
cheaper than fetching it from memory. Every exponent is a sum of delta * a <= 0, so nothing
overflows, however long the chunk or strong the decay. On a CPU, where no gradient is needed, the
plain loop in C is faster still (mamba_native.py).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
import math

import torch
from torch import Tensor
from torch.nn import functional as F
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.layers.mamba_native import can_compile, MOST_STATES, native_scan

try:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn as _mamba_scan
except ImportError:
    _mamba_scan = None

BACKENDS = ('auto', 'mamba_ssm', 'triton', 'native', 'chunked')
CPU_LANES = 1 << 17  # numbers one step works on: half a megabyte of float32 stays in the L2 cache
MOST_STEPS = 32  # on a GPU, which pays for each kernel started, and in a graph for each node


def selective_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None = None,
    *,
    backend: str = 'auto',
) -> Tensor:
    """
    Scan along L, from the first token on; gives y (B, L, D).

    u, delta: (B, L, D), delta positive (softplus already applied). a: (D, N), negative.
    b, c: (B, L, N). d: (D,) or None. The state is at least float32; y has the dtype of u.
    backend: 'chunked'; on a GPU also 'triton' (the same in our kernels) and 'mamba_ssm' (its
    kernel); on a CPU also 'native' (float32 in C, without gradients); or 'auto': the fastest of
    those that can run, which is triton on a GPU and native on a CPU.
    Raises TpfError on an unknown backend or one that cannot run here.
    """
    backend = _choose(backend, u, a, delta, b, c)
    if backend == 'mamba_ssm':
        y = _mamba_scan(*(v.mT.contiguous() for v in (u, delta)), a, b.mT, c.mT, D=d).mT
    else:
        dtype = torch.promote_types(u.dtype, torch.float32)
        wide, delta, a, b, c = (v.to(dtype) for v in (u, delta, a, b, c))
        if backend == 'native':
            y = native_scan(wide, delta, a, b, c)
        else:
            inputs = wide * delta, delta, a, b, c
            scan = _scan_triton if backend == 'triton' else _scan
            needed = _needs_gradients(*inputs)
            y = _ChunkedScan.apply(scan, *inputs) if needed else scan(*inputs)[0]
        y = (y if d is None else y + wide * d).to(u.dtype)
    return y


def _choose(backend: str, u: Tensor, a: Tensor, *others: Tensor) -> str:
    """Return the backend that this one stands for, checked."""
    if backend not in BACKENDS:
        raise TpfError(f'scan backend {backend!r} is unknown; use one of {", ".join(BACKENDS)}')
    native = u.dtype != torch.float64 and can_be_native(a, u, *others)
    if backend == 'auto':
        if u.is_cuda and u.dtype != torch.float64 and _has_triton():
            return 'triton'
        return 'native' if native and can_compile() else 'chunked'
    if backend == 'native' and not native:
        raise TpfError(
            "scan backend 'native' is float32 on a CPU, without gradients, for channels x states "
            f"up to {MOST_STATES}; use 'auto'"
        )
    installed = {
        'mamba_ssm': lambda: _mamba_scan is not None,
        'triton': _has_triton,
        'native': can_compile,
        'chunked': lambda: True,
    }
    if not installed[backend]():
        raise TpfError(f"scan backend {backend!r} is not installed; install it or use 'chunked'")
    return backend


@cache
def _has_triton() -> bool:
    return find_spec('triton') is not None


def can_be_native(a: Tensor, *others: Tensor) -> bool:
    """
    Say whether code in C may take over: on a CPU, for values alone, outside of an export.

    a: (channels, states), of which there must not be too many.
    """
    inputs = a, *others
    fits = max(a.shape[0], 16) * max(a.shape[1], 16) <= MOST_STATES
    on_cpu = all(v.device.type == 'cpu' for v in inputs)
    return fits and on_cpu and not _needs_gradients(*inputs) and not _is_traced()


def _needs_gradients(*inputs: Tensor) -> bool:
    return torch.is_grad_enabled() and any(v.requires_grad for v in inputs)


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


class _ChunkedScan(torch.autograd.Function):
    """A scan with a backward pass that recomputes the states from those at the chunks' starts."""

    @staticmethod
    def forward(ctx, scan: Callable, *inputs: Tensor) -> Tensor:
        y, starts = scan(*inputs)
        ctx.save_for_backward(*inputs, starts)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_scan_backward(grad, *ctx.saved_tensors)


def _scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs (B, L, D) and the states before each chunk (B, K, N, D); x = delta * u."""
    if not x.is_cuda and x.numel() * b.shape[2] <= CPU_LANES:
        return _scan_short(x, delta, a, b, c)
    length, steps = x.shape[1], _steps_per_chunk(x, b)
    a = a.mT.contiguous()  # (N, D): D is innermost everywhere, for long vectors
    x_, delta_, c_ = (_by_step(v, steps).unsqueeze(3).unbind(0) for v in (x, delta, c))
    b_ = _by_step(b, steps).unsqueeze(4).unbind(0)

    # Part 1: the state at the end of each chunk, (B, K, N, D), if it started from zero.
    state = x_[0] * b_[0]
    decay = torch.empty_like(state)  # one for all steps: it stays in the cache
    for t in range(1, steps):
        state.mul_(_exp(delta_[t], a, decay)).addcmul_(x_[t], b_[t])

    # Part 2: carry over the chunks; chunk k starts where chunk k - 1 truly ends.
    fade = torch.exp(torch.stack(delta_).sum(0) * a)
    starts = F.pad(_carry(state, fade)[:, :-1], (0, 0, 0, 0, 1, 0))

    # Part 3: step again from there and read out.
    state, outputs = starts.clone(), []
    with _full_precision(x):
        for t in range(steps):
            state.mul_(_exp(delta_[t], a, decay)).addcmul_(x_[t], b_[t])
            outputs.append(torch.matmul(c_[t], state))  # (B, K, 1, D)
    return _by_token(outputs, length), starts


def _scan_short(
    x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor
) -> tuple[Tensor, Tensor]:
    """Run _scan with all of L * N * D in the cache: few operations, each for all tokens."""
    length, steps = x.shape[1], _steps_per_chunk(x, b)
    x_, delta_, c_ = (_by_step(v, steps).unsqueeze(3) for v in (x, delta, c))
    exponents = delta_ * a.mT  # (T, B, K, N, D)
    decays = exponents.exp().unbind(0)
    inputs = (x_ * _by_step(b, steps).unsqueeze(4)).unbind(0)

    state = inputs[0]
    for t in range(1, steps):
        state = torch.addcmul(inputs[t], decays[t], state)
    starts = F.pad(_carry(state, exponents.sum(0).exp())[:, :-1], (0, 0, 0, 0, 1, 0))

    state, states = starts, []
    for t in range(steps):
        state = torch.addcmul(inputs[t], decays[t], state)
        states.append(state)
    with _full_precision(x):
        outputs = torch.matmul(c_, torch.stack(states))[..., 0, :]  # (T, B, K, D)
    return outputs.permute(1, 2, 0, 3).flatten(1, 2)[:, :length], starts


def _scan_triton(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Run _scan by kernels; imported here, as only GPU builds of torch bring Triton."""
    from tpf_tracker_ros.models.layers.scan_triton import triton_scan

    return triton_scan(*inputs, _steps_per_chunk(inputs[0], inputs[3]))


def _scan_backward(
    grad: Tensor, x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, starts: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of x, delta, a, b, c; the adjoint runs through the chunks from their ends."""
    length, steps = x.shape[1], _steps_per_chunk(x, b)
    a = a.mT.contiguous()
    x_, delta_, grad_ = (_by_step(v, steps).unsqueeze(3).unbind(0) for v in (x, delta, grad))
    b_, c_ = (_by_step(v, steps).unsqueeze(4).unbind(0) for v in (b, c))

    # Part 1: the adjoint at the start of each chunk if none came in from the chunk after it.
    adjoint = c_[-1] * grad_[-1]
    decay = torch.empty_like(adjoint)
    for t in reversed(range(steps - 1)):
        adjoint.mul_(_exp(delta_[t + 1], a, decay)).addcmul_(c_[t], grad_[t])
    adjoint.mul_(_exp(delta_[0], a, decay))

    # Part 2: carry, last chunk first; chunk k receives what chunk k + 1 truly passes back.
    fade = torch.exp(torch.stack(delta_).sum(0) * a)
    adjoint = F.pad(_carry(adjoint.flip(1), fade.flip(1)).flip(1)[:, 1:], (0, 0, 0, 0, 0, 1))

    # Part 3: the states again, now kept: the gradients need them last first.
    states = [starts]
    for t in range(steps):
        faded = _exp(delta_[t], a, decay).mul_(states[t])
        states.append(torch.addcmul(faded, x_[t], b_[t]))

    # Part 4: step back from the true adjoints; w is the gradient of the exponent delta * a.
    grad_a = torch.zeros_like(starts)
    grads = []
    with _full_precision(x):
        for t in reversed(range(steps)):
            adjoint.addcmul_(c_[t], grad_[t])
            grad_b = torch.matmul(adjoint, x_[t].mT)
            grad_c = torch.matmul(states[t + 1], grad_[t].mT)
            grad_x = torch.matmul(b_[t].mT, adjoint)
            adjoint.mul_(_exp(delta_[t], a, decay))
            w = states[t] * adjoint
            grad_a.addcmul_(w, delta_[t])
            grads.append((grad_x, (w * a).sum(2, keepdim=True), grad_b.mT, grad_c.mT))
    grads = (_by_token(part, length) for part in zip(*reversed(grads)))
    grad_x, grad_delta, grad_b, grad_c = grads
    return grad_x, grad_delta, grad_a.sum((0, 1)).mT, grad_b, grad_c


def _exp(delta: Tensor, a: Tensor, out: Tensor) -> Tensor:
    """Decay (B, K, N, D) over steps delta (B, K, 1, D)."""
    return torch.mul(delta, a, out=out).exp_()


def _carry(ends: Tensor, fade: Tensor) -> Tensor:
    """Chain chunks that end at ends from zero and fade what comes in: end states (B, K, N, D)."""
    shift = 1
    while shift < ends.shape[1]:
        reached = torch.addcmul(ends[:, shift:], fade[:, shift:], ends[:, :-shift])
        ends = torch.cat([ends[:, :shift], reached], 1)
        if 2 * shift < ends.shape[1]:
            fade = torch.cat([fade[:, :shift], fade[:, shift:] * fade[:, :-shift]], 1)
        shift *= 2
    return ends


def _steps_per_chunk(x: Tensor, b: Tensor) -> int:
    """T. Few steps where starting an operation is what costs, more where the caches are small."""
    length = x.shape[1]
    few = math.ceil(math.sqrt(length) / 2)
    if x.is_cuda or _is_traced():
        return min(few, MOST_STEPS)
    return max(few, math.ceil(x.numel() * b.shape[2] / CPU_LANES))


def _by_step(v: Tensor, steps: int) -> Tensor:
    """(B, L, C) -> (T, B, K, C), zeros after the end: with delta = 0 the state stays as it is."""
    missing = -v.shape[1] % steps
    if missing:
        v = F.pad(v, (0, 0, 0, missing))
    return v.unflatten(1, (-1, steps)).permute(2, 0, 1, 3).contiguous()


def _by_token(parts: list[Tensor], length: int) -> Tensor:
    """T tensors (B, K, 1, C) -> (B, L, C)."""
    return torch.cat(parts, 2).flatten(1, 2)[:, :length]


def _full_precision(x: Tensor) -> AbstractContextManager:
    """Keep autocast off the matrix products. Entered only where it is on: exports stay plain."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
