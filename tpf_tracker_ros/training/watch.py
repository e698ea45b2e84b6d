"""What is noted of a run: its log, the time it takes, a loss that is not finite."""

from collections import deque
from collections.abc import Iterable
import csv
from dataclasses import asdict
from pathlib import Path
import time
from typing import Any

import torch
from torch import Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.training.samples.world import Batch


class Stopwatch:
    """Time spent inside of `with` blocks; on a GPU, by events, which do not wait for its work."""

    def __init__(self, device: str) -> None:
        self._on_gpu, self._marks = device.startswith('cuda'), []

    def __enter__(self) -> None:
        self._marks.append(self._mark())

    def __exit__(self, *_: object) -> None:
        self._marks.append(self._mark())

    def _mark(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> float:
        """All blocks together; waits for them on a GPU."""
        pairs = zip(self._marks[::2], self._marks[1::2])
        if not self._on_gpu:
            return sum(end - start for start, end in pairs)
        torch.cuda.synchronize()
        return sum(start.elapsed_time(end) for start, end in pairs) / 1000


class FiniteCheck:
    """
    Stops a training whose loss is not finite, and keeps the batch.

    On a GPU a loss is looked at two batches later: to ask at once would be to wait for it.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._folder, self._pending = folder, deque()
        self._lag = 2 if device.startswith('cuda') else 0

    def add(self, loss: Tensor, batch: Batch, step: int) -> None:
        """Note a loss. Raises TpfError where it, or one noted before, is not finite."""
        finite = torch.isfinite(loss.detach()).to('cpu', non_blocking=True)
        known = None
        if self._lag:
            known = torch.cuda.Event()
            known.record()
        self._pending.append((finite, known, batch, step))
        self._look(self._lag)

    def finish(self) -> None:
        """Look at all losses that are left."""
        self._look(0)

    def _look(self, left: int) -> None:
        while len(self._pending) > left:
            finite, known, batch, step = self._pending.popleft()
            if known is not None:
                known.synchronize()
            if finite:
                continue
            path = self._folder / 'nan_batch.pt'
            torch.save(asdict(batch), path)
            raise TpfError(
                f'loss is not finite at step {step}; the batch is in {path}; '
                'lower learning_rate or clip'
            )


class Log:
    """log.csv, and TensorBoard's events beside it where tensorboard is installed."""

    def __init__(self, folder: Path, columns: Iterable[str], step: int) -> None:
        self._path, self._board = folder / 'log.csv', None
        rows = []
        if self._path.is_file():
            # What an interrupted run logged after its last state will be logged again.
            lines = self._path.read_text().splitlines()[1:]
            rows = [line for line in lines if int(line.partition(',')[0]) <= step]
        self._path.write_text('\n'.join([','.join(columns), *rows, '']))
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(folder, purge_step=step)
        except ImportError:
            pass

    def write(self, row: dict[str, Any]) -> None:
        """One line; the first column is the step."""
        with open(self._path, 'a', newline='') as file:
            csv.writer(file, lineterminator='\n').writerow(row.values())
        if self._board is not None:
            for name, value in list(row.items())[1:]:
                self._board.add_scalar(name, value, row['step'])
