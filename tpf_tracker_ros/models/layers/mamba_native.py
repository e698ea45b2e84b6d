"""
Mamba on a CPU in C (mamba_native.c), compiled once on the user's machine.

PyTorch reads and writes all tokens, and the state of each, once for each of its operations; in C
they stay in the cache and in registers. Values only: where gradients are needed, a network is
exported, or there is no compiler, the forms in PyTorch run.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import ctypes
from functools import cache
import logging
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.system.compiled import call_compiler, compiled_once, find_compilers, processor

SOURCE = Path(__file__).with_suffix('.c')
# No -ffast-math: NaN stays NaN, and sums keep their order.
FLAGS = ['-O3', '-march=native', '-fno-math-errno', '-fno-trapping-math', '-ffp-contract=fast']
LANES = 16  # as in the C code
MOST_STATES = 1 << 16  # of one token, which lie on the stack
SMALL = 1 << 24  # numbers of the state over all tokens that are not worth a second thread

log = logging.getLogger(__name__)


@cache
def can_compile() -> bool:
    """Say whether there is the compiled code, compiling it if there is none yet; warn if not."""
    try:
        _library()
    except (TpfError, OSError) as error:  # OSError: a cache from which nothing may be loaded
        log.warning('fusion runs in PyTorch, slower: %s', error)
        return False
    return True


def native_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return y (B, L, D) without d; shapes as in selective_scan, all float32 on a CPU."""
    u, delta, a, b, c = (v.contiguous() for v in (u, delta, a, b, c))
    y = torch.empty_like(u)
    batch, length, channels = u.shape
    blocks, state = batch * -(-channels // LANES), a.shape[1]
    pointers = [v.data_ptr() for v in (u, delta, a, b, c, y)]

    def run(first: int, last: int) -> None:
        _library().scan(*pointers, length, channels, state, first, last)

    _share(run, blocks, u.numel() * state)
    return y


def native_mix(
    u: Tensor,
    orders: list[tuple[bool, bool]],
    *,
    taps: Tensor,
    bias: Tensor,
    project: Tensor,
    widen: Tensor,
    delta_bias: Tensor,
    a: Tensor,
    d: Tensor,
) -> Tensor:
    """
    Mix a grid u (B, H, W, C) as MambaMixer.mix does its tokens; gives (orders, B, H, W, C).

    orders: whether along columns, and whether from the end on. taps (C, 1, K) and bias (C,) of
    the convolution, project (R + 2 N, C), widen (C, R) and delta_bias (C,): the mixer's weights;
    a, d: as in selective_scan. All float32 on a CPU; the last dimension of u is contiguous.
    """
    batch, height, width, channels = u.shape
    (outputs, _), (_, rank), state = project.shape, widen.shape, a.shape[1]
    columns, more = -(-outputs // LANES), -channels % LANES
    rows = [F.pad(v, (0, more)) for v in (taps[:, 0].T, bias, project, widen.T, delta_bias, d)]
    rows[2] = F.pad(rows[2], (0, 0, 0, columns * LANES - outputs)).T
    taps, bias, project, widen, delta_bias, d = (v.contiguous() for v in rows)
    weights = taps, bias, project, widen, delta_bias, a.contiguous(), d
    pointers = [v.data_ptr() for v in weights]
    sizes = height, width, channels, u.stride(2), len(taps), rank, state, columns
    y = u.new_empty(len(orders), *u.shape)

    def run(first: int, last: int) -> None:
        for k in range(first, last):
            given, made = u[k % batch], y[k // batch, k % batch]
            _library().mix(
                given.data_ptr(), made.data_ptr(), *pointers, *sizes, *orders[k // batch]
            )

    _share(run, len(orders) * batch, y.numel() * state)
    return y


def _share(run: Callable[[int, int], None], parts: int, numbers: int) -> None:
    """Run(first, last) over all parts, in torch's number of threads if there is much to do."""
    threads = 1 if numbers <= SMALL else min(parts, torch.get_num_threads())
    limits = [parts * i // threads for i in range(threads + 1)]
    if threads == 1:
        run(0, parts)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, limits[:-1], limits[1:]))


@cache
def _library() -> ctypes.CDLL:
    parts = [SOURCE.read_text(), *FLAGS, processor()]
    folder = compiled_once('mamba_native', parts, _build, seconds=1)
    library = ctypes.CDLL(str(folder / 'mamba.so'))
    library.scan.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_long] * 5
    library.mix.argtypes = [ctypes.c_void_p] * 9 + [ctypes.c_long] * 10
    library.scan.restype = library.mix.restype = None
    return library


def _build(folder: Path) -> None:
    compiler = find_compilers('mamba_native')['.c']
    command = [*compiler, *FLAGS, '-fPIC', '-shared', str(SOURCE), '-lm', '-o']
    call_compiler([*command, str(folder / 'mamba.so')], 'mamba_native')
