"""A bag as a sequence of frame pairs, paired exactly as the live node pairs them."""

from collections.abc import Iterator
import logging
from pathlib import Path
import re

import numpy as np
from tpf_tracker_ros.bags.storage import Bag, Message
from tpf_tracker_ros.bags.typestore import box_of
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.image_encoding import decode_rgb, decode_thermal
from tpf_tracker_ros.core.pairing import FramePairer, Paired
from tpf_tracker_ros.core.registration import Register

IMAGE_KINDS = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
BOXES_KIND = 'vision_msgs/msg/Detection2DArray'
COMPRESSED = '/compressed'
DECODERS = {'rgb': decode_rgb, 'thermal': decode_thermal}

# Words of a topic's name, by camera.
WORDS = {
    'rgb': {'rgb', 'color', 'colour', 'visible', 'vis', 'eo'},
    'thermal': {'thermal', 'ir', 'infrared', 'lwir', 'mwir', 'flir', 'boson', 'lepton', 'tau'},
}
# Pictures that no camera took, among them our own.
DERIVED = re.compile('depth|disparity|mask|overlay|fused|segment|heatmap|debug')
DEEP = ('mono16', '16UC1', '32FC1')
GREY = ('mono8', '8UC1')

log = logging.getLogger(__name__)


class BagSequence:
    """
    The frame pairs of a recording; a Sequence.

    rgb_topic, thermal_topic: found by type, name and encoding where None; '' leaves that camera
    out. A bag with one camera gives pairs of one image, and a warning says so.
    register: brings thermal images onto the RGB grid; None where they lie on it already.
    pairing: settings of FramePairer (slop_ns, rgb_offset_ns, …).

    The bag is read once to pair its stamps and again by each iteration, one pair at a time.
    Frames after a backward jump of time are left out, since the node stops tracking there.
    topics: {'rgb': name, 'thermal': name}, of those that are there. stamps, skews: ns.
    Raises TpfError on a bag without images, unknown or ambiguous topics, undecodable images.
    """

    def __init__(
        self,
        path: Path | str,
        rgb_topic: str | None = None,
        thermal_topic: str | None = None,
        *,
        register: Register | None = None,
        **pairing: int,
    ) -> None:
        self.bag = Bag(path)
        self.name = self.bag.path.name.split('.')[0]
        self.topics = find_topics(self.bag, {'rgb': rgb_topic, 'thermal': thermal_topic})
        self._pairing = pairing
        self._register = register
        self.pairer = FramePairer(mode='+'.join(self.topics), **pairing)
        pairs = [(pair.stamp, pair.skew) for pair in self._paired(self.pairer)]
        self.stamps = [stamp for stamp, _ in pairs]
        self.skews = [skew for _, skew in pairs if skew is not None]
        if not self.stamps:
            raise TpfError(
                f'{path}: no frames of {" and ".join(self.topics.values())} are within '
                f'{self.pairer.slop_ns / 1e6:g} ms of each other; see: tpf bag info {path}'
            )
        if self.pairer.warning:
            log.warning('%s: %s', path, self.pairer.warning)
        self.ground_truth = self._ground_truth()

    def __len__(self) -> int:
        return len(self.stamps)

    def __iter__(self) -> Iterator[FramePair]:
        size = None
        for pair in self._paired(FramePairer(mode='+'.join(self.topics), **self._pairing)):
            rgb, thermal = self._image('rgb', pair.rgb), self._image('thermal', pair.thermal)
            if rgb is not None:
                size = rgb.shape[1::-1]
            if thermal is not None and size and self._register:
                thermal = self._register(thermal, size)
            yield FramePair(rgb, thermal, pair.stamp)

    def _paired(self, pairer: FramePairer) -> Iterator[Paired]:
        cameras = {topic: camera for camera, topic in self.topics.items()}
        for message in self.bag.messages(cameras):
            pairs = pairer.add(cameras[message.topic], self.bag.stamp(message), message)
            if pairer.epoch:
                log.warning(
                    '%s: time jumps back at %d ns; read up to there', self.bag.path, message.time
                )
                return
            yield from pairs
        yield from pairer.flush()

    def _image(self, camera: str, message: Message | None) -> np.ndarray | None:
        if message is None:
            return None
        try:
            return DECODERS[camera](self.bag.decode(message))
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


