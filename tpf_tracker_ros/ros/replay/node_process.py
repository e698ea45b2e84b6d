"""The tracker node as a process of its own, on a recording's topics, stopped in every case."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import json
from pathlib import Path
import re
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import NoReturn

from tpf_tracker_ros.bags.cameras import COMPRESSED
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.system.process import interrupt

STOP_TIMEOUT = 10.0  # s from SIGINT to SIGKILL


class NodeProcess:
    """The running node."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self._process, self._log = process, log

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        return self._process.pid

    def check(self) -> None:
        """Raise TpfError with the node's last words once it has ended."""
        if self._process.poll() is None:
            return
        # The last error without rclpy's prefix, or else the last line.
        lines = [line for line in self._log.read_text().splitlines() if line.strip()] or ['']
        errors = [line for line in lines if re.match(r'\[(ERROR|FATAL)\]', line)]
        words = re.sub(r'^(\[[^]]*\] ?)+:? ?', '', (errors or lines)[-1])
        raise TpfError(f'the node ended with exit code {self._process.returncode}: {words}')


@contextmanager
def node_process(
    topics: Mapping[str, str], parameters: Mapping[str, object], log: Path
) -> Iterator[NodeProcess]:
    """
    Start the node; stop it by SIGINT when the block ends, however it ends.

    topics: 'rgb' or 'thermal' -> image topic. parameters: of the node. log: its output.
    """
    parameters = {'mode': '+'.join(topics), **parameters}
    rules = []
    for camera, topic in topics.items():
        # The node adds the transport's suffix after remapping.
        rules.append(f'{camera}/image_raw:={topic.removesuffix(COMPRESSED)}')
        compressed = topic.endswith(COMPRESSED)
        parameters[f'{camera}_transport'] = 'compressed' if compressed else 'raw'
        rules.append(f'{camera}/camera_info:={camera_info_topic(topic)}')
    command = [sys.executable, '-m', 'tpf_tracker_ros.ros', '--ros-args']
    command += [word for rule in rules for word in ('-r', rule)]
    for name, value in parameters.items():
        command += ['-p', f'{name}:={json.dumps(value)}']  # JSON is YAML, and '' needs quotes
    with (
        _terminable(),
        log.open('w') as output,
        # In a session of its own: Ctrl-C reaches it once, from here.
        subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True) as process,
    ):
        try:
            yield NodeProcess(process, log)
        finally:
            interrupt(process, STOP_TIMEOUT)


def camera_info_topic(image_topic: str) -> str:
    """Where a camera driver publishes the information to its images."""
    return f'{image_topic.removesuffix(COMPRESSED).rpartition("/")[0]}/camera_info'


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP run the clean-up, as Ctrl-C does, so that no node is left behind."""

    def leave(number: int, _: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread, and only it may set handlers
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
