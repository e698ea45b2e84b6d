"""
A tracker over a whole dataset: `tpf run`.

Writes SEQ.txt (x,y,w,h a frame) and SEQ_time.txt (seconds a frame), as benchmarks expect them. A
frame that is missing on disk has a row of nan, so that the others keep theirs.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
import multiprocessing
import os
from pathlib import Path

import numpy as np
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import writing
from tpf_tracker_ros.core.sequence import Sequence, starting_box
from tpf_tracker_ros.data.datasets import (
    by_row,
    check_second,
    find_sequences,
    get_layout,
    open_sequence,
    read_names,
    start_files,
)
from tpf_tracker_ros.tracking.offline import track_sequence
from tpf_tracker_ros.tracking.tracker import Tracker
from tqdm import tqdm

_tracker: Tracker | None = None  # the one of this process


def run_sequence(tracker: Tracker, sequence: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """
    Boxes (N, 4) x, y, w, h px from the first ground truth on, and seconds (N,) a frame.

    Decoding is not counted. Raises TpfError when the first frame has no ground truth.
    """
    results = [
        (result.box, result.stages['total'] / 1e3)
        for _, result in track_sequence(tracker, sequence, starting_box(sequence))
    ]
    boxes, seconds = zip(*results)
    return np.array(boxes), np.array(seconds)


def track_folder(tracker: Tracker, folder: Path, dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """
    Boxes (N, 4) x, y, w, h px, one a row of the result file, and seconds (N,) a tracked frame.

    Raises TpfError when there is no box to start on.
    """
    sequence = open_sequence(folder, dataset)
    if sequence.ground_truth is None:
        wanted = ' and '.join(start_files(get_layout(dataset)))
        raise TpfError(f'{folder} has no {wanted} with the box to start on')
    boxes, seconds = run_sequence(tracker, sequence)
    return by_row(boxes, sequence.rows), seconds


def run_dataset(
    make_tracker: Callable[[], Tracker],
    dataset: str,
    root: Path,
    out: Path,
    *,
    sequences: Path | None = None,
    processes: int = 1,
) -> str:
    """
    Track every sequence below root that out has no result of; returns what was done.

    make_tracker: called once in each process, picklable. sequences: a list of names; default:
    all. A sequence that fails does not stop the others. Raises TpfError naming those that did.
    """
    folders, todo = find_work(dataset, root, out, sequences)
    jobs = [(folder, dataset, out) for folder in todo]
    _start(make_tracker)  # in this process too, so that a bad model is told before others start
    check_tracker(_tracker, dataset)
    try:
        if processes == 1:
            failures = failed(map(_run_one, jobs), len(folders), len(todo))
        else:
            os.environ.setdefault('OMP_NUM_THREADS', str(max(1, os.cpu_count() // processes)))
            with ProcessPoolExecutor(
                processes, multiprocessing.get_context('spawn'), _start, (make_tracker,)
            ) as pool:
                failures = failed(pool.map(_run_one, jobs), len(folders), len(todo))
    except BrokenProcessPool as error:
        raise TpfError(
            'a worker process was killed, out of memory perhaps; what is done is kept: '
            'run the command again, with fewer --processes'
        ) from error
    return summary(failures, len(folders), len(todo), out)


def check_tracker(tracker: Tracker, dataset: str) -> None:
    """Raise TpfError where the tracker needs depth or events and the dataset has none."""
    if tracker.second != 'thermal':  # those of thermal see the grey of whatever there is
        check_second(dataset, tracker.name, tracker.second)


def find_work(
    dataset: str, root: Path, out: Path, sequences: Path | None
) -> tuple[dict[str, Path], list[Path]]:
    """
    Return the folders of all sequences by name, and those that out, made here, has no result of.

    sequences: a list of names; None: all. Raises TpfError.
    """
    folders = find_sequences(root, dataset, read_names(sequences) if sequences else None)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    return folders, [
        folder for name, folder in folders.items() if not (out / f'{name}.txt').exists()
    ]


def failed(outcomes: Iterable[str | None], total: int, todo: int) -> list[str]:
    """Return the failures among the outcomes, counted on a progress bar as they come."""
    bar = tqdm(outcomes, total=total, initial=total - todo, unit='sequence', disable=None)
    return [failure for failure in bar if failure]


def summary(failures: list[str], total: int, todo: int, out: Path) -> str:
    """Say what was done; TpfError where something failed."""
    if failures:
        raise TpfError(f'{len(failures)} of {todo} sequences failed: {"; ".join(failures)}')
    return f'{todo} sequences tracked, {total - todo} were there: {out}'


def write_results(out: Path, name: str, boxes: np.ndarray, seconds: np.ndarray) -> None:
    """Write one sequence's files; that of the boxes last, so that what is there is whole."""
    np.savetxt(out / f'{name}_time.txt', seconds, fmt='%.6f')
    unfinished = out / f'{name}.part'
    np.savetxt(unfinished, boxes, fmt='%.2f', delimiter=',')
    unfinished.replace(out / f'{name}.txt')


def _start(make_tracker: Callable[[], Tracker]) -> None:
    global _tracker
    _tracker = make_tracker()


def _run_one(job: tuple[Path, str, Path]) -> str | None:
    """Track one sequence and write its files; returns why it failed."""
    folder, dataset, out = job
    try:
        write_results(out, folder.name, *track_folder(_tracker, folder, dataset))
    except (TpfError, OSError) as error:
        return f'{folder.name}: {error}'
