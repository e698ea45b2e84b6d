"""How long the stages of a step take: percentiles of the latest ones."""

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
import time

import numpy as np

WINDOW = 300  # latest values of a stage: 10 s at 30 Hz


class Latencies:
    """Percentiles of the latest durations. One thread adds to a stage, another may read it."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))

    def add(self, stage: str, seconds: float) -> None:
        """Note one duration."""
        self._seconds[stage].append(seconds)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note how long the block took."""
        start = time.perf_counter()
        yield
        self.add(stage, time.perf_counter() - start)

    def summary(self) -> dict[str, str]:
        """'p50 / p95 / p99' in ms by stage."""
        return {stage: percentiles(values, 1e3) for stage, values in list(self._seconds.items())}


def percentiles(values: deque[float], factor: float) -> str:
    """'p50 / p95 / p99' of the values times factor."""
    at = np.percentile(list(values), (50, 95, 99)) * factor
    return ' / '.join(f'{value:.2f}' for value in at)
