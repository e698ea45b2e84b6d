"""Whatever a user names on the command line, as a sequence."""

from pathlib import Path

from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.bags.storage import bag_files
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.pairing import pairing_settings
from tpf_tracker_ros.core.registration import Register, register_by
from tpf_tracker_ros.core.sequence import Sequence
from tpf_tracker_ros.data.datasets import open_sequence
from tpf_tracker_ros.data.media import MediaSequence


def open_source(
    source: Path | None,
    *,
    rgb: Path | None = None,
    thermal: Path | None = None,
    homography: str | None = None,
    second: str = 'thermal',
    rgb_topic: str | None = None,
    thermal_topic: str | None = None,
    **pairing: float | None,
) -> Sequence:
    """
    Open a bag, a benchmark sequence's folder, or (source None) folders of images and videos.

    homography: nine numbers with commas, thermal px to RGB px, row by row. second: what the
    tracker takes of the other camera, see TrackingNetwork; 'thermal': the grey of whatever a
    sequence's folder has. Topics are for bags; pairing, see open_bag, for bags and videos.
    Raises TpfError on what is none of these, and on what does not go together.
    """
    register = None if homography is None else register_by(_numbers(homography))
    given = {'register': register, 'second': second}
    if source is None:
        _check_pairing(pairing, rgb, thermal)
        return MediaSequence(rgb, thermal, **given, **_nanoseconds(pairing))
    if rgb is not None or thermal is not None:
        raise TpfError(f'give either {source} or --rgb and --thermal, not both')
    if not source.exists():
        raise TpfError(f'{source} does not exist')
    if bag_files(source):
        topics = {'rgb_topic': rgb_topic, 'thermal_topic': thermal_topic}
        return open_bag(source, **topics, **given, **pairing)
    if rgb_topic is not None or thermal_topic is not None:
        raise TpfError(f'{source} is no bag, so it has no topics')
    if source.is_dir():
        _check_pairing(pairing, source)
        if register:
            raise TpfError(
                f'{source} is a sequence folder, whose images count as registered; for '
                '--homography give the folders in it by --rgb and --thermal'
            )
        sequence = open_sequence(source)
        if second not in ('thermal', sequence.second):
            raise TpfError(
                f'{source} pairs RGB with {sequence.second}, but the model takes {second}; '
                'take another model, or give its folders by --rgb and --thermal'
            )
        return sequence
    raise TpfError(
        f'{source} is neither a bag nor a sequence folder; '
        'videos and image folders are given with --rgb and --thermal'
    )


def open_bag(
    path: Path,
    *,
    rgb_topic: str | None,
    thermal_topic: str | None,
    register: Register | None = None,
    second: str = 'thermal',
    **pairing: float | None,
) -> BagSequence:
    """
    Open a bag with what bag_options give; register, second: see BagSequence.

    pairing: slop_ms, the largest time between the images of a pair, and thermal_offset_ms, added
    to the stamps of thermal images; None: the default. Raises TpfError.
    """
    given = {'register': register, 'second': second, **_nanoseconds(pairing)}
    return BagSequence(path, rgb_topic, thermal_topic, **given)


def _check_pairing(pairing: dict[str, float | None], *paths: Path | None) -> None:
    """Raise TpfError where images in a folder were to be paired by times."""
    for path in paths:
        if path and path.is_dir() and _nanoseconds(pairing):
            raise TpfError(
                f'the images in {path} go by the numbers in their names; leave out --slop-ms and '
                '--thermal-offset-ms, which are for bags and videos'
            )


def _nanoseconds(pairing: dict[str, float | None]) -> dict[str, int]:
    return pairing_settings({name: ms for name, ms in pairing.items() if ms is not None})


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(',')]
    except ValueError:
        raise TpfError(f'homography {text!r} is not nine numbers with commas between') from None
