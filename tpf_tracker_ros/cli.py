"""
The command line `tpf` (also `python -m tpf_tracker_ros.cli`).

Each command is a few lines that call the rooms; imports stand inside the commands, so that
`--help` is quick and one command's missing extra does not stop another.
"""

from collections.abc import Callable
import logging
from pathlib import Path
import sys

import click
from tpf_tracker_ros import __version__
from tpf_tracker_ros.core.errors import TpfError

_DATASETS = 'lasher, rgbt234, rgbt210, gtot, vtuav or antiuav.'


def _examples(*lines: str) -> str:
    """Return an epilog that click leaves as it is."""
    return '\b\nExample:\n' + '\n'.join(f'  {line}' for line in lines)


@click.group(context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 99})
@click.version_option(__version__, prog_name='tpf')
def tpf() -> None:
    """Track one target in RGB and thermal images: live over ROS 2, from bags, from folders."""


@tpf.command(
    epilog=_examples(
        'tpf track flight.mcap --init 310,200,24,18 --out result --video result/boxes.mp4',
        'tpf track --thermal night.avi --init 365,150,40,30 --out result',
    )
)
@click.argument('source', required=False, type=click.Path(path_type=Path))
@click.option('--rgb', type=click.Path(path_type=Path), help='Folder of images or video.')
@click.option('--thermal', type=click.Path(path_type=Path), help='Folder of images or video.')
@click.option('--init', help='X,Y,W,H px of the target in the first frame. [the ground truth]')
@click.option('--out', required=True, type=click.Path(path_type=Path), help='Folder of results.')
@click.option('--model', default='tpf_tiny', show_default=True, help='See: tpf models.')
@click.option('--checkpoint', type=click.Path(path_type=Path), help='Weights. [the packaged ones]')
@click.option('--device', default='auto', show_default=True, help='auto, cpu, cuda or cuda:N.')
@click.option('--rgb-topic', help="Topic in a bag; '' leaves the camera out. [found by name]")
@click.option('--thermal-topic', help="Topic in a bag; '' leaves the camera out. [found by name]")
@click.option('--slop-ms', type=click.FloatRange(0), help='Most ms between paired images. [15]')
@click.option('--homography', help='Nine numbers with commas, thermal px to rgb px. [registered]')
@click.option('--frames', type=click.IntRange(1), help='Stop after so many frames.')
@click.option('--video', type=click.Path(path_type=Path), help='Write an mp4 with the boxes.')
@click.option('--fused', type=click.Path(path_type=Path), help='Write the fused images here.')
def track(
    source: Path | None,
    rgb: Path | None,
    thermal: Path | None,
    init: str | None,
    out: Path,
    model: str,
    checkpoint: Path | None,
    device: str,
    rgb_topic: str | None,
    thermal_topic: str | None,
    slop_ms: float | None,
    homography: str | None,
    frames: int | None,
    video: Path | None,
    fused: Path | None,
) -> None:
    """
    Track in a bag, a benchmark sequence's folder, or folders of images and videos.

    One of --rgb and --thermal may be left out. Writes boxes.txt, scores.txt and track.json.
    """
    from tpf_tracker_ros.core.boxes import parse_box
    from tpf_tracker_ros.evaluation.source import open_source
    from tpf_tracker_ros.tracking.load import load_tracker
    from tpf_tracker_ros.tracking.offline import track_to_files

    box = None if init is None else parse_box(init)
    sequence = open_source(
        source,
        rgb=rgb,
        thermal=thermal,
        rgb_topic=rgb_topic,
        thermal_topic=thermal_topic,
        slop_ms=slop_ms,
        homography=homography,
    )
    tracker = load_tracker(model, device=device, checkpoint=checkpoint)
    report = track_to_files(tracker, sequence, box, out, frames=frames, video=video, fused=fused)
    states = ', '.join(f'{count} {state}' for state, count in report['states'].items())
    pace = f', {report["fps"]} frames/s' if report['fps'] else ''
    click.echo(f'{report["frames"]} frames{pace} ({states}): {out}')


@tpf.command(epilog=_examples('tpf demo', 'tpf demo --seed 7 --out demo_out'))
@click.option(
    '--out', default='demo_out', show_default=True, type=click.Path(path_type=Path),
    help='Folder of results.',
)  # fmt: skip
@click.option('--seed', default=0, show_default=True, type=click.IntRange(0), help='Of the film.')
def demo(out: Path, seed: int) -> None:
    """
    Track a target of a synthetic film live over ROS 2, and report how well it went.

    Starts the node as its own process, replays the film to it in real time, records what it
    publishes; writes tracks.mcap, overlay.mp4, report.png and metrics.json.
    """
    from tpf_tracker_ros.ros.interfaces import ensure_vision_msgs

    ensure_vision_msgs()  # also says what to do when there is no ROS 2 at all
    from tpf_tracker_ros.ros.demo import replay_with_report, world_bag

    click.echo(replay_with_report(world_bag(seed, out), None, out))


