"""A bag as a sequence of frame pairs, paired exactly as the live node pairs them."""

from collections.abc import Iterator
import logging
from pathlib import Path
import re
from statistics import median

import numpy as np
from tpf_tracker_ros.bags.cameras import find_topics
from tpf_tracker_ros.bags.storage import Bag, Message
from tpf_tracker_ros.bags.typestore import box_of
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.image_encoding import DECODERS
from tpf_tracker_ros.core.pairing import FramePairer, Paired
from tpf_tracker_ros.core.registration import Register

BOXES_KIND = 'vision_msgs/msg/Detection2DArray'

CLOCKS_NS = 250_000_000  # cameras are not slower than that from the picture to the recorder

LOST_SHARE = 0.1  # frames without a partner that are not worth a word

log = logging.getLogger(__name__)


class BagSequence:
    """
    The frame pairs of a recording; a Sequence.

    rgb_topic, thermal_topic: found by type, pixels and name where None, see find_topics; ''
    leaves that camera out. A bag with one camera gives pairs of one image, and a warning says so.
    register: brings thermal images onto the RGB grid; None where they lie on it already.
    second: what the thermal topic shows, as TrackingNetwork.second says it.
    pairing: settings of FramePairer (slop_ns, rgb_offset_ns, …); kept under that name.

    The bag is read once to pair its stamps and again by each iteration, one pair at a time.
    Frames after a backward jump of time are left out, since the node stops tracking there.
    topics: {'rgb': name, 'thermal': name}, of those that are there; why: the reason for each.
    stamps, skews: ns. clock_offset: ns by which thermal stamps run ahead of RGB ones when both
    are compared with the times of recording; None with one camera.
    Raises TpfError on a bag without images, unknown or ambiguous topics, two cameras that never
    pair, and undecodable images.
    """

    def __init__(
        self,
        path: Path | str,
        rgb_topic: str | None = None,
        thermal_topic: str | None = None,
        *,
        register: Register | None = None,
        second: str = 'thermal',
        **pairing: int,
    ) -> None:
        self.bag = Bag(path)
        self.name = self.bag.path.name.split('.')[0]
        self.why = find_topics(self.bag, {'rgb': rgb_topic, 'thermal': thermal_topic})
        self.topics = {camera: topic for camera, (topic, _) in self.why.items()}
        self.pairing = pairing
        self._register = register
        self._decoders = {'rgb': DECODERS['rgb'], 'thermal': DECODERS[second]}
        self.pairer = FramePairer(mode='+'.join(self.topics), **pairing)
        early = {camera: [] for camera in self.topics}  # stamps before times of recording
        pairs = [(pair.stamp, pair.skew) for pair in self._paired(self.pairer, early)]
        self.stamps = [stamp for stamp, _ in pairs]
        self.skews = [skew for _, skew in pairs if skew is not None]
        self.clock_offset = None
        if len(early) == 2 and all(early.values()):
            self.clock_offset = round(median(early['thermal']) - median(early['rgb']))
        self._check_pairs()
        self.ground_truth = self._ground_truth()

    def __len__(self) -> int:
        return len(self.stamps)

    def __iter__(self) -> Iterator[FramePair]:
        size = None
        for pair in self._paired(FramePairer(mode='+'.join(self.topics), **self.pairing)):
            rgb, thermal = self._image('rgb', pair.rgb), self._image('thermal', pair.thermal)
            if rgb is not None:
                size = rgb.shape[1::-1]
            if thermal is not None and self._register:
                thermal = self._register(thermal, size)
            yield FramePair(rgb, thermal, pair.stamp)

    def _paired(
        self, pairer: FramePairer, early: dict[str, list[int]] | None = None
    ) -> Iterator[Paired]:
        cameras = {topic: camera for camera, topic in self.topics.items()}
        for message in self.bag.messages(cameras):
            camera, stamp = cameras[message.topic], self.bag.stamp(message)
            if early is not None:
                offset = self.pairing.get(f'{camera}_offset_ns', 0)
                early[camera].append(stamp + offset - message.time)
            pairs = pairer.add(camera, stamp, message)
            if pairer.epoch:
                log.warning(
                    '%s: time jumps back at %d ns; read up to there', self.bag.path, message.time
                )
                return
            yield from pairs
        yield from pairer.flush()

    def _check_pairs(self) -> None:
        """Refuse two cameras that never pair, and say what else the stamps tell."""
        pairer, slop = self.pairer, f'{self.pairer.slop_ns / 1e6:g} ms'
        cure = ''
        if self.clock_offset is not None and abs(self.clock_offset) > CLOCKS_NS:
            relation = 'ahead of' if self.clock_offset > 0 else 'behind'
            offset = self.pairing.get('thermal_offset_ns', 0) - self.clock_offset
            cure = (
                f'thermal stamps are {abs(self.clock_offset) / 1e9:.3f} s {relation} rgb stamps, '
                f'by the times of recording; if the cameras run by different clocks, give '
                f'--thermal-offset-ms {offset / 1e6:.0f} (parameter thermal_offset_ms)'
            )
        if not self.stamps or (len(self.topics) == 2 and not pairer.paired):
            topics = ' and '.join(self.topics.values())
            alone = "to track with one camera: --thermal-topic '' (parameter mode)"
            raise TpfError(
                f'{self.bag.path}: no frames of {topics} are within {slop} of each other'
                + f': {cure or self._apart()}'
                + (f'; {alone}' if len(self.topics) == 2 else '')
            )
        if cure:
            log.warning('%s: %s', self.bag.path, cure)
        lost = sum(pairer.unpaired.values()) + pairer.single
        if len(self.topics) == 2 and lost > LOST_SHARE * (lost + 2 * pairer.paired):
            log.warning(
                '%s: %d pairs within %s, %d frames of one camera alone, %s left out',
                *(self.bag.path, pairer.paired, slop, pairer.single),
                ' and '.join(f'{count} {camera}' for camera, count in pairer.unpaired.items()),
            )
        if pairer.warning:
            log.warning('%s: %s', self.bag.path, pairer.warning)

    def _apart(self) -> str:
        """Say how far apart the frames of two cameras by one clock are, with the cure."""
        apart = self.pairer.distance_ns
        if apart is None:
            return f'there are too few of them to say more; see: tpf bag info {self.bag.path}'
        offset = (self.pairing.get('thermal_offset_ns', 0) - apart) / 1e6
        return (
            f'the nearest are {abs(apart) / 1e6:.1f} ms apart; if one camera is that late, give '
            f'--thermal-offset-ms {offset:.0f} (parameter thermal_offset_ms), else a wider slop '
            '(--slop-ms, parameter slop_ms)'
        )

    def _image(self, camera: str, message: Message | None) -> np.ndarray | None:
        if message is None:
            return None
        try:
            return self._decoders[camera](self.bag.decode(message))
        except TpfError as error:
            raise TpfError(
                f'{self.bag.path}, {message.topic} at {message.time} ns: {error}'
            ) from error

    def _ground_truth(self) -> np.ndarray | None:
        """float64 (N, 4) from a topic of boxes that is called ground truth."""
        topics = [
            name
            for name, topic in self.bag.topics.items()
            if topic.kind == BOXES_KIND and re.search('ground_?truth', name)
        ]
        if not topics:
            return None
        boxes = {}
        for message in self.bag.messages(topics[:1]):
            detections = self.bag.decode(message).detections
            if detections:
                boxes[self.bag.stamp(message)] = box_of(detections[0])
        absent = np.full(4, np.nan)
        return np.array([boxes.get(stamp, absent) for stamp in self.stamps])
