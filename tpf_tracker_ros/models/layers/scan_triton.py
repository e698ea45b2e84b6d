"""
The selective scan's forward pass as three Triton kernels for NVIDIA GPUs.

The same three parts as in scan.py: end states of the chunks from zero, the carry over them, the
outputs. A program keeps the states of its channels in registers and reads each token once, so
that nothing of the size L * N * D is ever written.
"""

import torch
from torch import Tensor
import triton
import triton.language as tl

CHANNELS = 32  # of one program; with 16 states each they fill the registers of two warps
COLUMNS = 8  # (channel, state) pairs whose carry one program computes


def triton_scan(
    x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """
    Return outputs (B, L, D) and the states before each chunk of steps tokens (B, K, N, D).

    x = delta * u; all float32; shapes as in selective_scan.
    """
    x, delta, a, b, c = (v.contiguous() for v in (x, delta, a, b, c))
    batch, length, dim = x.shape
    state = a.shape[1]
    chunks = triton.cdiv(length, steps)
    ends, fades, starts = (x.new_empty(batch, chunks, dim, state) for _ in range(3))
    y = torch.empty_like(x)
    sizes = length, dim, state, chunks, steps, triton.next_power_of_2(state), CHANNELS
    grid = batch * chunks, triton.cdiv(dim, CHANNELS)
    _ends[grid](x, delta, a, b, ends, fades, *sizes, num_warps=2)
    columns = dim * state
    carry_grid = batch, triton.cdiv(columns, COLUMNS)
    rows = triton.next_power_of_2(chunks)
    _carry[carry_grid](ends, fades, starts, chunks, columns, rows, COLUMNS, num_warps=8)
    _outputs[grid](x, delta, a, b, c, starts, y, *sizes, num_warps=2)
    return y, starts.mT


@triton.jit
def _ends(
    x, delta, a, b, ends, fades, length, dim, state, chunks, steps,
    STATE: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    first = row % chunks * steps
    token = row // chunks * length + first
    d = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    n = tl.arange(0, STATE)
    inside = (d[:, None] < dim) & (n[None, :] < state)
    rate = tl.load(a + d[:, None] * state + n[None, :], inside, 0.0)
    h = tl.zeros([CHANNELS, STATE], tl.float32)
    passed = tl.zeros([CHANNELS], tl.float32)
    for _ in range(tl.minimum(steps, length - first)):
        step = tl.load(delta + token * dim + d, d < dim, 0.0)
        value = tl.load(x + token * dim + d, d < dim, 0.0)
        into = tl.load(b + token * state + n, n < state, 0.0)
        h = h * tl.exp(step[:, None] * rate) + value[:, None] * into[None, :]
        passed += step
        token += 1
    place = (row * dim + d[:, None]) * state + n[None, :]
    tl.store(ends + place, h, inside)
    tl.store(fades + place, tl.exp(passed[:, None] * rate), inside)


@triton.jit
def _then(fade, end, next_fade, next_end):
    return fade * next_fade, end * next_fade + next_end


@triton.jit
def _carry(
    ends, fades, starts, chunks, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    k = tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(0).to(tl.int64) * chunks
    place = (first + k[:, None]) * columns + column[None, :]
    inside = (k[:, None] < chunks) & (column[None, :] < columns)
    fade = tl.load(fades + place, inside, 1.0)
    end = tl.load(ends + place, inside, 0.0)
    _, reached = tl.associative_scan((fade, end), 0, _then)
    # Chunk k starts where chunk k - 1 ends; the first one starts from zero.
    tl.store(starts + place + columns, reached, inside & (k[:, None] + 1 < chunks))
    tl.store(starts + place, tl.zeros_like(reached), inside & (k[:, None] == 0))


@triton.jit
def _outputs(
    x, delta, a, b, c, starts, y, length, dim, state, chunks, steps,
    STATE: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    first = row % chunks * steps
    token = row // chunks * length + first
    d = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    n = tl.arange(0, STATE)
    inside = (d[:, None] < dim) & (n[None, :] < state)
    rate = tl.load(a + d[:, None] * state + n[None, :], inside, 0.0)
    h = tl.load(starts + (row * dim + d[:, None]) * state + n[None, :], inside, 0.0)
    for _ in range(tl.minimum(steps, length - first)):
        step = tl.load(delta + token * dim + d, d < dim, 0.0)
        value = tl.load(x + token * dim + d, d < dim, 0.0)
        into = tl.load(b + token * state + n, n < state, 0.0)
        out = tl.load(c + token * state + n, n < state, 0.0)
        h = h * tl.exp(step[:, None] * rate) + value[:, None] * into[None, :]
        tl.store(y + token * dim + d, tl.sum(h * out[None, :], 1), d < dim)
        token += 1
