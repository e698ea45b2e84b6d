"""Which topics of a recording are the RGB and the thermal camera, and why."""

from collections.abc import Callable
import logging
import re

from tpf_tracker_ros.bags.storage import Bag
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.image_encoding import looks_like

IMAGE_KINDS = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
COMPRESSED = '/compressed'
CAMERAS = 'rgb', 'thermal'
# Words of a topic's name, by camera. A maker's name, like flir, also stands on colour cameras:
# what the pixels are comes first.
WORDS = {
    'rgb': {'rgb', 'color', 'colour', 'visible', 'vis', 'eo'},
    'thermal': {'thermal', 'ir', 'infrared', 'lwir', 'mwir', 'flir', 'boson', 'lepton', 'tau'},
}
# Pictures that no camera took, among them our own.
DERIVED = re.compile('depth|disparity|mask|overlay|fused|segment|heatmap|debug')
EXCLUSION = 'taken by exclusion: 8-bit grey, and its name does not tell'

log = logging.getLogger(__name__)


def find_topics(bag: Bag, given: dict[str, str | None]) -> dict[str, tuple[str, str]]:
    """
    Return the topic of each camera that is there, and why it is taken for that camera's.

    given: {'rgb': …, 'thermal': …}, each a topic, None to search, or '' to leave it out.
    Counts (mono16, 32FC1, …) are a thermal camera's and colours an RGB camera's, whatever the
    topics are called. Words in the names decide among several, about 8-bit grey, and which of two
    in colour shows a palette. What is left of 8-bit grey is the camera that is lacking.
    Raises TpfError, naming the topics that there are.
    """
    images = [
        name
        for name, topic in bag.topics.items()
        if topic.kind in IMAGE_KINDS and topic.count and topic.readable
    ]
    if not images:
        unread = any(not topic.readable for topic in bag.topics.values())
        foreign = ' in messages of ROS; convert the recording to ROS 2' if unread else ''
        there = (
            f'{name} ({topic.kind}{"" if topic.readable else f" as {topic.encoding}"})'
            for name, topic in bag.topics.items()
        )
        raise TpfError(
            f'{bag.path} has no images{foreign}; its topics: {", ".join(there) or "none"}'
        )
    found = {
        camera: (_given_topic(bag, topic, images), 'as given')
        for camera, topic in given.items()
        if topic
    }
    searched = [camera for camera, topic in given.items() if topic is None]
    _search(bag, images, searched, found)
    if not found:
        raise TpfError(
            f'{bag.path} has no camera images; choose from its image topics with --rgb-topic or '
            f'--thermal-topic: {", ".join(images)}'
        )
    for camera in searched:
        if camera not in found:
            log.warning('%s has no %s images: tracking with one camera', bag.path, camera)
        elif found[camera][1] == EXCLUSION and len(found) > 1:
            log.warning('%s: %s topic %s: %s', bag.path, camera, *found[camera])
    return {camera: found[camera] for camera in CAMERAS if camera in found}


def _search(
    bag: Bag, images: list[str], searched: list[str], found: dict[str, tuple[str, str]]
) -> None:
    """Add topic and reason of the cameras that are searched for to those that are found."""
    bases = {topic.removesuffix(COMPRESSED) for topic, _ in found.values()}
    looks = {
        name: _looks(bag, name)
        for name in images
        if not DERIVED.search(name.lower())
        and (base := name.removesuffix(COMPRESSED)) not in bases
        and (name == base or base not in images)
    }

    def says(camera: str, name: str) -> bool:
        return bool(WORDS[camera] & _words(name))

    def decide(camera: str, reason: str, fits: Callable[[str], bool]) -> None:
        taken = {topic for topic, _ in found.values()}
        names = [name for name in looks if name not in taken and fits(name)]
        if camera in searched and camera not in found and names:
            names = [name for name in names if says(camera, name)] or names
            found[camera] = _only(bag, camera, names), reason

    palette = [name for name in looks if looks[name] == 'colour' and says('thermal', name)]
    if 'counts' in looks.values() or len(palette) == list(looks.values()).count('colour'):
        palette = []  # the thermal camera is another one, or there is no other in colour
    decide('thermal', 'its pixels are counts', lambda name: looks[name] == 'counts')
    decide(
        'rgb', 'its pixels are colours',
        lambda name: looks[name] == 'colour' and name not in palette,
    )  # fmt: skip
    for camera in reversed(CAMERAS):
        decide(
            camera, 'by its name; 8-bit grey may be either camera',
            lambda name, camera=camera: looks[name] == 'grey' and says(camera, name),
        )  # fmt: skip
    decide('thermal', 'by its name, the other one in colour', lambda name: name in palette)
    for camera, other in (CAMERAS, CAMERAS[::-1]):
        decide(
            camera, EXCLUSION,
            lambda name, other=other: looks[name] == 'grey' and not says(other, name),
        )  # fmt: skip


def _looks(bag: Bag, name: str) -> str:
    """Tell 'counts', 'colour' or 'grey' by the topic's first message."""
    message = next(bag.messages([name]), None)
    if message is None:  # damaged
        return 'grey'
    try:
        return looks_like(bag.decode(message))
    except TpfError:  # of pixels that are told when their turn comes; rarely a thermal camera's
        return 'colour'


def _given_topic(bag: Bag, topic: str, images: list[str]) -> str:
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
