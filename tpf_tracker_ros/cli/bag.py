"""Bags: looked into, made from sequences, the other way round."""

from pathlib import Path

import click
from tpf_tracker_ros.cli.words import examples


@click.group()
def bag() -> None:
    """Look into bags, make them from sequences, and the other way round."""


@bag.command(epilog=examples('tpf bag info flight.mcap'))
@click.argument('path', metavar='BAG', type=click.Path(path_type=Path))
def info(path: Path) -> None:
    """Show topics, rates and gaps, and which frames would be tracked as pairs."""
    from tpf_tracker_ros.bags.info import describe

    click.echo(describe(path))


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
@click.option(
    '--rgb-topic', help="Topic in a bag; '' leaves the camera out. [found by its pixels]"
)
@click.option(
    '--thermal-topic', help="Topic in a bag; '' leaves the camera out. [found by its pixels]"
)
@click.option('--thermal-offset-ms', default=0.0, help='Added to thermal stamps for pairing. [0]')
def export(
    path: Path,
    folder: Path,
    rgb_topic: str | None,
    thermal_topic: str | None,
    thermal_offset_ms: float,
) -> None:
    """Write a bag's frame pairs as a benchmark sequence's folder in LasHeR's layout."""
    from tpf_tracker_ros.bags.convert import sequence_to_folder
    from tpf_tracker_ros.bags.reader import BagSequence

    offset = round(thermal_offset_ms * 1e6)
    sequence = BagSequence(path, rgb_topic, thermal_topic, thermal_offset_ns=offset)
    sequence_to_folder(sequence, folder)
