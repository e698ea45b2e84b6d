"""
The pictures of a running tracker: subscribed to while they are watched, shown under their boxes.

An image is shown when the tracks of its pair have come, so that box and image are of one instant;
while no tracks come at all, it is shown without. Messages stay serialised until a viewer takes
them: nothing is spent on images that nobody gets.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
import time
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tpf_tracker_ros.console.source import Shot
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.image_encoding import decode_rgb
from tpf_tracker_ros.core.pairing import Paired
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.ros.conversion import Frame, PairConverter
from tpf_tracker_ros.ros.replay.node_process import camera_info_topic
from tpf_tracker_ros.ros.replay.player import header_stamp

CAMERAS = ('rgb', 'thermal')
KEPT_BYTES = 64 << 20  # of a camera's images that wait for their tracks
KEPT_TRACKS = 100
UNTRACKED = 0.5  # s without tracks, then images are shown as they come
QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)


class _Waiting:
    """The newest images of one camera, serialised, by stamp in ns."""

    def __init__(self) -> None:
        self._images: deque[tuple[int, bytes]] = deque()

    def add(self, stamp: int, data: bytes) -> bool:
        """Take the newest; returns whether time jumped back."""
        jumped = bool(self._images) and stamp < self._images[-1][0]
        if jumped:
            self._images.clear()
        self._images.append((stamp, data))
        while len(self._images) > 1 and len(self._images) * len(data) > KEPT_BYTES:
            self._images.popleft()
        return jumped

    def near(self, stamp: int, tolerance: int) -> bytes | None:
        """Return the image nearest to a stamp, where one is within the tolerance."""
        distance, data = min(
            ((abs(each - stamp), data) for each, data in self._images),
            key=lambda pair: pair[0],
            default=(0, None),
        )
        return data if distance <= tolerance else None


class Images:
    """
    See the module. All but what a Shot draws happens in the thread that spins the node.

    fused: the topic of the fused image. values: the tracker's parameters by name.
    changed: called when there is a new shot.
    """

    def __init__(
        self, node: Node, fused: str, values: dict[str, Any], changed: Callable[[], None]
    ) -> None:
        self.shots: dict[str, Shot] = {}
        self._node, self._fused, self._changed = node, fused, changed
        self._subscriptions: dict[str, Subscription] = {}
        self._topics: dict[str, str] = {}
        self._waiting = {camera: _Waiting() for camera in CAMERAS}
        self._tracks: dict[int, dict[str, Any]] = {}
        self._tracked_at = 0.0
        self._range = ThermalRange()
        self._unusable: dict[str, str] = {}  # camera -> why its image cannot be shown
        self._converter = PairConverter(values, self._unusable.__setitem__)
        self.configure(values)

    def configure(self, values: dict[str, Any]) -> None:
        """Show images as a tracker with these parameters sees them."""
        self._converter.configure(values)
        self._range.low, self._range.high, self._range.smoothing = (
            values[f'tracker.thermal_{name}'] for name in ('low', 'high', 'smoothing')
        )
        self._offset = round(
            (values['rgb_offset_ms'] - values['thermal_offset_ms']) * 1e6
        )  # from the stamp of an RGB image to that of its thermal one
        held = values['pairing'] == 'hold'
        self._slop = round(values['hold_ms' if held else 'slop_ms'] * 1e6)
        self._needs_info = values['registration.method'] != 'homography'

    def update(self, cameras: dict[str, str], second: str, views: set[str]) -> None:
        """
        Subscribe to what the views need and to nothing else.

        cameras: 'rgb' or 'thermal' -> image topic. second: what 'thermal' shows, see
        PairConverter. views: of rgb, thermal and fused.
        """
        self._topics, self._converter.second = cameras, second
        needed: dict[str, tuple[type, Callable, bool]] = {}
        for camera, topic in cameras.items():
            # Thermal images are shown on the grid of the RGB ones.
            if camera in views or (camera == 'rgb' and 'thermal' in views):
                needed[topic] = _kind(topic), partial(self._take, camera), True
                if self._needs_info:
                    take_info = partial(self._converter.take_info, camera)
                    needed[camera_info_topic(topic)] = CameraInfo, take_info, False
        if 'fused' in views:
            needed[self._fused] = Image, self._take_fused, True
        for topic in self._subscriptions.keys() - needed.keys():
            self._node.destroy_subscription(self._subscriptions.pop(topic))
        for topic in needed.keys() - self._subscriptions.keys():
            kind, callback, raw = needed[topic]
            self._subscriptions[topic] = self._node.create_subscription(
                kind, topic, callback, QOS, raw=raw
            )
        for view in self.shots.keys() - views:
            del self.shots[view]

    def tracked(self, stamp: int, facts: dict[str, Any]) -> None:
        """Show the images of the pair with this stamp (ns) with what was tracked in it."""
        if self._tracks and stamp < next(reversed(self._tracks)):
            self._tracks.clear()
        self._tracks[stamp] = facts
        if len(self._tracks) > KEPT_TRACKS:
            del self._tracks[next(iter(self._tracks))]
        self._tracked_at = time.perf_counter()
        if self._subscriptions:
            self._show(stamp, facts)

    def _take(self, camera: str, data: bytes) -> None:
        stamp = header_stamp(data)
        if self._waiting[camera].add(stamp, data):
            self._tracks.clear()  # a recording that is played again has the same stamps
        if stamp in self._tracks:  # they were quicker
            self._show(stamp, self._tracks[stamp])
        elif time.perf_counter() - self._tracked_at > UNTRACKED:
            self._show(stamp, {})

    def _take_fused(self, data: bytes) -> None:
        stamp = header_stamp(data)
        facts = self._tracks.get(stamp, {})  # rendered after them
        self._put('fused', stamp, lambda: decode_rgb(deserialize_message(data, Image)), facts)

    def _show(self, stamp: int, facts: dict[str, Any]) -> None:
        rgb = self._waiting['rgb'].near(stamp, 0)
        thermal = self._waiting['thermal'].near(
            stamp + (0 if rgb is None else self._offset), self._slop
        )
        if rgb is not None:
            self._put('rgb', stamp, lambda: decode_rgb(self._frame('rgb', rgb).message), facts)
        if thermal is not None:
            self._put('thermal', stamp, lambda: self._thermal(rgb, thermal), facts)

    def _put(
        self, view: str, stamp: int, draw: Callable[[], np.ndarray], facts: dict[str, Any]
    ) -> None:
        self.shots[view] = Shot(view, stamp, draw, **facts)
        self._changed()

    def _frame(self, camera: str, data: bytes | None) -> Frame | None:
        if data is None:
            return None
        return Frame(deserialize_message(data, _kind(self._topics[camera])), 0.0)

    def _thermal(self, rgb: bytes | None, thermal: bytes) -> np.ndarray:
        """Return uint8 (H, W), or (H, W, 3) of events, on the RGB grid. Raises TpfError."""
        pair = Paired(self._frame('rgb', rgb), self._frame('thermal', thermal), 0, None, 0)
        registered = self._converter.convert(pair).thermal
        if registered is None:
            raise TpfError(self._unusable.get('thermal', 'the thermal image cannot be shown'))
        return self._range.to_uint8(registered)


def _kind(topic: str) -> type:
    return CompressedImage if topic.rpartition('/')[2].startswith('compressed') else Image
