"""
A campaign of faults against the live node over real DDS: what must never happen is counted.

    python benchmarks/faults.py --events 1000 --seed 0 --json faults.json     (7 minutes)
    python benchmarks/faults.py --events 10000 --seed 1                       (70 minutes)

Two cameras at 30 Hz, a user and a detector are played by this process; the node runs as its own.
Events are drawn from KINDS by the seed. Each frame carries its number in frame_id, so that every
pair, which the observed node writes down as it is submitted, and every box is checked against
what was sent. Counted are

- crashes: the node ended by itself, or wrote a traceback;
- wrong pairs: stamps further apart than slop_ms, or frames of other moments under right stamps;
- wrong headers: boxes under a header that no image had, or not in the order of the images;
- silences: more than 2 s without boxes, and no WARN or ERROR in the log or on /diagnostics;
- recovery: from the end of an event to the next boxes.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
import json
import os
from pathlib import Path
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from fault_kinds import both, BOX, Film, KINDS, NODE, SLOP_MS
import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from soak import shared_files
from std_msgs.msg import Header
from tpf_tracker_ros.ros.conversion import nanoseconds
from tpf_tracker_ros.ros.dds import loopback_environment
from tpf_tracker_ros.ros.graph import spinning_node
from tpf_tracker_ros.ros.messages import Detection2D, Detection2DArray, to_detection

HZ = 30
SILENCE = 2.0  # s
JITTER_MS = 12.0  # most that a kind moves the stamps of two images against each other
BEST_EFFORT = QoSProfile(depth=20, reliability=ReliabilityPolicy.BEST_EFFORT)
PAIRS = 'TPF_CAMPAIGN_PAIRS'  # environment: where the observed node writes its pairs


def observed_node(arguments: list[str]) -> None:
    """Run the node as it is, but write down each submitted pair's frames."""
    from tpf_tracker_ros.ros import run
    from tpf_tracker_ros.ros.worker import Worker

    submit = Worker.submit
    file = open(os.environ[PAIRS], 'a', buffering=1)  # noqa: SIM115

    def observed(self, paired):
        names = (f.header.frame_id if f else '' for f in (paired.rgb, paired.thermal))
        file.write(','.join(names) + '\n')
        submit(self, paired)

    Worker.submit = observed
    run.main(arguments)


