"""`tpf replay` and `tpf demo`: a bag goes through the live node; a report tells how it went."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tpf_tracker_ros.bags.convert import sequence_to_bag
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.sequence import starting_box
from tpf_tracker_ros.ros.parameters import tracker_settings
from tpf_tracker_ros.ros.replay.replay import replay
from tpf_tracker_ros.ros.replay.report import summary, write_report
from tpf_tracker_ros.tracking.config import DEFAULT_MODEL


def demo_bag(seed: int, folder: Path) -> Path:
    """Return the demo's film as a bag in the folder: made once, complete or not there at all."""
    path = folder / f'park-{seed}.mcap'
    if not path.exists():
        # Here, since the film's torch takes seconds that a second run does not need.
        from tpf_tracker_ros.data.park import ParkSequence

        partial = path.with_suffix('.partial.mcap')
        sequence_to_bag(ParkSequence(seed), partial, overwrite=True)
        partial.replace(path)
    return path


def replay_with_report(
    sequence: BagSequence,
    init: np.ndarray | None,
    out: Path,
    *,
    rate: float = 1.0,
    parameters: Mapping[str, object] | None = None,
    first: int = 0,
    keep_playing: bool = False,
) -> str:
    """
    Write tracks.mcap, overlay.mp4, report.png, metrics.json, node.log; returns the summary.

    init: box (4,) x, y, w, h px in pair number `first`; None: the first ground truth.
    keep_playing: until Ctrl-C, for who watches; the first time is reported.
    Raises TpfError, also when all is written but nothing was tracked.
    """
    if init is None:
        init = starting_box(sequence)
    out.mkdir(parents=True, exist_ok=True)
    run = replay(
        sequence,
        init,
        out=out,
        rate=rate,
        parameters=parameters,
        first=first,
        keep_playing=keep_playing,
    )
    from tpf_tracker_ros.tracking.load import model_settings  # loads torch

    given = parameters or {}
    config = model_settings(given.get('model', DEFAULT_MODEL), **tracker_settings(given))
    metrics = write_report(run, sequence, out, uncertain_score=config.uncertain_score)
    after = slice(first + 1, None)  # that of the first is the given one
    if not np.isfinite(run.boxes[after]).any():
        raise TpfError(f'nothing was tracked; see {out / "report.png"} and {out / "node.log"}')
    return f'{summary(metrics)}\nresults in {out}'
