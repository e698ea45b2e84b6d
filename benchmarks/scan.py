"""
The selective scan against the sequential loop, in one run: time, memory, growth with length.

    python benchmarks/scan.py [--device cuda] [--tokens 65536] [--json FILE]

Prints milliseconds and, what counts on a busy machine, ratios. Best of several runs each.
"""

import argparse
from collections.abc import Callable
from contextlib import suppress
import json
from pathlib import Path
import resource
import runpy
import time

import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.layers import scan

REFERENCE = Path(__file__).parents[1] / 'test' / 'models' / 'layers' / 'scan_reference.py'
sequential_scan = runpy.run_path(str(REFERENCE))['sequential_scan']


def make_inputs(tokens: int, device: str) -> list[torch.Tensor]:
    """u, delta, a, b, c of one sequence with 64 channels and state 16, as Mamba starts them."""
    torch.manual_seed(0)
    u = torch.randn(1, tokens, 64)
    delta = torch.rand(1, tokens, 64) * 0.1 + 1e-3
    a = -torch.arange(1.0, 17.0).repeat(64, 1)
    b, c = torch.randn(1, tokens, 16), torch.randn(1, tokens, 16)
    return [v.to(device) for v in (u, delta, a, b, c)]


def best_ms(run: Callable[[], object], device: str, repeats: int) -> float:
    """Milliseconds of the fastest run, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        if device != 'cpu':
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    return min(times[1:])


def extra_mb(run: Callable[[], object], device: str) -> float:
    """Peak memory of one run above what was in use before it; call before any larger run."""
    if device != 'cpu':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--tokens', type=int, default=65536)
    parser.add_argument('--repeats', type=int, default=10)
    parser.add_argument('--json', type=Path)
    options = parser.parse_args()
    device, tokens, repeats = options.device, options.tokens, options.repeats

    inputs = make_inputs(tokens, device)
    quarter = make_inputs(tokens // 4, device)
    training = [v.clone().requires_grad_() for v in inputs]
    results = {'device': device, 'threads': torch.get_num_threads(), 'tokens': tokens}

    def step() -> None:
        scan.selective_scan(*training, backend='chunked').sum().backward()

    with torch.no_grad():
        results['forward_extra_mb'] = extra_mb(lambda: scan.selective_scan(*inputs), device)
        results['forward_ms'] = best_ms(lambda: scan.selective_scan(*inputs), device, repeats)
        results['quarter_ms'] = best_ms(lambda: scan.selective_scan(*quarter), device, repeats)
        start = time.perf_counter()
        expected = sequential_scan(*inputs)
        results['sequential_ms'] = (time.perf_counter() - start) * 1e3
        found = scan.selective_scan(*inputs)
        results['largest_difference'] = (found - expected).abs().max().item()
        others = ('native',) if device == 'cpu' else ('triton', 'mamba_ssm')
        for backend in ('chunked', *others):
            with suppress(TpfError):  # not installed
                results[f'{backend}_ms'] = best_ms(
                    lambda b=backend: scan.selective_scan(*inputs, backend=b), device, repeats
                )
    results['forward_backward_ms'] = best_ms(step, device, max(1, repeats // 3))
    results['times_faster_than_sequential'] = results['sequential_ms'] / results['forward_ms']
    results['four_times_the_tokens_cost'] = results['forward_ms'] / results['quarter_ms']
    results['backward_to_forward'] = results['forward_backward_ms'] / results['forward_ms'] - 1
    for name, value in results.items():
        print(f'{name:30} {value:.4g}' if isinstance(value, float) else f'{name:30} {value}')
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    main()
