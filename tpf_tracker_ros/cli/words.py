"""What several commands say and ask alike."""

from collections.abc import Callable
from pathlib import Path

import click
from tpf_tracker_ros.tracking.config import DEFAULT_MODEL

model_option = click.option(
    '--model', default=DEFAULT_MODEL, show_default=True, help='See: tpf models.'
)
checkpoint_option = click.option(
    '--checkpoint', type=click.Path(path_type=Path), help='Weights. [the packaged ones]'
)
device_option = click.option(
    '--device', default='auto', show_default=True, help='auto, cpu, cuda or cuda:N.'
)


def examples(*lines: str) -> str:
    """Return an epilog that click leaves as it is."""
    return '\b\nExample:\n' + '\n'.join(f'  {line}' for line in lines)


def tracker_settings(command: Callable) -> Callable:
    """Give a command the option --set, whose values it gets as a dict: `settings`."""

    def parse(context: click.Context, option: click.Option, values: tuple[str, ...]) -> dict:
        from tpf_tracker_ros.tracking.config import parse_setting

        return dict(parse_setting(value) for value in values)

    return click.option(
        '--set', 'settings', multiple=True, metavar='NAME=VALUE', callback=parse,
        help='Setting of the tracker, more than once: policy=published, ndtu_interval=0, ...',
    )(command)  # fmt: skip


def bag_options(command: Callable) -> Callable:
    """Which topics of a bag are tracked, and how they are paired; the options of open_bag."""
    for option in (
        click.option(
            '--thermal-offset-ms', type=float, help='Added to thermal stamps for pairing. [0]'
        ),
        click.option(
            '--slop-ms', type=click.FloatRange(0), help='Most ms between paired images. [15]'
        ),
        *(
            click.option(
                f'--{camera}-topic',
                help="Topic in a bag; '' leaves the camera out. [found by its pixels]",
            )
            for camera in ('thermal', 'rgb')
        ),
    ):
        command = option(command)
    return command
