"""
What the live node takes beside the tracker: a film at 30 Hz through DDS, on this machine.

    python benchmarks/node.py --json node.json

A node process is started, played to and listened to: without and with somebody who watches the
fused images, and with one and four pages of the console open on RGB and thermal. 'overhead' is the
time from the arrival of a pair's later image to its published boxes, less that of the tracker's
step; 'latency' counts from the publishing of the image in the playing process to the arrival of
its boxes there.
"""

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
import json
import multiprocessing
import os
from pathlib import Path
import struct
import tempfile

import aiohttp
import numpy as np
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.console.process import console_process
from tpf_tracker_ros.ros.replay.demo import demo_bag
from tpf_tracker_ros.ros.replay.replay import replay

STAGES = ('wait_ms', 'convert_ms', 'track_ms', 'publish_ms', 'overhead_ms', 'total_ms')


def main() -> None:
    """Play, print p50 / p95 / p99 by stage, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--checkpoint', default='', help='such as a folder of tpf export')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        sequence = BagSequence(demo_bag(0, Path(folder)))
        fused = Path(folder) / 'out'
        fused.mkdir()
        for name, out, viewers in (
            ('boxes', None, nullcontext()),
            ('boxes and fused images', fused, nullcontext()),
            ('console, one viewer', None, watching(1)),
            ('console, four viewers', None, watching(4)),
        ):
            given = {'checkpoint': args.checkpoint} if args.checkpoint else {}
            with viewers:
                run = replay(sequence, sequence.ground_truth[0], out=out, parameters=given)
            latency = np.nanpercentile(run.latency_ms, (50, 95, 99))
            rows[name] = {stage: run.status[stage] for stage in STAGES}
            rows[name]['latency_ms'] = ' / '.join(f'{value:.2f}' for value in latency)
            rows[name]['dropped'] = f'{run.dropped.sum()} of {len(run.stamps)}'
            rows[name]['stolen'] = f'{run.stolen:.0%}'  # by the host of a virtual machine
            rows[name]['resident_mb'] = run.status['resident_mb']
    print(f'{"p50 / p95 / p99":16}' + ''.join(f'{name:>28}' for name in rows))
    for key in next(iter(rows.values())):
        print(f'{key:16}' + ''.join(f'{row[key]:>28}' for row in rows.values()))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


@contextmanager
def watching(viewers: int) -> Iterator[None]:
    """Open so many pages of a console on RGB and thermal, in a process of their own."""
    with console_process('127.0.0.1', 0) as line:
        process = multiprocessing.get_context('spawn').Process(
            target=watch, args=(line.split()[-1], viewers), daemon=True
        )
        process.start()
        try:
            yield
        finally:
            process.kill()
            process.join()


def watch(url: str, viewers: int) -> None:
    """Take images as fast as they come, as pages do."""

    async def page(client: aiohttp.ClientSession) -> None:
        async with client.ws_connect(f'{url}socket', headers={'Origin': url.rstrip('/')}) as page:
            await page.send_json({'type': 'watch', 'views': ['rgb', 'thermal']})
            async for message in page:
                if message.type is aiohttp.WSMsgType.BINARY:
                    end = 4 + struct.unpack_from('>I', message.data)[0]
                    view = json.loads(message.data[4:end])['view']
                    await page.send_json({'type': 'drawn', 'view': view})

    async def pages() -> None:
        async with aiohttp.ClientSession() as client:
            await asyncio.gather(*(page(client) for _ in range(viewers)))

    os.nice(19)  # elsewhere, on a robot: a page costs this machine what the console costs
    asyncio.run(pages())


if __name__ == '__main__':
    main()
