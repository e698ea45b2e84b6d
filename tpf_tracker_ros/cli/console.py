"""The page in the browser: options of it, `--console` and `--init ask`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import numpy as np
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.sequence import Sequence

ASK = 'ask'
INIT = (
    'X,Y,W,H px of the target in the first frame; ask: draw it in the browser. [the ground truth]'
)

console_option = click.option(
    '--console', 'show', is_flag=True,
    help='Serve a page that shows and steers it; play on until Ctrl-C.',
)  # fmt: skip


def address_options(command: Callable) -> Callable:
    """Where the page is served."""
    for option in (
        click.option(
            '--port', default=8321, show_default=True, type=click.IntRange(0, 65535),
            help='Of the page.',
        ),
        click.option(
            '--address', default='127.0.0.1', show_default=True,
            help='Of the page; any but this machine asks viewers for a token.',
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def target_of(
    init: str | None, sequence: Sequence, address: str, port: int
) -> tuple[int, np.ndarray | None]:
    """
    Return the number of the first frame and the box (4,) x, y, w, h px in it that --init says.

    None: the ground truth's. Raises TpfError.
    """
    if init != ASK:
        from tpf_tracker_ros.core.boxes import parse_box

        return 0, None if init is None else parse_box(init)
    _check_console()
    from tpf_tracker_ros.console.ask import ask_box

    return ask_box(sequence, click.echo, address=address, port=port)


@contextmanager
def console(show: bool, address: str, port: int) -> Iterator[dict[str, float]]:
    """
    Serve the page of the tracker that the block starts, where it is wanted.

    Gives the parameters that the tracker needs for it.
    """
    if not show:
        yield {}
        return
    _check_console()
    from tpf_tracker_ros.console.process import console_process, HISTORY_MB

    with console_process(address, port) as line:
        click.echo(f'{line}\nCtrl-C ends it')
        yield {'target_history_mb': HISTORY_MB}


def _check_console() -> None:
    """Raise TpfError with the cure where the page cannot be served."""
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise TpfError(
            "the page needs aiohttp; install it: pip install 'tpf_tracker_ros[console]'"
        ) from None