@tpf.command(epilog=_examples('tpf replay flight.mcap --init 310,200,24,18 --out result'))
@click.argument('bag', type=click.Path(path_type=Path))
@click.option('--init', help='X,Y,W,H px of the target in the first pair. [the ground truth]')
@click.option('--out', required=True, type=click.Path(path_type=Path), help='Folder of results.')
@click.option('--model', default='tpf_tiny', show_default=True, help='See: tpf models.')
@click.option('--checkpoint', type=click.Path(path_type=Path), help='Weights. [the packaged ones]')
@click.option('--device', default='auto', show_default=True, help='auto, cpu, cuda or cuda:N.')
@click.option('--rgb-topic', help="Topic in the bag; '' leaves it out. [found by name]")
@click.option('--thermal-topic', help="Topic in the bag; '' leaves it out. [found by name]")
@click.option(
    '--rate', default=1.0, show_default=True, type=click.FloatRange(0, min_open=True),
    help='Times as fast as recorded.',
)  # fmt: skip
def replay(
    bag: Path,
    init: str | None,
    out: Path,
    model: str,
    checkpoint: Path | None,
    device: str,
    rgb_topic: str | None,
    thermal_topic: str | None,
    rate: float,
) -> None:
    """
    Send a bag through the live node over ROS 2; needs no `ros2 bag`.

    Writes tracks.mcap, overlay.mp4, report.png and metrics.json.
    """
    from tpf_tracker_ros.core.boxes import parse_box
    from tpf_tracker_ros.ros.interfaces import ensure_vision_msgs

    ensure_vision_msgs()
    from tpf_tracker_ros.ros.demo import replay_with_report

    box = None if init is None else parse_box(init)
    parameters = {'model': model, 'device': device, 'checkpoint': str(checkpoint or '')}
    click.echo(
        replay_with_report(
            bag, box, out,
            rgb_topic=rgb_topic, thermal_topic=thermal_topic, rate=rate, parameters=parameters,
        )
    )  # fmt: skip


@tpf.command()
def models() -> None:
    """List what can be loaded: parameters, and where the weights come from."""
    import torch
    from tpf_tracker_ros.models import create_model, list_models, packaged_weights

    for name, line in list_models().items():
        with torch.device('meta'):
            size = sum(parameter.numel() for parameter in create_model(name).parameters())
        weights = packaged_weights(name) or 'not packaged: tpf import-weights, then --checkpoint'
        click.echo(f'{name:10} {size / 1e6:5.1f} M parameters; {line}\n{"":10} weights: {weights}')


@tpf.command(epilog=_examples('tpf bench', 'tpf bench --model tpf_base --json base.json'))
@click.option('--model', default='tpf_tiny', show_default=True, help='See: tpf models.')
@click.option(
    '--checkpoint', type=click.Path(path_type=Path), help='Weights. [packaged or random]'
)
@click.option('--device', default='auto', show_default=True, help='auto, cpu, cuda or cuda:N.')
@click.option('--frames', type=click.IntRange(20), default=150, show_default=True)
@click.option('--json', 'json_file', type=click.Path(path_type=Path), help='Write all numbers.')
def bench(
    model: str, checkpoint: Path | None, device: str, frames: int, json_file: Path | None
) -> None:
    """Measure a step, image pair to box, of each engine beside the plain eager one."""
    import json

    from tpf_tracker_ros.core.files import write_file
    from tpf_tracker_ros.models import create_model, packaged_weights
    from tpf_tracker_ros.tracking import step_time
    from tpf_tracker_ros.tracking.engine import choose_device
    from tpf_tracker_ros.tracking.load import load_model
    from tpf_tracker_ros.training.world_sequence import WorldSequence

    trained = checkpoint or packaged_weights(model)
    network = load_model(model, checkpoint) if trained else create_model(model)
    sequence = WorldSequence(0, frames=frames)
    result = step_time.bench_model(model, network, choose_device(device), sequence)
    click.echo(step_time.table([result]))
    if json_file:
        write_file(json_file, json.dumps(result, indent=1).encode() + b'\n')


