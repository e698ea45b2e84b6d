"""The message types that bags are read and written with."""

from functools import cache

import numpy as np
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from rosbags.typesys.store import Typestore
from tpf_tracker_ros.bags.vision_msgs import DEFINITIONS


@cache
def typestore() -> Typestore:
    """ROS 2's common messages, the same in every distribution, and vision_msgs."""
    store = get_typestore(Stores.LATEST)
    for name, text in DEFINITIONS.items():
        store.register(get_types_from_msg(text, name))
    return store


@cache
def typestore_ros1() -> Typestore:
    """ROS 1's messages, for .bag files."""
    return get_typestore(Stores.ROS1_NOETIC)


def box_of(detection: object) -> np.ndarray:
    """Return the box (4,) x, y, w, h in pixels of a Detection2D, which tells centre and size."""
    bbox = detection.bbox
    centre = bbox.center.position
    w, h = bbox.size_x, bbox.size_y
    return np.array([centre.x - w / 2, centre.y - h / 2, w, h])
