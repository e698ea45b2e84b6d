"""
The node `console`: the page of a running tracker.

`python -m tpf_tracker_ros.console --ros-args -r __ns:=/robot1 -p port:=8400`; it needs no
topics, the tracker tells it.
"""

import asyncio
from concurrent.futures import Future
import os
import signal
import sys

from rclpy.node import Node
from tpf_tracker_ros.console.access import Access
from tpf_tracker_ros.console.live import LiveTracker
from tpf_tracker_ros.console.server import ADDRESS, call_soon, Console, MAX_VIEWERS, PORT
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.ros.graph import spinning_node
from tpf_tracker_ros.ros.parameters import enter, Parameter, start_values

NICE = 10  # of -20..19: encoding takes what tracking leaves over
TABLE = {
    row.name: row
    for row in (
        Parameter('tracker', 'tpf_tracker', 'name of the tracker, relative to the own namespace'),
        Parameter(
            'address', ADDRESS,
            'to listen on; 0.0.0.0: on all. Any but 127.0.0.1 asks viewers for a token',
        ),
        Parameter('port', PORT, 'to listen on', low=0, high=65535),
        Parameter('hosts', '', 'further names of this machine, with commas, as browsers may use'),
        Parameter('max_viewers', MAX_VIEWERS, 'pages open at a time', low=1, high=64),
    )
}  # fmt: skip


def main() -> None:
    """Serve until told to stop; exit code 1 where it cannot."""
    os.nice(NICE)
    try:
        options = {'automatically_declare_parameters_from_overrides': True}
        with spinning_node('console', **options) as (node, spinning):
            values, _ = start_values(node, TABLE)
            enter(node, TABLE, values)
            asyncio.run(_serve(node, spinning, values))
    except TpfError as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        pass


async def _serve(node: Node, spinning: Future, values: dict) -> None:
    hosts = tuple(filter(None, values['hosts'].split(',')))
    access = Access(values['address'], hosts=hosts)
    tracker = LiveTracker(node, values['tracker'])
    console = Console(tracker, access, max_viewers=values['max_viewers'])
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    spinning.add_done_callback(lambda _: call_soon(loop, stop.set))
    async with console.serving(values['address'], values['port']) as url:
        # Not through the node's logger: the token is nothing for /rosout and log files.
        print(f'console of {tracker.tracker}: {url}', flush=True)
        await stop.wait()
    if spinning.done():
        spinning.result()
