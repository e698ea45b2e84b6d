"""Data sets: run a tracker over one, score results."""

from pathlib import Path

import click
from tpf_tracker_ros.cli.words import (
    checkpoint_option,
    device_option,
    examples,
    model_option,
    tracker_settings,
)

DATASETS = 'lasher, rgbt234, rgbt210, gtot, vtuav, antiuav'


@click.command(
    epilog=examples(
        'tpf run --dataset lasher --root LasHeR --model tpf_nano --out results/tpf_nano',
        'tpf run --dataset lasher --root /data/LasHeR --out results/tpf_nano --ray 10.0.0.5:6379',
    )
)
@click.option('--dataset', required=True, help=f'{DATASETS}, visevent, depthtrack.')
@click.option('--root', required=True, type=click.Path(path_type=Path), help='Of its sequences.')
@click.option('--out', required=True, type=click.Path(path_type=Path), help='Folder of results.')
@model_option
@checkpoint_option
@device_option
@click.option('--sequences', type=click.Path(path_type=Path), help='List of names. [all]')
@click.option('--processes', type=click.IntRange(1), help='On this machine. [1]')
@click.option('--ray', metavar='ADDRESS', help="Of a Ray cluster; 'local' makes one here.")
@tracker_settings
def run(
    dataset: str,
    root: Path,
    out: Path,
    model: str,
    checkpoint: Path | None,
    device: str,
    sequences: Path | None,
    processes: int | None,
    ray: str | None,
    settings: dict,
) -> None:
    """
    Track all sequences of a dataset; goes on where it stopped.

    Writes SEQUENCE.txt (x,y,w,h a frame) and SEQUENCE_time.txt (seconds a frame).
    """
    from functools import partial

    from tpf_tracker_ros.evaluation.cluster import run_on_cluster
    from tpf_tracker_ros.evaluation.runner import run_dataset
    from tpf_tracker_ros.system.process import leave_cores

    if ray and processes:
        raise click.UsageError('--processes are of this machine; --ray takes all that there are')
    if not ray and processes in (None, 1):
        leave_cores()
    from tpf_tracker_ros.tracking.load import load_tracker

    make_tracker = partial(load_tracker, model, **settings)
    if ray:
        done = run_on_cluster(
            make_tracker, dataset, root, out,
            address=ray, device=device, checkpoint=checkpoint, sequences=sequences,
        )  # fmt: skip
    else:
        make_here = partial(make_tracker, device=device, checkpoint=checkpoint)
        done = run_dataset(
            make_here, dataset, root, out, sequences=sequences, processes=processes or 1
        )
    click.echo(done)


@click.command(
    'eval',
    epilog=examples(
        'tpf eval results --dataset lasher --gt LasHeR --out report',
        'tpf eval boxes.txt --gt gt.txt',
    ),
)
@click.argument('results', nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option('--dataset', help=f'{DATASETS}. Needed unless RESULTS is a file.')
@click.option('--gt', required=True, type=click.Path(path_type=Path), help='Folder, or a file.')
@click.option('--tracker', help='Only this one; or the name of the one in RESULTS.')
@click.option('--sequences', type=click.Path(path_type=Path), help='List of names. [all of --gt]')
@click.option('--partial', is_flag=True, help='Leave out what is missing.')
@click.option('--out', type=click.Path(path_type=Path), help='Write a report into this folder.')
def evaluate(
    results: tuple[Path, ...],
    dataset: str | None,
    gt: Path,
    tracker: str | None,
    sequences: Path | None,
    partial: bool,
    out: Path | None,
) -> None:
    """
    Score results by a benchmark's own rules, in percent.

    RESULTS: folders of a tracker's result files, folders of such folders, or one file.
    """
    from tpf_tracker_ros.evaluation.evaluate import evaluate_file, evaluate_folders, summary_table

    if len(results) == 1 and results[0].is_file():
        evaluation = evaluate_file(results[0], dataset, gt)
    else:
        evaluation = evaluate_folders(
            results, dataset, gt, tracker=tracker, sequences=sequences, partial=partial
        )
    for gap in evaluation.gaps:
        click.echo(f'left out: {gap}', err=True)
    click.echo(summary_table(evaluation.scores))
    if out is not None:
        from tpf_tracker_ros.evaluation.report import write_report

        write_report(evaluation, out, images=gt)
        click.echo(f'report: {out / "report.html"}')
