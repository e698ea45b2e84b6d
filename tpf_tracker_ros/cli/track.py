"""Tracking: in files, live, as a demo."""

from pathlib import Path
from typing import Any

import click
from tpf_tracker_ros.cli.console import (
    address_options,
    console,
    console_option,
    INIT,
    target_of,
)
from tpf_tracker_ros.cli.words import (
    bag_options,
    checkpoint_option,
    device_option,
    examples,
    model_option,
    tracker_settings,
)
from tpf_tracker_ros.tracking.config import DEFAULT_MODEL


@click.command(
    epilog=examples(
        'tpf track flight.mcap --init 310,200,24,18 --out result --video result/boxes.mp4',
        'tpf track --thermal night.avi --init 365,150,40,30 --out result',
        'tpf track flight.mcap --init ask --out result    # draw the box in the browser',
    )
)
@click.argument('source', required=False, type=click.Path(path_type=Path))
@click.option('--rgb', type=click.Path(path_type=Path), help='Folder of images or video.')
@click.option('--thermal', type=click.Path(path_type=Path), help='Folder of images or video.')
@click.option('--init', help=INIT)
@click.option('--out', required=True, type=click.Path(path_type=Path), help='Folder of results.')
@model_option
@checkpoint_option
@device_option
@bag_options
@click.option('--homography', help='Nine numbers with commas, thermal px to rgb px. [registered]')
@click.option('--frames', type=click.IntRange(1), help='Stop after so many frames.')
@click.option('--video', type=click.Path(path_type=Path), help='Write an mp4 with the boxes.')
@click.option('--fused', type=click.Path(path_type=Path), help='Write the fused images here.')
@address_options
@tracker_settings
def track(
    source: Path | None,
    rgb: Path | None,
    thermal: Path | None,
    init: str | None,
    out: Path,
    model: str,
    checkpoint: Path | None,
    device: str,
    homography: str | None,
    frames: int | None,
    video: Path | None,
    fused: Path | None,
    address: str,
    port: int,
    settings: dict,
    **bag: Any,
) -> None:
    """
    Track in a bag, a benchmark sequence's folder, or folders of images and videos.

    One of --rgb and --thermal may be left out. Writes boxes.txt, scores.txt and track.json.
    """
    from tpf_tracker_ros.cli.source import open_source
    from tpf_tracker_ros.system.process import leave_cores

    leave_cores()
    from tpf_tracker_ros.tracking.load import load_tracker
    from tpf_tracker_ros.tracking.offline import track_to_files

    tracker = load_tracker(model, device=device, checkpoint=checkpoint, **settings)
    cameras = {'rgb': rgb, 'thermal': thermal, 'homography': homography, **bag}
    sequence = open_source(source, second=tracker.second, **cameras)
    first, box = target_of(init, sequence, address, port)
    report = track_to_files(
        tracker, sequence, box, out, first=first, frames=frames, video=video, fused=fused
    )
    states = ', '.join(f'{count} {state}' for state, count in report['states'].items())
    pace = f', {report["fps"]} frames/s' if report['fps'] else ''
    click.echo(f'{report["frames"]} frames{pace} ({states}): {out}')


@click.command(epilog=examples('tpf demo', 'tpf demo --model cmd_tiny --seed 7 --out demo_out'))
@click.option(
    '--out', default='demo_out', show_default=True, type=click.Path(path_type=Path),
    help='Folder of results.',
)  # fmt: skip
@click.option('--seed', default=0, show_default=True, type=click.IntRange(0), help='Of the film.')
@click.option('--model', default=DEFAULT_MODEL, show_default=True, help='With packaged weights.')
@console_option
@address_options
def demo(out: Path, seed: int, model: str, show: bool, address: str, port: int) -> None:
    """
    Track a car of the demo's film live over ROS 2, and report how well it went.

    Starts the node as its own process, replays the film to it in real time, records what it
    publishes; writes tracks.mcap, overlay.mp4, report.png and metrics.json.
    """
    from tpf_tracker_ros.ros.interfaces import ensure_vision_msgs

    ensure_vision_msgs()  # also says what to do when there is no ROS 2 at all
    from tpf_tracker_ros.bags.reader import BagSequence
    from tpf_tracker_ros.ros.replay.demo import demo_bag, replay_with_report

    film = BagSequence(demo_bag(seed, out))
    with console(show, address, port) as needed:
        parameters = {'model': model, **needed}
        report = replay_with_report(film, None, out, parameters=parameters, keep_playing=show)
    click.echo(report)


@click.command(
    epilog=examples(
        'tpf replay flight.mcap --init 310,200,24,18 --out result',
        'tpf replay flight.mcap --init ask --console --out result',
    )
)
@click.argument('bag', type=click.Path(path_type=Path))
@click.option('--init', help=INIT)
@click.option('--out', required=True, type=click.Path(path_type=Path), help='Folder of results.')
@model_option
@checkpoint_option
@device_option
@bag_options
@click.option(
    '--rate', default=1.0, show_default=True, type=click.FloatRange(0, min_open=True),
    help='Times as fast as recorded.',
)  # fmt: skip
@console_option
@address_options
@tracker_settings
def replay(
    bag: Path,
    init: str | None,
    out: Path,
    model: str,
    checkpoint: Path | None,
    device: str,
    rate: float,
    show: bool,
    address: str,
    port: int,
    settings: dict,
    rgb_topic: str | None,
    thermal_topic: str | None,
    **pairing: float | None,
) -> None:
    """
    Send a bag through the live node over ROS 2; needs no `ros2 bag`.

    Writes tracks.mcap, overlay.mp4, report.png and metrics.json.
    """
    from tpf_tracker_ros.ros.interfaces import ensure_vision_msgs

    ensure_vision_msgs()
    from tpf_tracker_ros.cli.source import open_bag
    from tpf_tracker_ros.ros.replay.demo import replay_with_report

    sequence = open_bag(bag, rgb_topic=rgb_topic, thermal_topic=thermal_topic, **pairing)
    first, box = target_of(init, sequence, address, port)
    parameters = {'model': model, 'device': device, 'checkpoint': str(checkpoint or '')}
    parameters |= {name: ms for name, ms in pairing.items() if ms is not None}
    parameters |= {f'tracker.{name}': value for name, value in settings.items()}
    with console(show, address, port) as needed:
        parameters |= needed
        report = replay_with_report(
            sequence, box, out, rate=rate, parameters=parameters, first=first, keep_playing=show
        )
    click.echo(report)
