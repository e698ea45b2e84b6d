"""A node that a program uses from outside: spun in a thread, shut down at the end of the block."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from tpf_tracker_ros.core.errors import TpfError

POLL = 0.02  # seconds


@contextmanager
def spinning_node(name: str, **options: object) -> Iterator[tuple[Node, Future]]:
    """
    Give the node and the future of its spinning, which ends early only by an exception.

    options: for rclpy.create_node. Ctrl-C stays a KeyboardInterrupt of the main thread.
    """
    # A context of its own comes without rclpy's signal handlers, which would shut it down.
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        node = rclpy.create_node(name, context=context, **options)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        with ThreadPoolExecutor(1) as thread:
            spinning = thread.submit(executor.spin)
            try:
                yield node, spinning
            finally:
                executor.shutdown()
        node.destroy_node()
    finally:
        context.try_shutdown()


def wait_until(
    condition: Callable[[], object],
    timeout: float,
    otherwise: str,
    *,
    check: Callable[[], None] = lambda: None,
) -> object:
    """
    Wait for a true result of condition and return it; TpfError(otherwise) after the timeout.

    timeout: seconds. check: called meanwhile; what it raises ends the wait.
    """
    deadline = time.perf_counter() + timeout
    while not (result := condition()):
        check()
        if time.perf_counter() > deadline:
            raise TpfError(otherwise)
        time.sleep(POLL)
    return result
