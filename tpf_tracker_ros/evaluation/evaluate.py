"""From folders of result files to scores: what `tpf eval` does before it writes a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import entries
from tpf_tracker_ros.data.box_files import find_results, read_boxes
from tpf_tracker_ros.data.datasets import (
    by_row,
    get_layout,
    read_attributes,
    read_names,
    read_rows,
    read_truth,
    read_truths,
)
from tpf_tracker_ros.evaluation.protocol import (
    find_protocol,
    frames_needed,
    Metric,
    ONE_SEQUENCE,
    Protocol,
    PROTOCOLS,
    score_tracker,
    Scores,
)


@dataclass(frozen=True)
class Evaluation:
    """
    Trackers on one dataset, the best first.

    results: tracker -> sequence -> boxes (N, 4) as they were scored. attributes: attribute ->
    sequences. gaps: what was missing and left out, a line a tracker.
    """

    dataset: str
    protocol: Protocol
    scores: list[Scores]
    results: dict[str, dict[str, np.ndarray]]
    truths: dict[str, np.ndarray]
    attributes: dict[str, list[str]]
    gaps: list[str]

    @property
    def curves(self) -> list[Metric]:
        """Return the metrics with more than one threshold; the last of them ranks the trackers."""
        return [metric for metric in self.protocol.metrics if len(metric.thresholds) > 1]


def evaluate_folders(
    results: Sequence[Path],
    dataset: str | None,
    gt: Path,
    *,
    tracker: str | None = None,
    sequences: Path | None = None,
    partial: bool = False,
) -> Evaluation:
    """
    Score every tracker found in `results` against the ground truth in `gt`.

    results: folders of result files, or of such folders; the folder's name is the tracker's.
    tracker: score only the folder of this name, or, for a folder of files, its name.
    sequences: a list of sequence names; default: all that have ground truth. partial: leave out
    what is missing. Raises TpfError naming missing and short results otherwise.
    """
    if dataset is None:
        raise TpfError(f'give --dataset for folders of results: {", ".join(PROTOCOLS)}')
    protocol = find_protocol(dataset)
    truths = read_truths(gt, dataset, read_names(sequences) if sequences else None)
    rows = read_rows(gt, dataset)
    read, gaps = {}, []
    for name, files in find_trackers(results, list(truths), tracker).items():
        read[name] = {
            sequence: read_result(file, protocol, rows.get(sequence))
            for sequence, file in files.items()
        }
        gaps += find_gaps(name, read[name], truths, protocol)
    if gaps and not partial:
        raise TpfError(f'{"; ".join(gaps)}; complete the results or give --partial')
    scores = [score_tracker(name, boxes, truths, protocol) for name, boxes in read.items()]
    attributes = read_attributes(gt, list(truths))
    evaluation = Evaluation(dataset, protocol, scores, read, truths, attributes, gaps)
    rank = evaluation.curves[-1].name
    scores.sort(key=lambda score: -score.summary()[rank])
    return evaluation


def evaluate_file(result: Path, dataset: str | None, gt: Path) -> Evaluation:
    """One result file against one ground-truth file, by LasHeR's rules or the dataset's."""
    corners = dataset is not None and get_layout(dataset).two_corners
    protocol = find_protocol(dataset) if dataset else ONE_SEQUENCE
    name = result.stem
    boxes = read_result(result, protocol)
    truths = {name: read_truth(gt, corners)[None]}
    gaps = find_gaps(str(result), {name: boxes}, truths, protocol)
    if gaps:
        raise TpfError(f'{gaps[0]}; the ground truth is {gt}')
    scores = [score_tracker(name, {name: boxes}, truths, protocol)]
    results = {name: {name: boxes}}
    return Evaluation(dataset or gt.stem, protocol, scores, results, truths, {}, [])


def read_result(file: Path, protocol: Protocol, rows: np.ndarray | None = None) -> np.ndarray:
    """
    Boxes (N, 4) of a result, one for every frame, as the protocol reads them.

    rows: of the images on disk. A result with a box for each of them, where some are missing,
    gets the rows of those back.
    """
    boxes = read_boxes(
        file, corner_pixels=protocol.corner_pixels, whole_pixels=protocol.whole_pixels
    )
    lacking = rows is not None and len(boxes) == len(rows) <= rows[-1]
    return by_row(boxes, rows) if lacking else boxes


def find_trackers(
    results: Sequence[Path], sequences: list[str], tracker: str | None
) -> dict[str, dict[str, Path]]:
    """Tracker -> sequence -> result file. Raises TpfError when there are none at all."""
    found = {}
    for folder in results:
        if not folder.is_dir():
            raise TpfError(f'{folder} is not a folder of result files')
        files = find_results(folder, sequences, tracker)
        if files:
            candidates = {tracker or folder.resolve().name: files}
        else:
            folders = [path for path in entries(folder) if path.is_dir()]
            candidates = {path.name: find_results(path, sequences) for path in folders}
            candidates = {
                name: files
                for name, files in candidates.items()
                if files and tracker in (None, name)
            }
        for name in candidates.keys() & found.keys():
            raise TpfError(f'{folder}: there is another tracker named {name}; rename its folder')
        found |= candidates
    if not found:
        places = ', '.join(map(str, results))
        raise TpfError(
            f'{places}: no result files{f" of {tracker}" if tracker else ""} for the sequences '
            f'{", ".join(sequences[:3])} …; they are named SEQUENCE.txt or TRACKER_SEQUENCE.txt'
        )
    return found


def find_gaps(
    tracker: str, results: dict[str, np.ndarray], truths: dict[str, np.ndarray], protocol: Protocol
) -> list[str]:
    """Return a line that names the missing and the short results, or nothing."""
    missing = [name for name in truths if name not in results]
    short = []
    for name, boxes in results.items():
        needed = frames_needed(truths[name], protocol)
        if len(boxes) < needed and len(boxes) != truths[name].shape[1]:
            short.append(f'{name} ({len(boxes)} of {needed} boxes)')
    parts = [
        f'{len(names)} of {len(truths)} results are {what}: {", ".join(names[:5])}'
        + (', …' if len(names) > 5 else '')
        for what, names in (('missing', missing), ('short', short))
        if names
    ]
    return [f'{tracker}: {", ".join(parts)}'] if parts else []


def summary_table(scores: Sequence[Scores]) -> str:
    """Return the trackers' metrics in percent as aligned text."""
    width = max(len(score.tracker) for score in scores)
    names = [metric.name for metric in scores[0].protocol.metrics]
    lines = [' ' * width + ''.join(f'{name:>8}' for name in names) + '  sequences']
    for score in scores:
        values = ''.join(f'{value:8.2f}' for value in score.summary().values())
        lines.append(f'{score.tracker:{width}}{values}  {len(score.sequences)}')
    return '\n'.join(lines)