class Campaign:
    """The node's process, the other side of the graph, and what is counted."""

    def __init__(self, node, folder: Path, seed: int) -> None:
        self.node, self.folder, self.random = node, folder, random.Random(seed)
        self.film = Film()
        self.counts = Counter()
        self.recoveries: dict[str, list[float]] = defaultdict(list)
        self.problems: list[str] = []
        self.process: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self._fault, self._afterwards = None, []
        self._sent: set[tuple[int, str]] = set()
        self._stamps: dict[str, int] = {}  # by frame_id
        self._by_arrival = 0  # number of the first pair that is not paired by arrival any more
        self._last_number = 0
        self._alive_from = self._last_track = self._last_word = time.perf_counter()
        self._silent = False
        self._waiting: list[tuple[str, float]] = []  # kind and end of events without boxes since
        self._log_at = self._pairs_at = 0
        self._ended, self._running = False, ''
        self.reconnect_cameras()
        self.infos = [node.create_publisher(CameraInfo, f'/{c}/camera_info', 10)
                      for c in ('rgb', 'thermal')]  # fmt: skip
        self.target = node.create_publisher(Detection2D, f'{NODE}/target', 10)
        self.detections = node.create_publisher(Detection2DArray, f'{NODE}/detections', 10)
        self._clients = {}
        node.create_subscription(Detection2DArray, f'{NODE}/tracks', self._tracked, 50)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnosed, 50)

    # ---- what events use ----

    def reconnect_cameras(self) -> None:
        """Take new publishers, as restarted drivers do."""
        before = getattr(self, 'cameras', {})
        self.cameras = {
            camera: self.node.create_publisher(Image, f'/{camera}/image_raw', BEST_EFFORT)
            for camera in ('rgb', 'thermal')
        }
        for publisher in before.values():
            self.node.destroy_publisher(publisher)

    def afterwards(self, action: Callable[[], object]) -> None:
        """Do this when the event ends."""
        self._afterwards.append(action)

    def pairs_by_arrival(self) -> None:
        """Stamps say nothing now, nor until the node believes them again."""
        self._by_arrival = self.film.index + 20

    def send_target(self, box: tuple, stamp: int) -> None:
        """Box x, y, w, h px in the image of this stamp in ns; 0: the next one."""
        header = Header(stamp=Time(nanoseconds=stamp).to_msg())
        self.target.publish(
            to_detection(np.array(box, float), 1.0, header, identity='', class_id='')
        )

    def set_parameters(self, values: dict) -> None:
        """Ask for these values."""
        parameters = [Parameter(n, value=v).to_parameter_msg() for n, v in values.items()]
        request = SetParameters.Request(parameters=parameters)
        self.call(SetParameters, 'set_parameters', request)

    def call(self, kind: type, name: str, request) -> None:
        """Ask without waiting for the answer."""
        client = self._clients.setdefault(name, self.node.create_client(kind, f'{NODE}/{name}'))
        if client.service_is_ready():
            client.call_async(request)

    def start_node(self) -> None:
        """Start the node; kill -9 the one before."""
        if self.process:
            self._check_process()
            segments = shared_files(self.process.pid) - shared_files(os.getpid())
            self.process.kill()
            self.process.wait()
            for path in segments:  # a killed process leaves them
                path.unlink(missing_ok=True)
        command = [sys.executable, __file__, '--observed', '--ros-args', '-p',
                   f'init_box:={",".join(map(str, BOX))}']  # fmt: skip
        self._ready = False
        with self._log.open('a') as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, PAIRS: str(self.folder / 'pairs.csv')},
            )  # fmt: skip
        self._alive_from = float('inf')  # until it says that it is ready

    # ---- the run ----

    def run(self, events: int) -> None:
        """Play so many events, then let everything recover."""
        film = threading.Thread(target=self._play, daemon=True)
        self.start_node()
        film.start()
        self._pause(1.0, until_ready=True)
        names = list(KINDS)
        weights = [KINDS[name][1] for name in names]
        for _ in range(events):
            (name,) = self.random.choices(names, weights)
            seconds, _, begin = KINDS[name]
            with self._lock:
                self._running, self._fault = name, begin(self)
            self._pause(seconds * self.random.uniform(0.5, 0.9), until_ready=not seconds)
            with self._lock:
                self._fault = None
                actions, self._afterwards = self._afterwards, []
            for action in actions:
                action()
            self.counts[name] += 1
            self._waiting.append((name, time.perf_counter()))
            self._pause(self.random.uniform(0.04, 0.16))
        self._pause(5.0, until_ready=True)
        self._ended = True
        film.join()
        self._check_process()
        self.process.send_signal(signal.SIGINT)
        if self.process.wait(20):
            self._problem('crashes', f'ended with {self.process.returncode} after SIGINT')

    def _play(self) -> None:
        start, tick = time.perf_counter(), 0
        while not self._ended:
            with self._lock:
                pair = self.film.frames()
                shots = self._fault(*pair) if self._fault else both(*pair)
                for camera, message in shots:
                    key = nanoseconds(message.header.stamp), message.header.frame_id
                    self._sent.add(key)
                    self._stamps[key[1]] = key[0]
                    self.cameras[camera].publish(message)
            tick += 1
            time.sleep(max(0.0, start + tick / HZ - time.perf_counter()))

    def _pause(self, seconds: float, *, until_ready: bool = False) -> None:
        """Wait and look; while the node starts events go on, but nothing is expected of it."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or (until_ready and not self._ready):
            self._read_log()
            self._read_pairs()
            self._check_silence()
            if self._ready or until_ready:
                self._check_process()
            time.sleep(0.02)
            if time.perf_counter() > end + 120:
                raise SystemExit('error: the node does not become ready')

    def _check_process(self) -> None:
        if self.process.poll() is not None:
            self._problem('crashes', f'the node ended with {self.process.returncode}')
            raise SystemExit(self._log.read_text()[-3000:])

    @property
    def _log(self) -> Path:
        return self.folder / 'node.log'

    def _read_log(self) -> None:
        with self._log.open() as file:
            file.seek(self._log_at)
            text = file.read()
            self._log_at = file.tell()
        if re.search(r'\[(WARN|ERROR)\]', text):
            self._last_word = time.perf_counter()
        _, _, trace = text.partition('Traceback')
        if trace:
            self._problem('crashes', trace[-500:])
        if re.search(r'tpf_tracker\]: ready', text):
            self._ready = True
            self._alive_from = self._last_track = time.perf_counter()

    def _read_pairs(self) -> None:
        path = self.folder / 'pairs.csv'
        if not path.exists():
            return
        with path.open() as file:
            file.seek(self._pairs_at)
            lines = file.read()
            self._pairs_at += len(lines.rpartition('\n')[0]) + 1 if '\n' in lines else 0
        for line in lines.split('\n')[:-1]:
            self.counts['pairs'] += 1
            rgb, thermal = line.split(',')
            if rgb and thermal:
                self._check_pair(rgb, thermal)

    def _check_pair(self, *names: str) -> None:
        """By the stamps they were sent with; by when they were taken where the clocks agree."""
        numbers, offsets = zip(*(map(int, name.split('/')[1:]) for name in names))
        stamps, taken = zip(
            *((self._stamps[n], self.film.taken[i]) for n, i in zip(names, numbers))
        )
        if min(numbers) < self._by_arrival:
            return
        self.counts['checked pairs'] += 1
        apart = abs(stamps[0] - stamps[1]) / 1e6
        really = abs(taken[0] - taken[1]) / 1e6 if offsets[0] == offsets[1] else 0.0
        if apart > SLOP_MS or really > SLOP_MS + JITTER_MS:
            self._problem('wrong pairs', f'{names}: {apart:.1f} ms apart, taken {really:.1f} ms')

    @property
    def _current(self) -> str:
        """Name the latest events without boxes since, and the last one begun."""
        return ', '.join([*(name for name, _ in self._waiting[-3:]), f'in {self._running!r}'])

    def _tracked(self, message: Detection2DArray) -> None:
        now, stamp = time.perf_counter(), nanoseconds(message.header.stamp)
        self._last_track, self._silent = now, False
        self.counts['answered pairs'] += 1
        self.counts['boxes'] += len(message.detections)
        if (stamp, message.header.frame_id) not in self._sent:
            self._problem('wrong headers', f'{message.header.frame_id} at {stamp} was not sent')
        number = int(message.header.frame_id.split('/')[1])
        if number <= self._last_number and number > self._by_arrival:
            self._problem('wrong headers', f'{number} after {self._last_number}')
        self._last_number = number
        for name, ended in self._waiting:
            self.recoveries[name].append(now - ended)
        self._waiting.clear()

    def _diagnosed(self, message: DiagnosticArray) -> None:
        if any(status.level[0] > 0 for status in message.status):
            self._last_word = time.perf_counter()

    def _check_silence(self) -> None:
        now = time.perf_counter()
        since = max(self._last_track, self._alive_from)
        if now - since > SILENCE + 0.1 and self._last_word < since and not self._silent:
            self._silent = True
            self._problem('silences', f'{now - since:.1f} s without boxes and without a word')

    def _problem(self, column: str, text: str) -> None:
        self.counts[column] += 1
        if len(self.problems) < 50:
            self.problems.append(f'{column}: {text} (lately: {self._current})')
            print(self.problems[-1], file=sys.stderr, flush=True)


COLUMNS = 'crashes', 'wrong pairs', 'wrong headers', 'silences'


def table(campaign: Campaign) -> str:
    """Return the counts and the recovery times by kind, as Markdown."""
    head = ['events', 'kinds', 'pairs', 'checked pairs', 'answered pairs', *COLUMNS]
    events = sum(campaign.counts[name] for name in KINDS)
    kinds = sum(campaign.counts[name] > 0 for name in KINDS)
    row = [events, kinds, *(campaign.counts[name] for name in head[2:])]
    lines = [' | '.join(head), '|'.join(['---'] * len(head)), ' | '.join(map(str, row)), '']
    lines += ['event | times | recovered | p50 s | p95 s | max s', '---|---|---|---|---|---']
    for name in sorted(KINDS):
        times = campaign.recoveries[name] or [np.nan]
        p50, p95 = np.percentile(times, (50, 95))
        lines.append(
            f'{name} | {campaign.counts[name]} | {len(campaign.recoveries[name])} | '
            f'{p50:.2f} | {p95:.2f} | {max(times):.2f}'
        )
    return '\n'.join(f'| {line} |' if line else '' for line in lines)


def main() -> None:
    """Run the campaign and print its table; exits with 1 where a column is not zero."""
    if '--observed' in sys.argv:
        observed_node(sys.argv)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--events', type=int, default=1000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path)
    parser.add_argument('--log', type=Path, help="where the node's log is kept")
    args = parser.parse_args()
    os.environ.update(loopback_environment())
    os.environ.setdefault('ROS_DOMAIN_ID', str(os.getpid() % 90))
    start = time.perf_counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node, _ = stack.enter_context(spinning_node('campaign'))
        campaign = Campaign(node, folder, args.seed)
        try:
            campaign.run(args.events)
        finally:
            if campaign.process and campaign.process.poll() is None:
                campaign.process.kill()
            if args.log:
                args.log.write_text((folder / 'node.log').read_text())
    print(f'seed {args.seed}, {time.perf_counter() - start:.0f} s\n\n{table(campaign)}')
    if args.json:
        args.json.write_text(
            json.dumps({'counts': campaign.counts, 'problems': campaign.problems}, indent=1)
        )
    sys.exit(int(any(campaign.counts[column] for column in COLUMNS)))


if __name__ == '__main__':
    main()
