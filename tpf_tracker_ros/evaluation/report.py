"""What an evaluation leaves behind: metrics.json, per_sequence.csv, plots and report.html."""

import csv
import json
from pathlib import Path

from tpf_tracker_ros.core.files import writing
from tpf_tracker_ros.evaluation.evaluate import Evaluation
from tpf_tracker_ros.evaluation.page import page
from tpf_tracker_ros.evaluation.plots import draw_curves, draw_radar, save


def write_report(evaluation: Evaluation, out: Path, images: Path | None = None) -> None:
    """
    Write metrics.json, per_sequence.csv, plots (png, svg) and report.html into out.

    images: where sequences with images may lie, for the thumbnails of the worst ones.
    Raises TpfError when out cannot be written.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / 'metrics.json').write_text(json.dumps(metrics_by_tracker(evaluation), indent=1))
        write_per_sequence(evaluation, out / 'per_sequence.csv')
        plots = write_plots(evaluation, out)
        (out / 'report.html').write_text(page(evaluation, plots, images), encoding='utf-8')


def metrics_by_tracker(evaluation: Evaluation) -> dict[str, dict]:
    """Tracker -> metric -> percent, with the counts and the same by attribute."""
    return {
        score.tracker: {
            **score.summary(),
            'dataset': evaluation.dataset,
            'sequences': len(score.sequences),
            'frames': int(score.frames.sum()),
            'attributes': {
                key: score.summary(names)
                for key, names in evaluation.attributes.items()
                if set(names) & set(score.sequences)
            },
        }
        for score in evaluation.scores
    }


def write_per_sequence(evaluation: Evaluation, path: Path) -> None:
    """Write a csv line for each tracker and sequence, its metrics in 0..1."""
    metrics = evaluation.protocol.metrics
    with path.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['tracker', 'sequence', 'frames', *(metric.name for metric in metrics)])
        for score in evaluation.scores:
            columns = [[f'{v:.8f}' for v in score.per_sequence(metric)] for metric in metrics]
            for row in zip(score.sequences, score.frames, *columns):
                writer.writerow([score.tracker, *row])


def write_plots(evaluation: Evaluation, out: Path) -> list[str]:
    """Write a figure for each metric with a curve, and the radar; returns their svg."""
    figures = {}
    for metric in evaluation.curves:
        title = f'{metric.title} on {evaluation.dataset}'
        figures[metric.title] = draw_curves(evaluation.scores, metric, title)
    if evaluation.attributes:
        metric = evaluation.curves[-1]
        title = f'{metric.title} by attribute [%]'
        figures['Radar'] = draw_radar(evaluation.scores, metric, evaluation.attributes, title)
    svg = []
    for title, figure in figures.items():
        stem = out / title.lower().replace(' ', '_')
        save(figure, stem)
        text = stem.with_suffix('.svg').read_text()
        svg.append('<svg' + text.partition('<svg')[2])
    return svg
