"""`--init ask`: the frames of a recording in the browser, until a box is drawn on one of them."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tpf_tracker_ros.console.access import Access
from tpf_tracker_ros.console.server import ADDRESS, Console, PORT
from tpf_tracker_ros.console.source import box_of, Shot, stamp_of
from tpf_tracker_ros.core.boxes import check_box
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.sequence import Sequence
from tpf_tracker_ros.core.thermal import ThermalRange

KEPT = 32  # decoded frames, so that a step back is no new start of the recording
FAREWELL = 0.5  # s for the pages to hear that the box is taken
HINT = 'Draw a box around the target; step on first where it is not in this frame.'
DONE = 'Target set; the run goes on where it was started.'


class Frames:
    """
    A sequence as a Source; the frame's number is its stamp.

    chosen: resolved with (frame's number, box (4,) x, y, w, h px) once it is drawn.
    """

    def __init__(self, sequence: Sequence) -> None:
        self.shots: dict[str, Shot] = {}
        self.chosen: asyncio.Future[tuple[int, np.ndarray]] = asyncio.Future()
        self._sequence = sequence
        self._pairs: Iterator[FramePair] = iter(())
        self._kept: deque[tuple[int, FramePair]] = deque(maxlen=KEPT)
        self._range = ThermalRange()
        self._reading = asyncio.Lock()
        self._changed: Callable[[], None] = lambda: None
        self._show(0)

    def attach(self, changed: Callable[[], None]) -> None:
        """See Source."""
        self._changed = changed

    def watch(self, views: set[str]) -> None:
        """See Source; there is but one frame at a time."""

    def describe(self) -> dict[str, Any]:
        """Return what the page is about."""
        return {'mode': 'ask', 'title': self._sequence.name, 'hint': HINT}

    def status(self) -> dict[str, Any]:
        """Return which frame of how many is shown."""
        return {
            'frame': self._number,
            'frames': len(self._sequence),
            'views': list(self.shots),
            'done': DONE if self.chosen.done() else '',
        }

    async def command(self, name: str, message: dict[str, Any]) -> str:
        """Step by so many frames, or take a box. Raises TpfError when it is refused."""
        if name == 'step':
            by = message.get('by')
            if type(by) is not int:
                raise TpfError(f'a step of {str(by)[:40]!r} is no number of frames')
            async with self._reading:
                last = len(self._sequence) - 1
                await asyncio.to_thread(self._show, min(max(self._number + by, 0), last))
            self._changed()
            return f'frame {self._number + 1}'
        if name != 'target':
            raise TpfError(f'{name[:40]!r} is no command of this page')
        box, number = box_of(message), stamp_of(message)
        if number != self._number:
            raise TpfError('another frame is shown by now; draw the box again')
        check_box(box, self._kept_pair(number).size)
        if not self.chosen.done():
            self.chosen.set_result((number, box))
        return DONE

    def _kept_pair(self, number: int) -> FramePair | None:
        return next((pair for index, pair in self._kept if index == number), None)

    def _show(self, number: int) -> None:
        """Read on to this frame; from the start again for one that is not kept any more."""
        if self._kept_pair(number) is None and (not self._kept or number < self._kept[-1][0]):
            self._pairs = iter(self._sequence)
            self._kept.clear()
        while self._kept_pair(number) is None:
            index = self._kept[-1][0] + 1 if self._kept else 0
            pair = next(self._pairs, None)
            if pair is None:
                raise TpfError(f'{self._sequence.name} ends at frame {index}')
            self._kept.append((index, pair))
        pair, self._number = self._kept_pair(number), number
        shots = {}
        if pair.rgb is not None:
            shots['rgb'] = Shot('rgb', number, lambda: pair.rgb, box=None)
        if pair.thermal is not None:
            draw = lambda: self._range.to_uint8(pair.thermal)  # noqa: E731
            shots['thermal'] = Shot('thermal', number, draw, box=None)
        self.shots = shots


def ask_box(
    sequence: Sequence, say: Callable[[str], None], *, address: str = ADDRESS, port: int = PORT
) -> tuple[int, np.ndarray]:
    """
    Return the frame's number and the box (4,) x, y, w, h px that somebody draws in a browser.

    say: gets the page's address. Raises TpfError where it cannot be served.
    """
    return asyncio.run(_ask(sequence, say, address, port))


async def _ask(
    sequence: Sequence, say: Callable[[str], None], address: str, port: int
) -> tuple[int, np.ndarray]:
    frames = Frames(sequence)
    async with Console(frames, Access(address)).serving(address, port) as url:
        say(f'draw a box around the target at {url}')
        chosen = await frames.chosen
        await asyncio.sleep(FAREWELL)
        return chosen
