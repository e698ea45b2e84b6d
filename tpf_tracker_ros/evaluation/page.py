"""
report.html: one page with tables, curves and pictures, to be mailed and opened anywhere.

Plots, thumbnails and the few lines of script that sort the tables are inside the page.
"""

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path

import cv2
from tpf_tracker_ros.evaluation.evaluate import Evaluation
from tpf_tracker_ros.evaluation.worst import find_images, picture, worst_frame

WORST = 8  # sequences shown
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { background: #f3f5f7; position: sticky; top: 0; }
th button { font: inherit; font-weight: 600; border: 0; background: none; cursor: pointer; }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
.note { color: #7a4a00; } .scroll { overflow-x: auto; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
.plots svg { width: 34rem; max-width: 100%; height: auto; }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figure img { width: 100%; } figcaption { font-size: .85rem; }
summary { cursor: pointer; font-weight: 600; }
@media print { body { max-width: none; } details > * { display: block; } }
"""
SCRIPT = """
for (const button of document.querySelectorAll('th button')) button.onclick = () => {
  const head = button.parentElement, table = head.closest('table'), body = table.tBodies[0];
  const column = head.cellIndex, down = head.getAttribute('aria-sort') !== 'descending';
  for (const other of table.querySelectorAll('th')) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const value = row => row.cells[column].textContent, number = row => parseFloat(value(row));
  const order = (a, b) => isNaN(number(a)) || isNaN(number(b)) || column === 0
    ? value(b).localeCompare(value(a)) : number(b) - number(a);
  body.append(...[...body.rows].sort((a, b) => down ? order(a, b) : order(b, a)));
};
"""


def page(evaluation: Evaluation, plots: list[str], images: Path | None) -> str:
    """Return the whole of report.html."""
    scores, metrics = evaluation.scores, evaluation.protocol.metrics
    ranking = [
        [score.tracker, *score.summary().values(), len(score.sequences), int(score.frames.sum())]
        for score in scores
    ]
    names = [metric.name for metric in metrics]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{escape(evaluation.dataset)}: tracking results</title><style>{STYLE}</style>',
        f'<h1>Tracking results on {escape(evaluation.dataset)}</h1>',
        f'<p>{len(evaluation.truths)} sequences. Rates in percent; click a heading to sort.</p>',
        *(f'<p class="note">Left out: {escape(gap)}</p>' for gap in evaluation.gaps),
        table(
            'ranking',
            ['tracker', *names, 'sequences', 'frames'],
            ranking,
            evaluation.curves[-1].name,
        ),
        '<h2>Curves</h2><div class="plots">',
        *(f'<div>{svg}</div>' for svg in plots),
        '</div>',
    ]
    if evaluation.attributes:
        parts += ['<h2>Attributes</h2>', *attribute_tables(evaluation)]
    parts += ['<h2>Worst sequences</h2>', *worst_sequences(evaluation, images)]
    parts += ['<h2>All sequences</h2>', sequence_table(evaluation)]
    return '\n'.join([*parts, f'<script>{SCRIPT}</script></html>'])


def table(name: str, header: list[str], rows: Iterable[list], ranked: str = '') -> str:
    """Make a sortable table, marked as sorted by column `ranked`; fractions have two decimals."""
    lines = []
    for row in rows:
        cells = (f'{value:.2f}' if isinstance(value, float) else str(value) for value in row)
        lines.append(f'<tr>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>')
    head = ''.join(
        f'<th{" aria-sort=descending" if title == ranked else ""}>'
        f'<button>{escape(title)}</button></th>'
        for title in header
    )
    return (
        f'<div class="scroll"><table id="{name}"><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(lines)}</tbody></table></div>'
    )


def attribute_tables(evaluation: Evaluation) -> list[str]:
    """Make a table for each metric with a curve: attributes by trackers; the ranking one open."""
    parts = []
    for metric in evaluation.curves:
        rows = [
            [key, len(names), *(score.summary(names)[metric.name] for score in evaluation.scores)]
            for key, names in evaluation.attributes.items()
            if names
        ]
        header = ['attribute', 'sequences', *(score.tracker for score in evaluation.scores)]
        shown = ' open' if metric is evaluation.curves[-1] else ''
        content = table(f'attributes-{metric.name}', header, rows)
        parts.append(f'<details{shown}><summary>{metric.title}</summary>{content}</details>')
    return parts


def sequence_table(evaluation: Evaluation) -> str:
    """Sequences by trackers: the metric that ranks."""
    metric = evaluation.curves[-1]
    columns = [
        dict(zip(score.sequences, 100 * score.per_sequence(metric))) for score in evaluation.scores
    ]
    rows = [
        [name, truths.shape[1], *(float(column.get(name, 'nan')) for column in columns)]
        for name, truths in evaluation.truths.items()
    ]
    header = ['sequence', 'frames', *(score.tracker for score in evaluation.scores)]
    return (
        f'<details><summary>{metric.title} of {len(rows)} sequences</summary>'
        f'{table("sequences", header, rows)}</details>'
    )


def worst_sequences(evaluation: Evaluation, images: Path | None) -> list[str]:
    """Tell what the best tracker is worst at, with a picture of the failure if there are any."""
    score, metric = evaluation.scores[0], evaluation.curves[-1]
    values = 100 * score.per_sequence(metric)
    folders = find_images(images, evaluation.dataset)
    parts = [f'<p>Where {escape(score.tracker)} has its lowest {metric.name}.</p>']
    parts.append('<div class="worst">')
    for i in values.argsort()[:WORST]:
        name = score.sequences[i]
        frame, overlaps = worst_frame(evaluation, score.tracker, name)
        lost = 100 * float((overlaps == 0).mean())
        text = f'{name}: {metric.name} {values[i]:.1f}, no overlap in {lost:.0f} % of the frames'
        image = ''
        if name in folders:
            drawn = picture(evaluation, score.tracker, name, folders[name], frame)
            data = base64.b64encode(cv2.imencode('.jpg', drawn[..., ::-1])[1]).decode()
            image = (
                f'<img alt="frame {frame} of {escape(name)}" src="data:image/jpeg;base64,{data}">'
            )
            text += f'; frame {frame}'
        parts.append(f'<figure>{image}<figcaption>{escape(text)}</figcaption></figure>')
    return [*parts, '</div>']