@tpf.command(
    'export',
    epilog=_examples(
        'tpf export --model tpf_tiny --out tiny_onnx',
        'tpf track flight.mcap --init 310,200,24,18 --out result --checkpoint tiny_onnx',
    ),
)
@click.option('--model', default='tpf_tiny', show_default=True, help='See: tpf models.')
@click.option('--checkpoint', type=click.Path(path_type=Path), help='Weights. [the packaged ones]')
@click.option(
    '--format', 'form', type=click.Choice(['onnx', 'torchscript']), default='onnx',
    show_default=True,
)  # fmt: skip
@click.option('--int8', is_flag=True, help='Quantize matrix products: smaller, less exact.')
@click.option('--frames', default=150, show_default=True, help='Length of the check.')
@click.option('--out', required=True, type=click.Path(path_type=Path), help='Folder to write.')
def export_model(
    model: str, checkpoint: Path | None, form: str, int8: bool, frames: int, out: Path
) -> None:
    """Export for CPUs, and check on a synthetic film that the boxes stay the same."""
    from tpf_tracker_ros.tracking import export
    from tpf_tracker_ros.tracking.load import load_model
    from tpf_tracker_ros.training.world_sequence import WorldSequence

    export.export_model(model, load_model(model, checkpoint), out, form=form, int8=int8)
    overlap = export.check_export(out, WorldSequence(0, frames=frames))
    click.echo(f'{out}: boxes agree with the plain path to a mean IoU of {overlap:.4f}')


@tpf.command(
    'import-weights',
    epilog=_examples(
        'tpf import-weights OSTrack_ep0300.pth.tar --model tpf_base --out weights.safetensors'
    ),
)
@click.argument('file', type=click.Path(path_type=Path))
@click.option('--model', default='tpf_base', show_default=True, help='See: tpf models.')
@click.option('--out', required=True, type=click.Path(path_type=Path), help='The .safetensors.')
def import_weights(file: Path, model: str, out: Path) -> None:
    """Convert a published OSTrack, DropMAE or DropTrack checkpoint; nothing in it is run."""
    from tpf_tracker_ros.models.import_weights import import_weights

    click.echo(import_weights(file, model, out))


@tpf.command(
    epilog=_examples(
        'tpf run --dataset lasher --root LasHeR --model tpf_tiny --out results/tpf_tiny'
    )
)
@click.option('--dataset', required=True, help=_DATASETS)
@click.option('--root', required=True, type=click.Path(path_type=Path), help='Of its sequences.')
@click.option('--out', required=True, type=click.Path(path_type=Path), help='Folder of results.')
@click.option('--model', default='tpf_tiny', show_default=True, help='See: tpf models.')
@click.option('--checkpoint', type=click.Path(path_type=Path), help='Weights. [the packaged ones]')
@click.option('--device', default='auto', show_default=True, help='auto, cpu, cuda or cuda:N.')
@click.option('--sequences', type=click.Path(path_type=Path), help='List of names. [all]')
@click.option('--processes', default=1, show_default=True, type=click.IntRange(1))
def run(
    dataset: str,
    root: Path,
    out: Path,
    model: str,
    checkpoint: Path | None,
    device: str,
    sequences: Path | None,
    processes: int,
) -> None:
    """
    Track all sequences of a dataset; goes on where it stopped.

    Writes SEQUENCE.txt (x,y,w,h a frame) and SEQUENCE_time.txt (seconds a frame).
    """
    from functools import partial

    from tpf_tracker_ros.evaluation.runner import run_dataset
    from tpf_tracker_ros.tracking.load import load_tracker

    make_tracker = partial(load_tracker, model, device=device, checkpoint=checkpoint)
    click.echo(
        run_dataset(make_tracker, dataset, root, out, sequences=sequences, processes=processes)
    )


