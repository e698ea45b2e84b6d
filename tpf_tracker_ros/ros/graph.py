"""The graph around a node: one that a program uses from outside, waiting, who publishes."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
import os
import time
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.ros.dds import cure_for_loss

POLL = 0.02  # seconds
IMAGE_KINDS = {'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'}
MOST_NAMED = 6  # topics in one line
TRANSPORTS = ('raw', 'compressed', 'compressedDepth')  # the suffix of the topic, but for raw


def start_rclpy(**options: Any) -> None:
    """Call rclpy.init. Raises TpfError on an argument or a variable that it cannot take."""
    try:
        rclpy.init(**options)
    except Exception as error:  # of a private module of rclpy
        raise TpfError(str(error)) from None


@contextmanager
def spinning_node(name: str, **options: object) -> Iterator[tuple[Node, Future]]:
    """
    Give the node and the future of its spinning, which ends early only by an exception.

    options: for rclpy.create_node. Ctrl-C stays a KeyboardInterrupt of the main thread.
    Raises TpfError where rclpy cannot start.
    """
    # A context of its own comes without rclpy's signal handlers, which would shut it down.
    context = rclpy.Context()
    start_rclpy(context=context)
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


def what_confuses(node: Node) -> str | None:
    """Say what of the graph around a node is likely not meant, with the cure."""
    name = node.get_fully_qualified_name()
    if node.get_node_names_and_namespaces().count((node.get_name(), node.get_namespace())) > 1:
        return (
            f'there is another node {name}, whose topics and services mix with those of this one; '
            'stop it, or start one of them with namespace:=robot1 (one that was killed leaves in '
            'half a minute)'
        )
    if node.get_parameter('use_sim_time').value and not node.get_clock().now().nanoseconds:
        return (
            'use_sim_time is true, but nothing comes on /clock; play with ros2 bag play --clock, '
            'or set use_sim_time to false'
        )
    return None


def why_silent(node: Node, topic: str) -> str:
    """Say why nothing comes on an image topic that the node subscribes to, with the cure."""
    base, _, suffix = topic.rpartition('/')
    raw = base if suffix in TRANSPORTS else topic
    kinds = {each.topic_type for each in node.get_publishers_info_by_topic(topic)}
    wanted = {
        each.topic_type
        for each in node.get_subscriptions_info_by_topic(topic)
        if (each.node_namespace, each.node_name) == (node.get_namespace(), node.get_name())
    }
    if kinds and wanted and not kinds & wanted:
        cure = f'give a topic of {", ".join(wanted)}'
        if suffix in TRANSPORTS and 'sensor_msgs/msg/CompressedImage' in kinds:
            cure = f'give the topic as {raw}, and set the transport of this camera to {suffix}'
        return f'it is published as {", ".join(sorted(kinds))}; {cure}'
    if kinds:
        return (
            'it is published, but no image comes; is the camera on? '
            f'With images above 512 KiB {cure_for_loss(1 << 20)}'
        )
    for transport in TRANSPORTS:
        other = raw if transport == 'raw' else f'{raw}/{transport}'
        if node.count_publishers(other):
            return f'but {other} is published: set the transport of this camera to {transport}'
    if images := _published_images(node):
        there = ', '.join(images[:MOST_NAMED]) + (', ...' if len(images) > MOST_NAMED else '')
        return f'nobody publishes it; remap it to the topic of your camera; there are {there}'
    return (
        'nobody publishes it, nor any other image; is the driver running, with ROS_DOMAIN_ID '
        f'{os.environ.get("ROS_DOMAIN_ID") or 0} and the same discovery range?'
    )


def _published_images(node: Node) -> list[str]:
    """Return the image topics of others."""
    own = f'{node.get_fully_qualified_name()}/'
    return [
        name
        for name, types in node.get_topic_names_and_types()
        if IMAGE_KINDS & set(types) and not name.startswith(own) and node.count_publishers(name)
    ]
