"""Whatever a user names on the command line, as a sequence."""

from pathlib import Path

from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.bags.storage import bag_files
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.pairing import pairing_settings
from tpf_tracker_ros.core.registration import register_by
from tpf_tracker_ros.core.sequence import Sequence
from tpf_tracker_ros.data.datasets import open_sequence
from tpf_tracker_ros.data.media import MediaSequence


def open_source(
    source: Path | None,
    *,
    rgb: Path | None = None,
    thermal: Path | None = None,
    rgb_topic: str | None = None,
    thermal_topic: str | None = None,
    homography: str | None = None,
    slop_ms: float | None = None,
    thermal_offset_ms: float | None = None,
    second: str = 'thermal',
) -> Sequence:
    """
    Open a bag, a benchmark sequence's folder, or (source None) folders of images and videos.

    Topics are for bags; slop_ms, the largest time between the images of a pair, for bags and
    videos; thermal_offset_ms is added to the stamps of thermal images: see BagSequence and
    MediaSequence. homography: nine numbers with commas, thermal px to RGB px, row by row. second:
    what the other camera gives where no layout says so, see TrackingNetwork.
    Raises TpfError on what is none of these.
    """
    register = None if homography is None else register_by(_numbers(homography))
    given = {'slop_ms': slop_ms, 'thermal_offset_ms': thermal_offset_ms}
    pairing = pairing_settings({name: ms for name, ms in given.items() if ms is not None})
    if source is None:
        return MediaSequence(rgb, thermal, register=register, second=second, **pairing)
    if rgb is not None or thermal is not None:
        raise TpfError(f'give either {source} or --rgb and --thermal, not both')
    if not source.exists():
        raise TpfError(f'{source} does not exist')
    if bag_files(source):
        return BagSequence(
            source, rgb_topic, thermal_topic, register=register, second=second, **pairing
        )
    if rgb_topic is not None or thermal_topic is not None:
        raise TpfError(f'{source} is no bag, so it has no topics')
    if source.is_dir():
        return open_sequence(source)
    raise TpfError(
        f'{source} is neither a bag nor a sequence folder; '
        'videos and image folders are given with --rgb and --thermal'
    )


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(',')]
    except ValueError:
        raise TpfError(f'homography {text!r} is not nine numbers with commas between') from None
