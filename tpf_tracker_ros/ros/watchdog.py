"""Watches that pairs get finished, and says what it waits for when they do not."""

import time

from tpf_tracker_ros.ros.worker import Worker

STEPS = 3  # a slow network on a busy processor is not one that hangs


class Watchdog:
    """
    Tells when no pair has been finished for a while.

    worker: the one to watch. step: seconds that its tracker takes for one.
    """

    def __init__(self, worker: Worker, step: float) -> None:
        self._worker, self._step = worker, step

    def complaint(self, silent: list[str], timeout: float) -> str | None:
        """
        Return one line, or None while all is well or nothing has come yet.

        silent: the topics that send nothing now. timeout: seconds, at least STEPS steps.
        """
        worker, now = self._worker, time.perf_counter()
        timeout = max(timeout, STEPS * self._step)
        quiet, busy_since = now - worker.finished_at, worker.busy_since
        if quiet <= timeout or not worker.submitted:
            return None  # where the cameras have not begun, their own status says so
        text = f'no pair finished for {quiet:.1f} s: '
        if busy_since is not None and now - busy_since > timeout / 2:
            return (
                f'{text}the tracker has been in one step for {now - busy_since:.1f} s; if it '
                'stays so, restart the node'
            )
        if worker.submitted_at > worker.finished_at:
            if worker.failure:
                return f'{text}pairs come, but each one fails: {worker.failure}'
            return f'{text}pairs come, but the tracker is busy; is this processor overloaded?'
        if silent:
            return f'{text}nothing comes on {" and ".join(silent)}'
        return f'{text}images come, but no two of them pair'
