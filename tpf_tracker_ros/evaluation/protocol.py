"""
How each benchmark turns boxes into its published numbers.

A metric is a curve over thresholds for each sequence and one number read off the curve. The
rules follow the benchmarks' own toolkits; docs/evaluation.md lists them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tpf_tracker_ros.core.boxes import iou, present
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.datasets import get_layout, LAYOUTS
from tpf_tracker_ros.evaluation.metrics import (
    centre_errors,
    CENTRE_THRESHOLDS,
    curve,
    normalised_errors,
    NORMALISED_THRESHOLDS,
    OVERLAP_THRESHOLDS,
)


def state_values(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Anti-UAV's state accuracy (N,): the overlap, or 1 for an empty box of an absent target."""
    empty = ~(boxes[:, 2:] > 0).all(1)
    return np.where(present(truth), iou(boxes, truth), empty)


@dataclass(frozen=True)
class Metric:
    """
    One published number.

    values(boxes, truth) measures frames (N,); best picks among several ground truths.
    passes(value, threshold) decides on a frame; headline(curves) reads the number off (..., T).
    """

    name: str
    title: str
    axis: str
    values: Callable[[np.ndarray, np.ndarray], np.ndarray]
    best: np.ufunc
    thresholds: np.ndarray
    passes: Callable
    headline: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Protocol:
    """
    A benchmark's rules.

    pooled: averaged over frames instead of over sequences. first_given: the result's first box
    is replaced by the ground truth. repeat_invalid: boxes without area are replaced by the one
    before. absent: frames without the target are 'kept' as they are, 'left out', or count as a
    'miss' of the overlap (LasHeR, where they are hits of the distances). every: a row of ground
    truth belongs to each so many-th frame. corner_pixels, whole_pixels: how results are read, see
    read_boxes.
    """

    metrics: tuple[Metric, ...]
    pooled: bool = False
    first_given: bool = False
    repeat_invalid: bool = False
    absent: str = 'kept'
    every: int = 1
    corner_pixels: int | None = None
    whole_pixels: bool = True


def _at(index: int) -> Callable:
    return lambda curves: curves[..., index]


def _mean(curves: np.ndarray) -> np.ndarray:
    return curves.mean(-1)


def _area(curves: np.ndarray) -> np.ndarray:
    return (curves[..., 1:] + curves[..., :-1]).mean(-1) / 2  # trapezoids


PR = Metric(
    name='PR',
    title='Precision',
    axis='centre error threshold [px]',
    values=centre_errors,
    best=np.minimum,
    thresholds=CENTRE_THRESHOLDS,
    passes=np.less_equal,
    headline=_at(20),
)
NPR = replace(
    PR,
    name='NPR',
    title='Normalised precision',
    axis='centre error threshold [parts of the target]',
    values=normalised_errors,
    thresholds=NORMALISED_THRESHOLDS,
)
SR = Metric(
    name='SR',
    title='Success',
    axis='overlap threshold',
    values=iou,
    best=np.maximum,
    thresholds=OVERLAP_THRESHOLDS,
    passes=np.greater,
    headline=_mean,
)
SA = Metric(
    name='SA',
    title='State accuracy',
    axis='',
    values=state_values,
    best=np.maximum,
    thresholds=np.zeros(1),
    passes=lambda values, _: values,
    headline=_mean,
)
MPR = replace(PR, name='MPR', title='Maximum precision')
MSR = replace(SR, name='MSR', title='Maximum success')

PROTOCOLS = {
    'lasher': Protocol((PR, NPR, SR), first_given=True, repeat_invalid=True, absent='miss'),
    'rgbt234': Protocol((MPR, MSR), corner_pixels=1),
    'rgbt210': Protocol((PR, SR), first_given=True, corner_pixels=1),
    'gtot': Protocol(
        (
            replace(MPR, thresholds=np.arange(51) / 2, passes=np.less, headline=_at(10)),
            replace(MSR, headline=_area),
        ),
        pooled=True,
        corner_pixels=0,
    ),
    'vtuav': Protocol((MPR, MSR), every=LAYOUTS['vtuav'].every, whole_pixels=False),
    'antiuav': Protocol((PR, NPR, SR, SA), absent='left out', whole_pixels=False),
}


