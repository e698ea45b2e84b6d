"""Counts the multiply-adds of a network's products and convolutions."""

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode


def count_macs(run: Callable[[], object]) -> dict[str, int]:
    """
    Multiply-adds by 'convolution', 'linear' and 'attention' during one call of run.

    'attention' are the products of activations with each other, which papers often leave out.
    What works element by element, the scan's steps among it, is not counted. Meta tensors do.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    counts = {'convolution': 0, 'linear': 0, 'attention': 0}
    kinds = {'convolution': 'convolution', 'addmm': 'linear', 'mm': 'linear'}
    for operation, flops in counter.get_flop_counts().get('Global', {}).items():
        name = str(operation).split('.')[1]
        counts[kinds.get(name, 'attention')] += flops // 2
    return counts
