"""
A tracker over a whole dataset on the machines of a Ray cluster: `tpf run --ray`.

Ray carries the package's code and the weights to the machines; the data must lie on each of them
under one path. Boxes and times come back and are written here, by the same function as in a run on
one machine.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
import logging
import os
from pathlib import Path
import re
import socket
import tempfile
from typing import Any

import numpy as np
import tpf_tracker_ros
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import write_file
from tpf_tracker_ros.evaluation.runner import (
    check_tracker,
    failed,
    find_work,
    summary,
    track_folder,
    write_results,
)
from tpf_tracker_ros.tracking.tracker import Tracker

LOCAL = 'local'
ATTEMPTS = 3  # of a sequence whose worker or machine dies
CONNECT_TIMEOUT = 10.0  # s
CHECK_TIMEOUT = 300.0  # s for a machine to load the tracker

log = logging.getLogger(__name__)
_tracker: Tracker | None = None  # the one of this worker


def run_on_cluster(
    make_tracker: Callable[..., Tracker],
    dataset: str,
    root: Path,
    out: Path,
    *,
    address: str,
    device: str = 'auto',
    checkpoint: Path | None = None,
    sequences: Path | None = None,
) -> str:
    """
    Do what run_dataset does on the cluster at this address; 'local': one made on this machine.

    make_tracker: called with device and checkpoint, once in each worker; picklable. device: auto
    is cuda where the cluster has GPUs, else cpu: the same for all, so that boxes do not depend on
    who tracks. A worker has one GPU, or one core.
    Raises TpfError where the cluster, the data on a machine, or a sequence fails.
    """
    files = _read(checkpoint) if checkpoint else {}
    folders, todo = find_work(dataset, root.resolve(), out, sequences)
    with _cluster(address) as ray:
        if device == 'auto':
            device = 'cuda' if ray.cluster_resources().get('GPU') else 'cpu'
        one = {'num_gpus': 1} if device.startswith('cuda') else {'num_cpus': 1}
        worker = ray.remote(max_retries=0, **one)(_track)
        setup = ray.put((make_tracker, device, checkpoint and checkpoint.name, files))
        if todo:
            _check_machines(ray, one, setup, todo, dataset)

        def outcomes() -> Iterator[str | None]:
            for folder, outcome in _gather(ray, worker, setup, todo, dataset):
                if not isinstance(outcome, str):
                    try:
                        outcome = write_results(out, folder.name, *outcome)
                    except OSError as error:
                        outcome = str(error)
                yield f'{folder.name}: {outcome}' if outcome else None

        return summary(failed(outcomes(), len(folders), len(todo)), len(folders), len(todo), out)


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Give the module ray, connected."""
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')  # it would tell its makers
    try:
        import ray
    except ImportError:
        raise TpfError(
            'Ray is not installed; install it on each machine: '
            "pip install 'tpf_tracker_ros[cluster]'"
        ) from None
    options: dict[str, Any] = {'include_dashboard': False}
    if address != LOCAL:
        package = str(Path(tpf_tracker_ros.__file__).parent)
        options = {'address': address, 'runtime_env': {'py_modules': [package]}}
    try:
        if parts := re.fullmatch(r'(?:ray://)?(.+):(\d+)', address):
            # Ray itself would try for minutes.
            socket.create_connection((parts[1], int(parts[2])), CONNECT_TIMEOUT).close()
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TpfError(
            f'no Ray cluster at {address}: {reason}; start one (ray start --head), '
            'or give --ray local'
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_machines(
    ray: Any, one: dict[str, int], setup: Any, todo: list[Path], dataset: str
) -> None:
    """Raise TpfError naming the machines that lack the data or cannot load the tracker."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    check = ray.remote(max_retries=1, **one)(_check)
    able = 'GPU' if 'num_gpus' in one else 'CPU'
    asked = {}
    for node in ray.nodes():
        if node['Alive'] and node['Resources'].get(able):
            here = NodeAffinitySchedulingStrategy(node['NodeID'], soft=False)
            asked[check.options(scheduling_strategy=here).remote(setup, todo, dataset)] = node
    if not asked:
        raise TpfError(f'the Ray cluster has no {able}; add machines (ray start --address=…)')
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=CHECK_TIMEOUT)
    problems = [f'{_name(asked[each])} does not answer' for each in silent]
    for each in answered:
        try:
            problem = ray.get(each)
        except ray.exceptions.RayError as error:
            problem = _last_line(error)
        if problem:
            problems.append(f'{_name(asked[each])}: {problem}')
    if problems:
        raise TpfError(f'the cluster cannot track these sequences: {"; ".join(problems)}')


def _gather(
    ray: Any, worker: Any, setup: Any, todo: list[Path], dataset: str
) -> Iterator[tuple[Path, tuple[np.ndarray, np.ndarray] | str]]:
    """Give boxes and seconds of each sequence as they come, or why it failed."""
    attempts: Counter[Path] = Counter()
    running = {worker.remote(setup, folder, dataset): folder for folder in todo}
    while running:
        (done, *_), _ = ray.wait(list(running))
        folder = running.pop(done)
        try:
            yield folder, ray.get(done)
        except ray.exceptions.RayTaskError as error:  # a bug, which would come again
            yield folder, _last_line(error)
        except ray.exceptions.RayError as error:
            attempts[folder] += 1
            if attempts[folder] == ATTEMPTS:
                yield folder, f'its worker died {ATTEMPTS} times: {_last_line(error)}'
                continue
            log.warning(
                '%s: its worker or machine died (%s); tracked again elsewhere',
                folder.name,
                type(error).__name__,
            )
            running[worker.remote(setup, folder, dataset)] = folder


def _name(node: dict[str, Any]) -> str:
    return f'machine {node["NodeManagerHostname"]} ({node["NodeManagerAddress"]})'


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def _read(checkpoint: Path) -> dict[str, bytes]:
    """Return the content of a checkpoint's file, or of an export's folder, by path from there."""
    if not checkpoint.exists():
        raise TpfError(f'checkpoint {checkpoint} does not exist')
    files = checkpoint.iterdir() if checkpoint.is_dir() else [checkpoint]
    return {str(file.relative_to(checkpoint.parent)): file.read_bytes() for file in files}


# ---- in the workers ----


def _check(setup: tuple, folders: list[Path], dataset: str) -> str | None:
    """Return why this machine cannot track these sequences."""
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        return (
            f'{len(missing)} of {len(folders)} sequences are not there, such as {missing[0]}; '
            'mount or copy them to the same path'
        )
    try:
        check_tracker(_make_tracker(setup), dataset)
    except (TpfError, OSError) as error:
        return str(error)


def _track(setup: tuple, folder: Path, dataset: str) -> tuple[np.ndarray, np.ndarray] | str:
    """Return boxes (N, 4) and seconds (N,), or why not."""
    try:
        return track_folder(_make_tracker(setup), folder, dataset)
    except (TpfError, OSError) as error:
        return str(error)


def _make_tracker(setup: tuple) -> Tracker:
    """Return this worker's tracker, made when it is first needed."""
    global _tracker
    if _tracker is None:
        make, device, checkpoint, files = setup
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name, content in files.items():
                write_file(folder / name, content)
            _tracker = make(device=device, checkpoint=folder / checkpoint if checkpoint else None)
    return _tracker