@tpf.command(
    'eval',
    epilog=_examples(
        'tpf eval results --dataset lasher --gt LasHeR --out report',
        'tpf eval boxes.txt --gt gt.txt',
    ),
)
@click.argument('results', nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option('--dataset', help=f'{_DATASETS} Needed unless RESULTS is a file.')
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


@tpf.group()
def bag() -> None:
    """Look into bags, make them from sequences, and the other way round."""


@bag.command(epilog=_examples('tpf bag info flight.mcap'))
@click.argument('path', metavar='BAG', type=click.Path(path_type=Path))
def info(path: Path) -> None:
    """Show topics, rates and gaps, and which frames would be tracked as pairs."""
    from tpf_tracker_ros.bags.info import describe

    click.echo(describe(path))


@bag.command(epilog=_examples('tpf bag from-sequence LasHeR/testingset/leftgirl leftgirl.mcap'))
@click.argument('sequence', metavar='SEQ', type=click.Path(path_type=Path))
@click.argument('out', metavar='OUT.mcap', type=click.Path(path_type=Path))
@click.option('--compression', type=click.Choice(['jpeg', 'png']), help='Write CompressedImage.')
@click.option('--force', is_flag=True, help='Replace an existing file.')
def from_sequence(sequence: Path, out: Path, compression: str | None, force: bool) -> None:
    """Write a sequence's folder (or another bag) as a bag, with its ground truth."""
    from tpf_tracker_ros.bags.convert import sequence_to_bag
    from tpf_tracker_ros.evaluation.source import open_source

    sequence_to_bag(open_source(sequence), out, compression=compression, overwrite=force)


@bag.command(epilog=_examples('tpf bag export flight.mcap sequences/flight'))
@click.argument('path', metavar='BAG', type=click.Path(path_type=Path))
@click.argument('folder', metavar='DIR', type=click.Path(path_type=Path))
@click.option('--rgb-topic', help="Topic in a bag; '' leaves the camera out. [found by name]")
@click.option('--thermal-topic', help="Topic in a bag; '' leaves the camera out. [found by name]")
def export(path: Path, folder: Path, rgb_topic: str | None, thermal_topic: str | None) -> None:
    """Write a bag's frame pairs as a benchmark sequence's folder in LasHeR's layout."""
    from tpf_tracker_ros.bags.convert import sequence_to_folder
    from tpf_tracker_ros.bags.reader import BagSequence

    sequence_to_folder(BagSequence(path, rgb_topic, thermal_topic), folder)


@tpf.group()
def train() -> None:
    """Train a model; a run that was interrupted goes on where it stopped."""


def _run_options(experiment: str) -> Callable[[Callable], Callable]:
    """Options of a stage's command: --config, by default this experiment, --out and --device."""
    config = click.option(
        '--config', type=click.Path(path_type=Path),
        default=Path(__file__).parent / 'training' / 'experiments' / experiment,
        help=f'TOML file of the experiment. [experiments/{experiment} of the package]',
    )  # fmt: skip
    out = click.option(
        '--out', required=True, type=click.Path(path_type=Path), help='Folder of the run.'
    )
    device = click.option(
        '--device', default='auto', show_default=True, help='auto, cpu, cuda or cuda:N.'
    )
    return lambda command: config(out(device(command)))


def _run_stage(training: type, settings: type, config: Path, out: Path, device: str) -> None:
    from tpf_tracker_ros.tracking.engine import choose_device
    from tpf_tracker_ros.training.config import read_config

    training(read_config(config, settings), out, device=choose_device(device)).run()


@train.command(
    'supervised',
    epilog=_examples(
        'tpf train supervised --out runs/tpf_tiny',
        'tpf train supervised --config mine.toml --out runs/mine --device cuda',
    ),
)
@_run_options('tpf_tiny.toml')
def train_supervised(config: Path, out: Path, device: str) -> None:
    """
    Train on the synthetic RGB-T world with box and matching losses.

    Writes log.csv, state.pt to resume from, and the averaged weights as safetensors.
    """
    from tpf_tracker_ros.training.supervised import SupervisedConfig, SupervisedTraining

    _run_stage(SupervisedTraining, SupervisedConfig, config, out, device)


@train.command('mad', epilog=_examples('tpf train mad --out runs/mad'))
@_run_options('mad.toml')
def train_mad(config: Path, out: Path, device: str) -> None:
    """
    Stage 1: teach the fusion adapter by several image-fusion experts.

    The weights it writes are what the next stage starts from: its init_weights.
    """
    from tpf_tracker_ros.training.mad import MadConfig, MadTraining

    _run_stage(MadTraining, MadConfig, config, out, device)


@train.command('drf', epilog=_examples('tpf train drf --out runs/drf'))
@_run_options('drf.toml')
def train_drf(config: Path, out: Path, device: str) -> None:
    """
    Stage 2: train the tracker with decoupled features, from the weights of stage 1.

    What decouples them is folded away in the weights that it writes.
    """
    from tpf_tracker_ros.training.drf import DrfConfig, DrfTraining

    _run_stage(DrfTraining, DrfConfig, config, out, device)


def main() -> None:
    """Run `tpf`; whatever a user can put right ends as one line on stderr and exit code 1."""
    logging.basicConfig(level=logging.WARNING, format='note: %(message)s')
    try:
        tpf(standalone_mode=True)
    except (TpfError, OSError) as error:
        click.echo(f'error: {error}', err=True)
        sys.exit(1)


if __name__ == '__main__':
    main()
