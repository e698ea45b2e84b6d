"""What a page shows and steers: a live tracker, or the frames of a recording."""

from collections.abc import Callable, Mapping
from functools import cached_property
import json
import re
import struct
from typing import Any, Protocol

import cv2
import numpy as np
from tpf_tracker_ros.core.errors import TpfError

MAX_SIDE = 1280  # px of an image on its way to a browser
QUALITY = 80  # of its JPEG, of 100


class Shot:
    """
    One image of one view, encoded when the first viewer takes it and then for all.

    view: 'rgb', 'thermal' or 'fused'. stamp: names the frame to a target, as text: browsers have
    no 64-bit integers. draw: gives the image, uint8 (H, W, 3) RGB or (H, W); may raise TpfError.
    facts: JSON that goes with it; box: x, y, w, h px or None.
    """

    def __init__(
        self, view: str, stamp: int, draw: Callable[[], np.ndarray], **facts: Any
    ) -> None:
        self.view, self._draw = view, draw
        self._facts = {'view': view, 'stamp': str(stamp), **facts}

    @cached_property
    def packet(self) -> bytes:
        """
        Length of the JSON (4 bytes, big endian), the JSON, and the JPEG.

        Of the JSON's keys, width and height are those of the image before it was made smaller: of
        its pixels are boxes. trouble: why there is no JPEG.
        """
        try:
            image = self._draw()
        except TpfError as error:
            return _packed({**self._facts, 'trouble': str(error)}, b'')
        height, width = image.shape[:2]
        scale = MAX_SIDE / max(width, height)
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        return _packed({**self._facts, 'width': width, 'height': height}, jpeg.tobytes())


def _packed(facts: dict[str, Any], jpeg: bytes) -> bytes:
    text = json.dumps(facts).encode()
    return struct.pack('>I', len(text)) + text + jpeg


class Source(Protocol):
    """
    See the module. All is called in the server's event loop, but Shot.packet.

    shots: the newest of each view that is watched. command raises TpfError when it refuses.
    """

    shots: Mapping[str, Shot]

    def attach(self, changed: Callable[[], None]) -> None:
        """Call changed, from any thread, when there is a new shot."""

    def describe(self) -> dict[str, Any]:
        """JSON that each viewer gets once."""

    def status(self) -> dict[str, Any]:
        """JSON that each viewer gets by and by, of that the parts which have changed."""

    def watch(self, views: set[str]) -> None:
        """Provide shots of these views and of no others."""

    async def command(self, name: str, message: dict[str, Any]) -> str:
        """Do what a viewer wants; returns what became of it in words."""


def box_of(message: dict[str, Any]) -> np.ndarray:
    """Return a message's box as float64 (4,) x, y, w, h px. Raises TpfError."""
    box = message.get('box')
    is_box = isinstance(box, list) and len(box) == 4 and {*map(type, box)} <= {int, float}
    if not is_box or not np.isfinite(np.array(box, float)).all():
        raise TpfError(f'box {str(box)[:60]} is not four numbers; draw it, or give x, y, w, h')
    return np.array(box, float)


def stamp_of(message: dict[str, Any]) -> int | None:
    """Return a message's stamp as a number, None where it has none. Raises TpfError."""
    stamp = message.get('stamp')
    if stamp is None:
        return None
    if not isinstance(stamp, str) or not re.fullmatch('[0-9]{1,19}', stamp):
        raise TpfError(f'stamp {str(stamp)[:60]!r} is not that of an image')
    return int(stamp)
