"""Bags: looked into, made from sequences, the other way round."""

from functools import partial
from pathlib import Path
from typing import Any

import click
from tpf_tracker_ros.cli.words import bag_options, examples


@click.group(epilog=examples('tpf bag info flight.mcap'))
def bag() -> None:
    """Look into bags, make them from sequences, and the other way round."""


@bag.command(epilog=examples('tpf bag info flight.mcap'))
@click.argument('path', metavar='BAG', type=click.Path(path_type=Path))
@bag_options
def info(path: Path, **options: Any) -> None:
    """Show topics, rates and gaps, and which frames would be tracked as pairs."""
    from tpf_tracker_ros.bags.info import describe
    from tpf_tracker_ros.cli.source import open_bag

    click.echo(describe(path, partial(open_bag, **options)))


@bag.command(epilog=examples('tpf bag from-sequence LasHeR/testingset/leftgirl leftgirl.mcap'))
@click.argument('sequence', metavar='SEQ', type=click.Path(path_type=Path))
@click.argument('out', metavar='OUT.mcap', type=click.Path(path_type=Path))
@click.option('--compression', type=click.Choice(['jpeg', 'png']), help='Write CompressedImage.')
@click.option('--force', is_flag=True, help='Replace an existing file.')
def from_sequence(sequence: Path, out: Path, compression: str | None, force: bool) -> None:
    """Write a sequence's folder (or another bag) as a bag, with its ground truth."""
    from tpf_tracker_ros.bags.convert import sequence_to_bag
    from tpf_tracker_ros.cli.source import open_source

    sequence_to_bag(open_source(sequence), out, compression=compression, overwrite=force)


@bag.command(epilog=examples('tpf bag export flight.mcap sequences/flight'))
@click.argument('path', metavar='BAG', type=click.Path(path_type=Path))
@click.argument('folder', metavar='DIR', type=click.Path(path_type=Path))
@bag_options
def export(path: Path, folder: Path, **options: Any) -> None:
    """Write a bag's frame pairs as a benchmark sequence's folder in LasHeR's layout."""
    from tpf_tracker_ros.bags.convert import sequence_to_folder
    from tpf_tracker_ros.cli.source import open_bag

    sequence_to_folder(open_bag(path, **options), folder)
