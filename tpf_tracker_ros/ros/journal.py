"""The node's log: one line for each thing that happens, and not the same one again and again."""

import re
import threading
import time
from typing import Any

PERIOD = 2.0  # s in which one kind of line is written once


def kind_of(text: str) -> str:
    """Return the text without its numbers: lines of one kind have the same."""
    return re.sub(r'\d+', '', text)


class Journal:
    """
    Writes to a rclpy logger from any thread.

    Lines of one kind (the same text but for its numbers) are written once in PERIOD; the next one
    says how many were left out.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._written: dict[str, tuple[float, int]] = {}  # kind: when, left out since

    def say(self, severity: str, text: str) -> None:
        """severity: 'debug', 'info', 'warning' or 'error'."""
        kind, now = severity + kind_of(text), time.perf_counter()
        with self._lock:
            when, left_out = self._written.get(kind, (-PERIOD, 0))
            if now - when < PERIOD:
                self._written[kind] = when, left_out + 1
                return
            self._written[kind] = now, 0
        if left_out:
            text += f' ({left_out} more like this in between)'
        # rclpy refuses two severities from one line of code.
        if severity == 'debug':
            self._logger.debug(text)
        elif severity == 'info':
            self._logger.info(text)
        elif severity == 'warning':
            self._logger.warning(text)
        else:
            self._logger.error(text)
