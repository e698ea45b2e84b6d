"""The console as a process of its own, so that encoding images delays nobody else."""

from collections.abc import Iterator
from contextlib import contextmanager
import json
import subprocess
import sys

from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.ros.dds import loopback_environment
from tpf_tracker_ros.system.process import interrupt

# The tracker's target_history_mb where a box is drawn: 5 s of two cameras of 640x512 px at 30 Hz.
HISTORY_MB = 256.0
STOP_TIMEOUT = 5.0  # s from SIGINT to SIGKILL


@contextmanager
def console_process(address: str, port: int) -> Iterator[str]:
    """
    Start the console of a tracker on this host; gives the line that says its address.

    It is stopped when the block ends. Raises TpfError where it cannot listen.
    """
    command = [sys.executable, '-m', 'tpf_tracker_ros.console', '--ros-args']
    command += ['-p', f'address:={json.dumps(address)}', '-p', f'port:={port}']
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=loopback_environment(),
        start_new_session=True,  # Ctrl-C reaches it once, from here
    ) as process:
        try:
            line = process.stdout.readline().strip()
            if not line:
                words = process.stderr.read().strip().splitlines() or ['it says nothing']
                reason = words[-1].removeprefix('error: ')
                raise TpfError(f'the console does not start: {reason}')
            yield line
        finally:
            interrupt(process, STOP_TIMEOUT)
