"""What several commands say and ask alike."""

from collections.abc import Callable

import click


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
