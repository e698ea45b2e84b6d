"""
What the live node takes beside the tracker: a film at 30 Hz through DDS, on this machine.

    python benchmarks/node.py --json node.json

A node process is started, played to and listened to, without and with somebody who watches the
fused images. 'overhead' is the time from the arrival of a pair's later image to its published
boxes, less that of the tracker's step; 'latency' counts from the publishing of the image in the
playing process to the arrival of its boxes there.
"""

import argparse
import json
from pathlib import Path
import tempfile

import numpy as np
from tpf_tracker_ros.bags.reader import BagSequence
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
        for name, out in (('boxes', None), ('boxes and fused images', Path(folder) / 'out')):
            if out:
                out.mkdir()
            given = {'checkpoint': args.checkpoint} if args.checkpoint else {}
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


if __name__ == '__main__':
    main()
