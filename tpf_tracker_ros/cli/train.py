"""Training: one command a stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from tpf_tracker_ros.cli.words import examples


@click.group()
def train() -> None:
    """Train a model; a run that was interrupted goes on where it stopped."""


def _run_options(experiment: str) -> Callable[[Callable], Callable]:
    """Options of a stage's command: --config, by default this experiment, --out and --device."""
    config = click.option(
        '--config', type=click.Path(path_type=Path),
        default=Path(__file__).parents[1] / 'training' / 'experiments' / experiment,
        help=f'TOML file of the experiment. [experiments/{experiment} of the package]',
    )  # fmt: skip
    out = click.option(
        '--out', required=True, type=click.Path(path_type=Path), help='Folder of the run.'
    )
    device = click.option(
        '--device', default='auto', show_default=True, help='auto, cpu, cuda or cuda:N.'
    )
    stop = click.option(
        '--stop-after', type=click.FloatRange(min=0, min_open=True), metavar='MINUTES',
        help='Stop then with the state saved; the same command goes on.',
    )  # fmt: skip
    state = click.option(
        '--state', type=click.Path(path_type=Path),
        help='state.pt to go on from where --out holds none.',
    )  # fmt: skip
    return lambda command: config(out(device(stop(state(command)))))


def _run_stage(
    training: type,
    settings: type,
    *,
    config: Path,
    out: Path,
    device: str,
    stop_after: float | None,
    state: Path | None,
) -> None:
    import math

    from tpf_tracker_ros.engines.choose import choose_device
    from tpf_tracker_ros.training.config import read_config

    run = training(read_config(config, settings), out, device=choose_device(device))
    run.run(stop_after=stop_after or math.inf, state=state)


@train.command(
    'supervised',
    epilog=examples(
        'tpf train supervised --out runs/tpf_tiny',
        'tpf train supervised --config mine.toml --out runs/mine --device cuda',
    ),
)
@_run_options('tpf_tiny.toml')
def train_supervised(**options: Any) -> None:
    """
    Train on the synthetic RGB-T world with box and matching losses.

    Writes log.csv, state.pt to resume from, and the averaged weights as safetensors.
    """
    from tpf_tracker_ros.training.stages.supervised import SupervisedConfig, SupervisedTraining

    _run_stage(SupervisedTraining, SupervisedConfig, **options)


@train.command('mad', epilog=examples('tpf train mad --out runs/mad'))
@_run_options('mad.toml')
def train_mad(**options: Any) -> None:
    """
    Stage 1: teach the fusion adapter by several image-fusion experts.

    The weights it writes are what the next stage starts from: its init_weights.
    """
    from tpf_tracker_ros.training.stages.mad import MadConfig, MadTraining

    _run_stage(MadTraining, MadConfig, **options)


@train.command('drf', epilog=examples('tpf train drf --out runs/drf'))
@_run_options('drf.toml')
def train_drf(**options: Any) -> None:
    """
    Stage 2: train the tracker with decoupled features, from the weights of stage 1.

    What decouples them is folded away in the weights that it writes.
    """
    from tpf_tracker_ros.training.stages.drf import DrfConfig, DrfTraining

    _run_stage(DrfTraining, DrfConfig, **options)


@train.command('distil', epilog=examples('tpf train distil --out runs/tpf_tiny_distil'))
@_run_options('tpf_tiny_distil.toml')
def train_distil(**options: Any) -> None:
    """
    Train the tracker on painted and real images with a teacher's features.

    --config is an experiment in TOML; the default is tpf_tiny_distil.toml of the package.
    """
    from tpf_tracker_ros.training.stages.distil import DistilConfig, DistilTraining

    _run_stage(DistilTraining, DistilConfig, **options)


@train.command('pack', epilog=examples('tpf train pack train_pool runs/pack'))
@click.argument('source', type=click.Path(path_type=Path))
@click.argument('folder', type=click.Path(path_type=Path))
@click.option(
    '--teacher', default='tpf_tiny', show_default=True, help='Tracker that labels the road films.'
)
def train_pack(source: Path, folder: Path, teacher: str) -> None:
    """
    Pack real images for training into one small folder.

    An experiment names it as folder in [world.real]; docs/training.md says what SOURCE holds.
    """
    from tpf_tracker_ros.tracking.load import load_tracker
    from tpf_tracker_ros.training.samples.pack import make_pack

    tracker = load_tracker(teacher, device='cpu')
    written = make_pack(source, folder, lambda: tracker)
    click.echo(', '.join(f'{count} {name}' for name, count in written.items()))