def find_topics(bag: Bag, given: dict[str, str | None]) -> dict[str, str]:
    """
    Return the topic of each camera that is there: by what was given, by name, then by encoding.

    given: {'rgb': …, 'thermal': …}, each a topic, None to search, or '' to leave it out.
    Raises TpfError, naming the topics that there are.
    """
    images = {
        name: topic.kind
        for name, topic in bag.topics.items()
        if topic.kind in IMAGE_KINDS and topic.count
    }
    if not images:
        there = ', '.join(f'{name} ({topic.kind})' for name, topic in bag.topics.items())
        raise TpfError(f'{bag.path} has no images; its topics: {there or "none"}')
    found = {camera: _given_topic(bag, topic, images) for camera, topic in given.items() if topic}
    searched = [camera for camera, topic in given.items() if topic is None]
    given_bases = {topic.removesuffix(COMPRESSED) for topic in found.values()}
    free = [
        name
        for name in images
        if not DERIVED.search(name.lower())
        and (base := name.removesuffix(COMPRESSED)) not in given_bases
        and (name == base or base not in images)
    ]
    for camera in searched:
        named = [name for name in free if WORDS[camera] & _words(name)]
        if named:
            found[camera] = _only(bag, camera, named)
            free.remove(found[camera])
    unnamed = [name for name in free if not any(words & _words(name) for words in WORDS.values())]
    for camera in searched:
        kinds = {name: _camera_by_encoding(bag, name) for name in unnamed}
        fitting = [name for name in unnamed if kinds[name] in (camera, None)]
        if camera not in found and fitting:
            found[camera] = _only(bag, camera, fitting)
            unnamed.remove(found[camera])
    if not found:
        raise TpfError(
            f'{bag.path} has no camera images; choose from its image topics with --rgb-topic or '
            f'--thermal-topic: {", ".join(images)}'
        )
    for camera in searched:
        if camera not in found:
            log.warning('%s has no %s images: tracking with one camera', bag.path, camera)
    return {camera: found[camera] for camera in DECODERS if camera in found}


def _given_topic(bag: Bag, topic: str, images: dict[str, str]) -> str:
    for name in topic, topic + COMPRESSED:
        if name in images:
            return name
    if topic in bag.topics:
        there = bag.topics[topic]
        fault = f'{topic} of {bag.path} is {there.kind} with {there.count} messages, no images'
    else:
        fault = f'{bag.path} has no topic {topic}'
    raise TpfError(f'{fault}; its image topics: {", ".join(images)}')


def _only(bag: Bag, camera: str, names: list[str]) -> str:
    """Return the one topic, or the one raw one, of several that could be this camera."""
    raw = [name for name in names if name.removesuffix(COMPRESSED).endswith('image_raw')]
    for choice in names, raw:
        if len(choice) == 1:
            return choice[0]
    raise TpfError(
        f'{bag.path} has {len(names)} topics that may be the {camera} camera; choose one with '
        f'--{camera}-topic: {", ".join(names)}'
    )


def _words(name: str) -> set[str]:
    """Return the words of a topic's name in lower case; camelCase counts as two."""
    return {word.lower() for word in re.findall('[A-Z]+(?![a-z])|[A-Z]?[a-z]+', name)}


def _camera_by_encoding(bag: Bag, name: str) -> str | None:
    """'thermal' for deep pixels, 'rgb' for colour, None for 8-bit grey, which may be either."""
    message = next(bag.messages([name]), None)
    if message is None:  # damaged
        return None
    first = bag.decode(message)
    encoding = getattr(first, 'encoding', None) or first.format.split(';')[0]
    if encoding in DEEP:
        return 'thermal'
    return None if encoding in GREY else 'rgb'
