"""
The thread that renders beside the tracker's, fed by a slot that holds only the newest step.

It yields to whatever else wants a core, so rendering takes what tracking leaves over; a step that
was not taken when the next one comes is simply not rendered.
"""

from collections.abc import Callable
from contextlib import suppress
import os
import sys
import threading
from typing import Any

NICE = 10  # of -20..19: about a tenth of the share of a core that the tracker's thread has


class Renderer:
    """Calls render, which never raises, with the newest of the submitted steps."""

    def __init__(self, render: Callable[[Any], None]) -> None:
        self._render = render
        self._changed = threading.Condition()
        self._slot: Any = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name='render', daemon=True)
        self._thread.start()

    def submit(self, step: Any) -> None:
        """Hand over a finished step, in place of the one that waits."""
        with self._changed:
            self._slot = step
            self._changed.notify()

    def close(self, timeout: float) -> bool:
        """
        End the thread after the rendering in hand; a step that waits is not rendered.

        Returns False where it has not ended after timeout seconds.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if sys.platform == 'linux':  # elsewhere this is of the whole process
            with suppress(OSError):
                os.nice(NICE)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._slot)
                if self._closing:
                    return
                step, self._slot = self._slot, None
            self._render(step)
