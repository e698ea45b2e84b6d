"""
The selective scan on a CPU in C (scan_native.c), compiled once on the user's machine.

PyTorch reads and writes the state once for each of its operations; in C it stays in registers.
Values only: where gradients are needed, or there is no compiler, the chunked form runs.
"""

from concurrent.futures import ThreadPoolExecutor
import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from tpf_tracker_ros.core.compiled import call_compiler, compiled_once, find_compilers, processor
from tpf_tracker_ros.core.errors import TpfError

SOURCE = Path(__file__).with_suffix('.c')
# No -ffast-math: NaN stays NaN, and sums keep their order.
FLAGS = ['-O3', '-march=native', '-fno-math-errno', '-fno-trapping-math', '-ffp-contract=fast']
LANES = 16  # as in the C code
SMALL = 1 << 22  # numbers of the state over all tokens that are not worth a second thread


@cache
def can_compile() -> bool:
    """Say whether there is a compiled scan, compiling it if there is none yet."""
    try:
        _library()
    except (TpfError, OSError):  # OSError: a cache from which nothing may be loaded
        return False
    return True


def native_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return y (B, L, D); x = delta * u; shapes as in selective_scan, all float32 on a CPU."""
    x, delta, a, b, c = (v.contiguous() for v in (x, delta, a, b, c))
    y = torch.empty_like(x)
    batch, length, channels = x.shape
    blocks, state = batch * -(-channels // LANES), a.shape[1]
    threads = 1 if x.numel() * state <= SMALL else min(blocks, torch.get_num_threads())
    limits = [blocks * i // threads for i in range(threads + 1)]

    def run(first: int, last: int) -> None:
        pointers = (v.data_ptr() for v in (x, delta, a, b, c, y))
        _library().scan(*pointers, length, channels, state, first, last)

    if threads == 1:
        run(0, blocks)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, limits[:-1], limits[1:]))
    return y


@cache
def _library() -> ctypes.CDLL:
    parts = [SOURCE.read_text(), *FLAGS, processor()]
    folder = compiled_once('selective_scan', parts, _build, seconds=1)
    library = ctypes.CDLL(str(folder / 'scan.so'))
    library.scan.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_long] * 5
    library.scan.restype = None
    return library


def _build(folder: Path) -> None:
    compiler = find_compilers('selective_scan')['.c']
    target = str(folder / 'scan.so')
    command = [*compiler, *FLAGS, '-fPIC', '-shared', str(SOURCE), '-lm', '-o', target]
    call_compiler(command, 'selective_scan')
