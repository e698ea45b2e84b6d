"""
One open page: its socket, what it watches, and what has been sent to it.

Newest wins: a view's next image goes out when the page has drawn all but one of those before, and
then it is the newest there is. A slow link takes fewer images, none of them old, and keeps nobody
else waiting.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
import json
from typing import Any

from aiohttp import web, WSMsgType
from tpf_tracker_ros.console.access import Rate
from tpf_tracker_ros.console.source import Shot, Source
from tpf_tracker_ros.core.errors import TpfError

IN_FLIGHT = 2  # images of a view on their way: one travels while one is drawn
STATUS_PERIOD = 0.2  # s
SEND_TIMEOUT = 20.0  # s, then nobody is there any more
MESSAGES = 240, 240  # burst and messages a second: three views at 60 Hz and some more
COMMANDS = 20, 10


class Viewer:
    """
    See the module.

    encoder: where images are encoded, one after the other. rewatch: called when the views that it
    watches have changed.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        source: Source,
        encoder: Executor,
        rewatch: Callable[[], None],
    ) -> None:
        self.views: set[str] = set()
        self._socket, self._source, self._encoder = socket, source, encoder
        self._rewatch = rewatch
        self._wake = asyncio.Event()
        self._flying: Counter[str] = Counter()
        self._sent: dict[str, Shot] = {}
        self._known: dict[str, Any] = {}
        self._messages, self._commands = Rate(*MESSAGES), Rate(*COMMANDS)

    def wake(self) -> None:
        """Look for something to send."""
        self._wake.set()

    async def run(self) -> None:
        """Serve the page until it closes or is gone."""
        tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        gone = ConnectionError, TimeoutError, asyncio.TimeoutError, asyncio.CancelledError
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, gone):
                raise outcome

    # ---- what goes out ----

    async def _send(self) -> None:
        await self._say('hello', **self._source.describe())
        loop, due = asyncio.get_running_loop(), 0.0
        while not self._socket.closed:
            if loop.time() >= due:
                await self._send_status()
                due = loop.time() + STATUS_PERIOD
            await self._send_images()
            try:
                await asyncio.wait_for(self._wake.wait(), max(0.0, due - loop.time()))
            except asyncio.TimeoutError:  # of its own kind before Python 3.11
                continue
            self._wake.clear()

    async def _send_status(self) -> None:
        status = self._source.status()
        changed = {key: value for key, value in status.items() if self._known.get(key) != value}
        self._known = status
        if changed:
            await self._say('status', **changed)

    async def _send_images(self) -> None:
        for view in sorted(self.views):
            shot = self._source.shots.get(view)
            if shot is None or shot is self._sent.get(view) or self._flying[view] >= IN_FLIGHT:
                continue
            self._sent[view] = shot
            self._flying[view] += 1
            loop = asyncio.get_running_loop()
            packet = await loop.run_in_executor(self._encoder, lambda shot=shot: shot.packet)
            await asyncio.wait_for(self._socket.send_bytes(packet), SEND_TIMEOUT)

    async def _say(self, kind: str, **content: Any) -> None:
        text = json.dumps({'type': kind, **content}, default=str)
        await asyncio.wait_for(self._socket.send_str(text), SEND_TIMEOUT)

    # ---- what comes in ----

    async def _receive(self) -> None:
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                await self._refuse('messages are JSON text')
            elif not self._messages.take():
                await self._socket.close(code=1008, message=b'too many messages')
            else:
                await self._take(message.data)

    async def _take(self, text: str) -> None:
        try:
            message = json.loads(text, parse_int=_integer)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not isinstance(message.get('type'), str):
            await self._refuse('a message is a JSON object with a type')
        elif message['type'] == 'drawn':
            view = message.get('view')
            if isinstance(view, str) and self._flying[view] > 0:
                self._flying[view] -= 1
                self.wake()
        elif message['type'] == 'watch':
            views = message.get('views')
            if not isinstance(views, list) or len(views) > 3 or not _are_texts(views):
                await self._refuse('views is a list of up to three names')
                return
            self.views = set(views)
            self._sent.clear()
            self._rewatch()
            self.wake()
        elif not self._commands.take():
            await self._refuse('too many commands; wait a second', message)
        else:
            await self._obey(message)

    async def _obey(self, message: dict[str, Any]) -> None:
        try:
            words = await self._source.command(message['type'], message)
        except TpfError as error:
            await self._refuse(str(error), message)
        else:
            await self._say('answer', ok=True, words=words, to=_number(message))

    async def _refuse(self, words: str, message: dict[str, Any] | None = None) -> None:
        await self._say('answer', ok=False, words=words, to=_number(message or {}))


def _are_texts(values: list) -> bool:
    return all(isinstance(value, str) for value in values)


def _integer(digits: str) -> int | float:
    """Nothing that a page says needs more than 64 bits; longer ones overflow somewhere else."""
    return int(digits) if len(digits) < 20 else float(digits)


def _number(message: dict[str, Any]) -> int | None:
    """Which message of the page this answers."""
    number = message.get('number')
    return number if isinstance(number, int) else None
