"""
Curves and attribute radar as matplotlib figures, for papers and for the report.

Okabe and Ito's colours with a line style for each, so that the lines are told apart by
colour-blind eyes and in black and white.
"""

from itertools import cycle
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
import numpy as np
from tpf_tracker_ros.evaluation.confidence import calibration_error, reliability
from tpf_tracker_ros.evaluation.protocol import Metric, Scores

COLOURS = '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000'
STYLES = '-', '--', '-.', ':', (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1))


def draw_curves(scores: list[Scores], metric: Metric, title: str) -> Figure:
    """
    Return the metric's curve of each tracker, the best first in the legend.

    A tracker has the same style in every plot of the same list of scores.
    """
    figure = Figure(figsize=(7, 4), layout='constrained')
    axes = figure.subplots()
    values = {score.tracker: score.summary()[metric.name] for score in scores}
    for score, style in zip(scores, line_styles()):
        label = f'{score.tracker} [{values[score.tracker]:.1f}]'
        axes.plot(metric.thresholds, 100 * score.curve(metric), label=label, lw=1.8, **style)
    axes.set(title=title, xlabel=metric.axis, ylabel=f'{metric.title.lower()} [%]', ylim=(0, 100))
    axes.margins(x=0)
    axes.grid(alpha=0.3)
    ranked = sorted(axes.lines, key=lambda line: -values[line.get_label().rsplit(' [', 1)[0]])
    figure.legend(handles=ranked, fontsize='small', loc='outside right upper')
    return figure


def draw_radar(
    scores: list[Scores], metric: Metric, attributes: dict[str, list[str]], title: str
) -> Figure:
    """Give the metric by attribute for each tracker; attributes without sequences are left out."""
    values = {
        score.tracker: [score.summary(names)[metric.name] for names in attributes.values()]
        for score in scores
    }
    keys = [i for i, column in enumerate(zip(*values.values())) if np.isfinite(column).all()]
    names = [list(attributes)[i] for i in keys]
    angles = np.linspace(0, 2 * np.pi, len(keys), endpoint=False)
    figure = Figure(figsize=(7, 5), layout='constrained')
    axes = figure.subplots(subplot_kw={'projection': 'polar'})
    for (tracker, row), style in zip(values.items(), line_styles()):
        closed = [row[i] for i in [*keys, *keys[:1]]]
        axes.plot([*angles, *angles[:1]], closed, label=tracker, lw=1.5, **style)
    axes.set_xticks(angles, names)
    axes.set_rlabel_position(0)
    axes.set_title(title)
    figure.legend(fontsize='small', loc='outside right upper')
    return figure


def draw_reliability(
    scores: dict[str, np.ndarray], right: dict[str, np.ndarray], title: str
) -> Figure:
    """
    Return the share of right boxes by score, for each tracker; below it how often a score occurs.

    scores: (N,) in 0..1 by tracker; right: bool (N,). On the diagonal a score is what it says.
    """
    figure = Figure(figsize=(5, 5), layout='constrained')
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color='grey', lw=1)
    for (name, values), style in zip(scores.items(), line_styles()):
        score, share, counts = reliability(values, right[name])
        error = calibration_error(values, right[name])
        upper.plot(score, share, marker='o', label=f'{name} [error {error:.3f}]', **style)
        lower.plot(score, counts / counts.sum(), **style)
    upper.set(title=title, ylabel='share of right boxes (IoU > 0.5)', ylim=(0, 1))
    lower.set(xlabel='score', ylabel='frames', xlim=(0, 1), ylim=(0, None))
    upper.legend(fontsize='small')
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure


def line_styles() -> cycle:
    """Colour and line style by rank; only after 49 trackers do two look the same."""
    return cycle(
        {'color': COLOURS[i % 7], 'linestyle': STYLES[(i + i // 7) % 7]} for i in range(49)
    )


def save(figure: Figure, stem: Path) -> None:
    """Write stem.png and stem.svg; text stays text, and the same figure gives the same bytes."""
    figure.savefig(stem.with_suffix('.png'), dpi=200)
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': stem.name}):
        figure.savefig(stem.with_suffix('.svg'), metadata={'Date': None})
