"""
What the live node holds after a long time: memory, threads, descriptors, files in /dev/shm.

    python benchmarks/soak.py --minutes 20 --json soak.json

Two cameras at 30 Hz through DDS; somebody watches the fused image and the overlay every other
minute. The table has a row a minute; the last line compares the end with minute 2.
"""

import argparse
import json
import os
from pathlib import Path
import tempfile
import time

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tpf_tracker_ros.ros.conversion import to_image_message
from tpf_tracker_ros.ros.dds import loopback_environment
from tpf_tracker_ros.ros.graph import spinning_node
from tpf_tracker_ros.ros.messages import Detection2DArray
from tpf_tracker_ros.ros.replay.node_process import node_process
from tpf_tracker_ros.ros.replay.replay import wait_active

HZ = 30
CAMERAS = {'rgb': '/camera/image_raw', 'thermal': '/lepton/image_raw'}


def resources(pid: int) -> dict[str, float]:
    """Return what a process holds now: resident MB, threads, open descriptors."""
    status = Path(f'/proc/{pid}/status').read_text()
    values = dict(line.split(':', 1) for line in status.splitlines())
    return {
        'resident_mb': int(values['VmRSS'].split()[0]) / 1e3,
        'threads': int(values['Threads']),
        'descriptors': len(os.listdir(f'/proc/{pid}/fd')),
    }


def shared_files(pid: int) -> set[Path]:
    """Return Fast DDS's files in /dev/shm that a process has mapped, its own and its partners'."""
    lines = Path(f'/proc/{pid}/maps').read_text().splitlines()
    return {Path(line.split()[-1]) for line in lines if '/dev/shm/fast' in line}


def scene(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a textured pair that is larger than what is cut from it."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 160, (height // 8 + 8, width // 8 + 8, 3), np.uint8)
    rgb = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    return rgb, 7200 + rgb.mean(-1).astype(np.uint16) * 2


def main() -> None:
    """Publish, sample, print, write; exits with 1 where something grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--minutes', type=float, default=20)
    parser.add_argument('--size', default='640x512')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    width, height = map(int, args.size.split('x'))
    os.environ.update(loopback_environment())
    os.environ.setdefault('ROS_DOMAIN_ID', str(os.getpid() % 90))
    rows, shared = [], set()
    with tempfile.TemporaryDirectory() as folder:
        box = f'{width // 2 - 12},{height // 2 - 10},24,20'
        log = Path(folder) / 'node.log'
        with (
            node_process(CAMERAS, {'init_box': box}, log) as process,
            spinning_node('soak') as (node, _),
        ):
            wait_active(node, process.check)
            rows = _run(node, process, args.minutes, (width, height))
            shared = shared_files(process.pid)
    left = [path for path in shared if path.exists()]
    first, last = rows[min(1, len(rows) - 1)], rows[-1]
    growth = last['resident_mb'] / first['resident_mb'] - 1
    steady = all(last[key] == first[key] for key in ('threads', 'descriptors'))
    print(
        f'resident memory {growth:+.1%} against minute 2; threads and descriptors '
        f'{"constant" if steady else "changed"}; '
        f'{len(left)} of {len(shared)} files left in /dev/shm'
    )
    if args.json:
        args.json.write_text(json.dumps({'rows': rows, 'growth': growth}, indent=1))
    raise SystemExit(int(growth > 0.02 or not steady))


def _run(node, process, minutes: float, size: tuple[int, int]) -> list[dict]:
    quality = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    publishers = {name: node.create_publisher(Image, t, quality) for name, t in CAMERAS.items()}
    counts = dict.fromkeys(('tracks', 'images'), 0)

    def count(name):
        def counted(_):
            counts[name] += 1

        return counted

    node.create_subscription(Detection2DArray, '/tpf_tracker/tracks', count('tracks'), 10)
    width, height = size
    rgb, thermal = scene(width, height)
    rows, watched, start, index = [], [], time.perf_counter(), 0
    print('minute  watched  resident MB  threads  descriptors  pairs  boxes  images')
    while index < minutes * 60 * HZ:
        x, y = (int(32 * (1 + f(index / 40))) for f in (np.sin, np.cos))
        stamp = Time(nanoseconds=time.time_ns()).to_msg()
        for name, image in (('rgb', rgb), ('thermal', thermal)):
            view = image[y:, x:][:height, :width].copy()
            left, top = width // 2 - 12, height // 2 - 10
            view[top:, left:][:20, :24] = 230 if name == 'rgb' else 7900
            message = to_image_message(view, Header(stamp=stamp, frame_id=name))
            publishers[name].publish(message)
        index += 1
        if index % (60 * HZ) == 0:
            process.check()
            rows.append({'watched': bool(watched), **resources(process.pid), **counts})
            row = rows[-1]
            print(
                f'{len(rows):6}  {"yes" if watched else "no":>7}  {row["resident_mb"]:11.1f}  '
                f'{row["threads"]:7}  {row["descriptors"]:11}  {60 * HZ:5}  {row["tracks"]:5}  '
                f'{row["images"]:6}',
                flush=True,
            )
            counts.update(dict.fromkeys(counts, 0))
            if watched:
                for subscription in watched:
                    node.destroy_subscription(subscription)
                watched = []
            else:
                watched = [
                    node.create_subscription(Image, f'/tpf_tracker/{each}', count('images'), 2)
                    for each in ('fused_image', 'overlay')
                ]
        time.sleep(max(0.0, start + index / HZ - time.perf_counter()))
    return rows


if __name__ == '__main__':
    main()
