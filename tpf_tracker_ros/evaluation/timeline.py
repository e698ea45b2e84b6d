"""One picture of a run: IoU, score and latency over time."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

# Okabe and Ito's palette, as in core/drawing.py: told apart by colour-blind eyes and in print.
LINE, SECOND, DROPPED = '#0072B2', '#D55E00', '#000000'
BANDS = {'UNCERTAIN': '#E69F00', 'LOST': '#D55E00'}


def draw_timeline(
    path: Path,
    *,
    title: str,
    seconds: np.ndarray,
    iou: np.ndarray | None,
    score: np.ndarray,
    state: Sequence[str],
    latency_ms: np.ndarray,
    note: str,
) -> None:
    """
    Write a picture (format by the suffix) with one row each for IoU, score and latency.

    seconds, iou, score, latency_ms: float (N,), one value a frame pair; NaN in score and latency
    marks a dropped pair. iou: None where there is no ground truth. state: N state names.
    note: small print below the rows.
    """
    rows = 2 if iou is None else 3
    figure = Figure(figsize=(10, 1 + 2.2 * rows), layout='constrained')
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(rows, 1, sharex=True)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.margins(x=0.01)
    if iou is not None:
        axes[0].plot(seconds, iou, color=LINE, lw=1.2)
        axes[0].set(ylabel='IoU with ground truth', ylim=(0, 1.02))
    axes[-2].plot(seconds, score, '.-', color=LINE, lw=1.2, ms=3)
    axes[-2].set(ylabel='score', ylim=(0, 1.02))
    for name, colour in BANDS.items():
        inside = np.asarray(state) == name
        for axis in axes[:-1]:
            axis.fill_between(
                seconds, 0, 1, where=inside, step='mid', color=colour, alpha=0.3, lw=0,
                label=f'{name.lower()} in {inside.sum()} pairs',
            )  # fmt: skip
    _draw_latency(axes[-1], seconds, latency_ms)
    axes[-1].set(xlabel='time in the bag in s')
    for axis in axes[-2:]:  # above the row, where no data lies
        axis.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=3, fontsize=8, frameon=False)
    figure.supxlabel(note, fontsize=7, color='#444444')
    figure.savefig(path, dpi=120)


def _draw_latency(axis: Axes, seconds: np.ndarray, latency_ms: np.ndarray) -> None:
    dropped = np.isnan(latency_ms)
    axis.plot(seconds, latency_ms, '.', color=LINE, ms=3)
    if not dropped.all():
        for percent, style in (50, '-'), (95, '--'):
            value = np.nanpercentile(latency_ms, percent)
            label = f'p{percent} {value:.1f} ms'
            axis.axhline(value, color=SECOND, lw=1, ls=style, label=label)
    axis.set(ylabel='latency in ms')
    axis.set_ylim(0)
    label = f'{dropped.sum()} dropped pairs'
    at = seconds[dropped]
    axis.plot(at, 0 * at, '|', color=DROPPED, ms=8, clip_on=False, label=label)
