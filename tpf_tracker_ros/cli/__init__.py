"""
The command line `tpf` (also `python -m tpf_tracker_ros.cli`).

Each command is a few lines that call the rooms; imports stand inside the commands, so that
`--help` is quick and one command's missing extra does not stop another.
"""

import logging
import sys

import click
from tpf_tracker_ros import __version__
from tpf_tracker_ros.cli.bag import bag
from tpf_tracker_ros.cli.evaluate import evaluate, run
from tpf_tracker_ros.cli.model import bench, export_model, import_weights, models
from tpf_tracker_ros.cli.track import demo, replay, track
from tpf_tracker_ros.cli.train import train
from tpf_tracker_ros.cli.words import examples
from tpf_tracker_ros.core.errors import import_fault, TpfError


@click.group(
    context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 99},
    epilog=examples(
        'tpf demo',
        'tpf track flight.mcap --init 310,200,24,18 --out result',
        'tpf track --help',
    ),
)
@click.version_option(__version__, prog_name='tpf')
def tpf() -> None:
    """Track one target in RGB and thermal images: live over ROS 2, from bags, from folders."""


for command in (
    track, demo, replay, models, bench, export_model, import_weights, run, evaluate, bag, train,
):  # fmt: skip
    tpf.add_command(command)


def main() -> None:
    """Run `tpf`; whatever a user can put right ends as one line on stderr and exit code 1."""
    logging.basicConfig(level=logging.WARNING, format='note: %(message)s')
    try:
        tpf(standalone_mode=True)
    except TpfError as error:
        fault = str(error)
    except OSError as error:
        fault = f'{error.filename}: {error.strerror}' if error.filename else str(error)
    except ImportError as error:
        fault = import_fault(error)
    click.echo(f'error: {fault}', err=True)
    sys.exit(1)
