"""Whatever a user names on the command line, as a sequence."""

from pathlib import Path

from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.bags.storage import bag_files
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.evaluation.datasets import open_sequence
from tpf_tracker_ros.evaluation.media import MediaSequence
from tpf_tracker_ros.evaluation.sequence import Sequence


def open_source(
    source: Path | None,
    *,
    rgb: Path | None = None,
    thermal: Path | None = None,
    rgb_topic: str | None = None,
    thermal_topic: str | None = None,
) -> Sequence:
    """A bag, a benchmark sequence's folder, or (source None) folders of images and videos.

    Topics are for bags: see BagSequence. Raises TpfError on what is none of these.
    """
    if source is None:
        return MediaSequence(rgb, thermal)
    if rgb is not None or thermal is not None:
        raise TpfError(f'give either {source} or --rgb and --thermal, not both')
    if not source.exists():
        raise TpfError(f'{source} does not exist')
    if bag_files(source):
        return BagSequence(source, rgb_topic, thermal_topic)
    if rgb_topic is not None or thermal_topic is not None:
        raise TpfError(f'{source} is no bag, so it has no topics')
    if source.is_dir():
        return open_sequence(source)
    raise TpfError(
        f'{source} is neither a bag nor a sequence folder; '
        'videos and image folders are given with --rgb and --thermal'
    )
