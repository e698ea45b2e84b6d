"""The files an evaluation leaves, and the page as a browser without network shows it."""

import csv
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.evaluation.evaluate import evaluate_folders
from tpf_tracker_ros.evaluation.report import write_report

NAMES = 'car', 'girl`s', 'red<i>car'


@pytest.fixture(scope='module')
def report(tmp_path_factory, write_sequence, frames):
    """Return a report on two trackers with attributes and images; (folder, evaluation)."""
    tmp_path = tmp_path_factory.mktemp('report')
    _, truth = frames
    rng = np.random.default_rng(0)
    (tmp_path / 'AttriSeqsTxt').mkdir()
    for index, name in enumerate(NAMES):
        write_sequence(tmp_path / 'data', 'lasher', name)
        flags = ['1', str(index % 2), '1', *'0' * 16]
        (tmp_path / f'AttriSeqsTxt/{name}.txt').write_text(','.join(flags))
        for tracker, spread in (('Alpha', 25), ('Beta', 2)):
            folder = tmp_path / 'results' / tracker
            folder.mkdir(parents=True, exist_ok=True)
            boxes = truth + rng.normal(0, spread, (12, 1)) * [1, 1, 0, 0]
            np.savetxt(folder / f'{name}.txt', boxes, delimiter=',')
    evaluation = evaluate_folders([tmp_path / 'results'], 'lasher', tmp_path / 'data')
    write_report(evaluation, tmp_path / 'out', images=tmp_path / 'data')
    return tmp_path / 'out', evaluation


def test_files(report):
    out, evaluation = report
    metrics = json.loads((out / 'metrics.json').read_text())
    assert list(metrics) == ['Beta', 'Alpha']
    for score in evaluation.scores:
        written = metrics[score.tracker]
        assert {key: written[key] for key in ('PR', 'NPR', 'SR')} == score.summary()
        assert written['attributes']['PO'] == score.summary(['girl`s'])
    with (out / 'per_sequence.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['sequence'] for row in rows] == [*NAMES, *NAMES]
    metric = evaluation.protocol.metrics[0]
    assert [float(row['PR']) for row in rows[:3]] == pytest.approx(
        evaluation.scores[0].per_sequence(metric).tolist(), abs=1e-8
    )
    for stem in ('precision', 'normalised_precision', 'success', 'radar'):
        assert (out / f'{stem}.png').stat().st_size > 10_000
        assert '<svg' in (out / f'{stem}.svg').read_text()


def test_the_page_needs_nothing_from_outside(report):
    page = (report[0] / 'report.html').read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert 'red<i>car' not in page  # names are escaped
    assert page.count('<img') == 3


def test_a_place_that_cannot_be_written(report, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(TpfError, match='cannot write'):
        write_report(report[1], tmp_path / 'file' / 'out')


@pytest.fixture(scope='module')
def browser():
    for name in ('chromium', 'chromium-browser', 'google-chrome'):
        if shutil.which(name):
            return name
    pytest.skip('no Chromium is installed (apt-get install chromium)')


def shown(browser, page, tmp_path, script):
    """Return the page's document after the script has run in it, without network."""
    probe = tmp_path / 'probe.html'
    probe.write_text(page.read_text().replace('</html>', f'<script>{script}</script></html>'))
    flags = (
        *('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'),
        *('--disable-background-networking', '--disable-component-update', '--disable-sync'),
        *('--host-resolver-rules=MAP * ~NOTFOUND', f'--user-data-dir={tmp_path / "profile"}'),
    )
    command = [browser, *flags, '--dump-dom', probe.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_tables_sort_and_plots_appear_in_a_browser(report, browser, tmp_path):
    page = report[0] / 'report.html'
    script = """
    const names = () => [...document.querySelectorAll('#ranking tbody tr')].map(
      row => row.cells[0].textContent).join();
    const click = column => document.querySelectorAll('#ranking button')[column].click();
    const seen = [names()];
    for (const column of [3, 3, 0, 0]) { click(column); seen.push(names()); }
    const sizes = [...document.querySelectorAll('.plots svg, figure img')].map(
      image => image.getBoundingClientRect()).filter(box => box.width > 100 && box.height > 50);
    const loaded = performance.getEntriesByType('resource').filter(
      entry => !entry.name.startsWith('data:')).length;
    document.title = [...seen, sizes.length, loaded].join('|');
    """
    title = re.search('<title>(.*?)</title>', shown(browser, page, tmp_path, script))[1]
    *orders, visible, loaded = title.split('|')
    best, other = 'Beta,Alpha', 'Alpha,Beta'
    assert orders == [best, other, best, best, other]
    assert (visible, loaded) == ('7', '0')  # three curves, the radar, three thumbnails
