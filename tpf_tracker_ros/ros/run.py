"""
The node as a process: it configures and activates itself unless autostart:=false.

Signals are taken here, not by rclpy, which would pull the context from under a node that is just
loading its model: what it says then, and its last state, still get out.
"""

import gc
import logging
import os
import signal
import sys
import threading

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.ros.dds import shared_memory_shortage
from tpf_tracker_ros.ros.graph import start_rclpy
from tpf_tracker_ros.ros.node import SUCCESS, TrackerNode
from tpf_tracker_ros.system.process import leave_cores


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop; exit code 1 where it cannot start."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    leave_cores()
    shortage = shared_memory_shortage()
    try:
        start_rclpy(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except TpfError as error:
        sys.exit(f'error: {error}')
    node, handler, code = None, None, 0
    try:
        node = TrackerNode()
        logging.getLogger().addHandler(handler := _ToRos(node.get_logger().name))
        if shortage:
            logging.warning(shortage)
        if node.get_parameter('autostart').value:
            code = _start(node, stop)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        # Its own timers wake it, so that it sees the event.
        while not code and not stop.is_set():
            executor.spin_once()
    except TpfError as error:
        rclpy.logging.get_logger('tpf_tracker').fatal(str(error))
        code = 1
    if node:
        node.destroy_node()
    rclpy.try_shutdown()
    if node and node.hangs:
        sys.stderr.flush()
        os._exit(1)  # the thread would keep the process
    logging.getLogger().removeHandler(handler)
    # The middleware takes its files from /dev/shm only when nothing refers to the node any more.
    executor = node = None
    gc.collect()
    sys.exit(code)


class _ToRos(logging.Handler):
    """Hands what other rooms warn of to the node's log, and so to /rosout."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._logger = rclpy.logging.get_logger(name)  # no node: it must not be held

    def emit(self, record: logging.LogRecord) -> None:
        self._logger.warning(record.getMessage())


def _start(node: TrackerNode, stop: threading.Event) -> int:
    """Configure and activate, unless told to stop meanwhile; returns the exit code."""
    for transition in (node.trigger_configure, node.trigger_activate):
        if not stop.is_set() and transition() != SUCCESS:
            return 1  # it has said why
    return 0
