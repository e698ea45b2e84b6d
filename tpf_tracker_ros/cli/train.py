"""Training: one command a registered stage."""

from collections.abc import Callable
import math
from pathlib import Path
from typing import Any

import click
from tpf_tracker_ros.cli.words import examples


class _Stages(click.Group):
    """Commands made from the registry; it is read only when one of them is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_stages(), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        entry = _stages().get(name)
        return _command(name, entry) if entry else super().get_command(ctx, name)


def _stages() -> dict[str, Any]:
    from tpf_tracker_ros.training.stages import list_stages

    return list_stages()


def _command(name: str, entry: Any) -> click.Command:
    """Make a stage's command: its docstring, its own options, and those that all have."""
    params = [
        click.Option(['--config'], type=click.Path(path_type=Path),
                     help=f'TOML file. [experiments/{entry.experiment}.toml of the package]'),
        click.Option(['--out'], required=True, type=click.Path(path_type=Path),
                     help='Folder of the run; one that was interrupted goes on.'),
        click.Option(['--device'], default='auto', show_default=True,
                     help='auto, cpu, cuda or cuda:N.'),
        click.Option(['--stop-after'], type=click.FloatRange(min=0, min_open=True),
                     metavar='MINUTES', help='Stop then, state saved; the same command goes on.'),
        click.Option(['--state'], type=click.Path(path_type=Path),
                     help='state.pt to go on from where --out holds none.'),
    ]  # fmt: skip
    for key, text in entry.options.items():
        params.append(click.Option([f'--{key.replace("_", "-")}', key], help=text))
    return click.Command(
        name,
        params=params,
        callback=_runner(entry),
        help=f'{entry.stage.__doc__}\nWrites log.csv, state.pt to resume from, and the averaged '
        'weights as safetensors.',
        epilog=examples(*entry.examples),
    )


def _runner(entry: Any) -> Callable[..., None]:
    def run(
        config: Path | None,
        out: Path,
        device: str,
        stop_after: float | None,
        state: Path | None,
        **own: str | None,
    ) -> None:
        from tpf_tracker_ros.engines.choose import choose_device
        from tpf_tracker_ros.training.config import read_config
        from tpf_tracker_ros.training.stage import EXPERIMENTS
        from tpf_tracker_ros.training.trainer import Trainer

        path = config or EXPERIMENTS / f'{entry.experiment}.toml'
        given = {key: value for key, value in own.items() if value is not None}
        settings = read_config(path, entry.config, given)
        trainer = Trainer(entry.stage, settings, out, device=choose_device(device))
        trainer.run(stop_after=stop_after or math.inf, state=state)

    return run


@click.group(cls=_Stages, epilog=examples('tpf train supervised --out runs/mine'))
def train() -> None:
    """Train a model; a run that was interrupted goes on where it stopped."""


@train.command('pack', epilog=examples('tpf train pack train_pool runs/pack'))
@click.argument('source', type=click.Path(path_type=Path))
@click.argument('folder', type=click.Path(path_type=Path))
@click.option(
    '--teacher', default='tpf_nano', show_default=True, help='Tracker that labels the road films.'
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