def find_protocol(dataset: str) -> Protocol:
    """Return the rules of a dataset. Raises TpfError where it is unknown or not scored here."""
    get_layout(dataset)
    if dataset not in PROTOCOLS:
        raise TpfError(
            f'{dataset} is not scored here, only {", ".join(PROTOCOLS)}; use its own toolkit'
        )
    return PROTOCOLS[dataset]


# One result against one ground truth of no named dataset: LasHeR's rules, boxes as they are.
ONE_SEQUENCE = replace(PROTOCOLS['lasher'], whole_pixels=False)


@dataclass(frozen=True)
class Scores:
    """One tracker on one dataset: for each metric the curves (S, T) of its sequences."""

    tracker: str
    protocol: Protocol
    sequences: list[str]
    frames: np.ndarray
    curves: dict[str, np.ndarray]

    def curve(self, metric: Metric, chosen: list[str] | None = None) -> np.ndarray:
        """Return the curve of the dataset, (T,), over the chosen sequences; NaN without any."""
        chosen = set(self.sequences if chosen is None else chosen)
        rows = [i for i, name in enumerate(self.sequences) if name in chosen]
        if not rows:
            return np.full(len(metric.thresholds), np.nan)
        weights = self.frames[rows] if self.protocol.pooled else None
        return np.average(self.curves[metric.name][rows], axis=0, weights=weights)

    def summary(self, chosen: list[str] | None = None) -> dict[str, float]:
        """Metric name -> percent, over the chosen sequences."""
        return {
            metric.name: 100 * float(metric.headline(self.curve(metric, chosen)))
            for metric in self.protocol.metrics
        }

    def per_sequence(self, metric: Metric) -> np.ndarray:
        """Return the metric of each sequence (S,), 0..1."""
        return metric.headline(self.curves[metric.name])


def frames_needed(truths: np.ndarray, protocol: Protocol) -> int:
    """How many boxes a result must have to be scored on all of the ground truth (G, N, 4)."""
    return (truths.shape[1] - 1) * protocol.every + 1


def score_sequence(
    boxes: np.ndarray, truths: np.ndarray, protocol: Protocol
) -> tuple[dict[str, np.ndarray], int]:
    """
    Metric name -> curve (T,), and the number of ground-truth rows that were compared.

    boxes: (N, 4). truths: (G, M, 4); rows with NaN are not annotated and never count. A result
    that already has only the annotated frames is taken as it is.
    """
    if len(boxes) > truths.shape[1]:
        boxes = boxes[:: protocol.every]
    length = min(len(boxes), truths.shape[1])
    # The toolkit computes in single precision, whose rounding decides on the many frames of
    # whole-pixel boxes that lie exactly on a threshold: 3/5 > 0.6 holds there.
    boxes, truths = boxes[:length].astype(np.float32), truths[:, :length].astype(np.float32)
    if protocol.first_given:
        boxes[0] = truths[0, 0]
    if protocol.repeat_invalid:
        valid = (boxes[:, 2:] > 0).all(1)
        boxes = boxes[np.maximum.accumulate(np.where(valid, np.arange(length), 0))]
    annotated = np.isfinite(truths).all((0, 2))
    boxes, truths = boxes[annotated], truths[:, annotated]
    curves = {}
    for metric in protocol.metrics:
        values = metric.best.reduce([metric.values(boxes, truth) for truth in truths])
        if protocol.absent == 'miss':
            values[~(truths > 0).all((0, 2))] = -1
        elif protocol.absent == 'left out' and metric is not SA:
            values = values[present(truths[0])]
        curves[metric.name] = curve(values, metric.thresholds, metric.passes)
    return curves, len(boxes)


def score_tracker(
    tracker: str,
    results: dict[str, np.ndarray],
    truths: dict[str, np.ndarray],
    protocol: Protocol,
) -> Scores:
    """Scores of results (sequence name -> boxes (N, 4)) against truths, which name them all."""
    scored = {
        name: score_sequence(boxes, truths[name], protocol) for name, boxes in results.items()
    }
    return Scores(
        tracker,
        protocol,
        list(scored),
        np.array([frames for _, frames in scored.values()]),
        {
            metric.name: np.stack([curves[metric.name] for curves, _ in scored.values()])
            for metric in protocol.metrics
        },
    )
