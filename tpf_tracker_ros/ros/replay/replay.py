"""
A recording through the live node: node process, player and recorder in one run.

The node runs as its own process, as it would on a robot. This process plays the bag, records what
comes back and takes both times of a latency from its own steady clock.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory
import time

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.bags.writer import BagWriter
from tpf_tracker_ros.core.boxes import check_box
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.pairing import FramePairer
from tpf_tracker_ros.ros.dds import loopback_environment, shared_memory_shortage
from tpf_tracker_ros.ros.graph import POLL, spinning_node, wait_until
from tpf_tracker_ros.ros.messages import (
    Detection2D,
    Detection2DArray,
    to_box,
    to_detection,
    to_score,
)
from tpf_tracker_ros.ros.replay.node_process import camera_info_topic, node_process
from tpf_tracker_ros.ros.replay.player import Played, Player
from tpf_tracker_ros.ros.replay.recorder import Recorder
from tpf_tracker_ros.system.process import stolen_seconds
from tqdm import tqdm

NODE = '/tpf_tracker'
TRACKS, FUSED, STATUS = f'{NODE}/tracks', f'{NODE}/fused_image', f'{NODE}/status'
KINDS = {f'sensor_msgs/msg/{kind.__name__}': kind for kind in (Image, CompressedImage, CameraInfo)}
START_TIMEOUT = 120.0  # s: loading and warming up a large model on a slow machine
ASK_AGAIN = 2.0  # s
MATCH_TIMEOUT = 10.0  # s: on loopback discovery takes a fraction of one
QUIET = 2.0  # s without boxes after the last image: nothing more will come

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """
    What came of a recording that went through the live node; one row for each pair.

    stamps: int64 (N,) ns. boxes: float64 (N, 4) x, y, w, h px, NaN where the pair was dropped or
    the target was lost. scores: float64 (N,), NaN likewise.
    latency_ms: float64 (N,), from publishing the later image of the pair to the arrival of its
    boxes, both by time.perf_counter() in the playing process; NaN where the pair was dropped.
    lateness_ms: 95th percentile of how far images went out behind the recorded pace.
    stolen: share of the processor time that a virtual machine's host gave to others meanwhile.
    status: what the node said of itself at the end, by name.
    """

    stamps: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    latency_ms: np.ndarray
    lateness_ms: float
    stolen: float
    status: dict[str, str]

    @property
    def dropped(self) -> np.ndarray:
        """Which pairs (N,) brought no message, because the node was busy with older ones."""
        return np.isnan(self.latency_ms)


def replay(
    sequence: BagSequence,
    init: np.ndarray,
    *,
    out: Path | None = None,
    rate: float = 1.0,
    parameters: Mapping[str, object] | None = None,
    first: int = 0,
    keep_playing: bool = False,
) -> Run:
    """
    Play a recording to a tracker node, started for it, and collect what it publishes.

    init: box (4,) x, y, w, h px in pair number `first`. out: folder for tracks.mcap (boxes, fused
    images) and the node's log; without it, no fused images are asked for.
    rate: times as fast as recorded. parameters: of the node. keep_playing: for who watches, play
    it again and again until Ctrl-C; the first time counts.
    Raises TpfError when the box or the bag is bad, or the node does not start or dies.
    """
    path = sequence.bag.path
    if any(sequence.bag.topics[topic].encoding == 'ros1' for topic in sequence.topics.values()):
        raise TpfError(
            f'{path} holds messages of ROS 1; convert it: rosbags-convert --src {path} --dst DIR'
        )
    check_box(init, next(islice(sequence, first, None)).size)
    os.environ.update(loopback_environment())
    if shortage := shared_memory_shortage():
        log.warning(shortage)
    recorded = {STATUS: DiagnosticArray, TRACKS: Detection2DArray}
    with ExitStack() as stack:
        bag = None
        if out:
            recorded[FUSED] = Image
            bag = stack.enter_context(BagWriter(out / 'tracks.mcap', overwrite=True))
        folder = out or Path(stack.enter_context(TemporaryDirectory()))
        process = stack.enter_context(
            node_process(sequence.topics, parameters or {}, folder / 'node.log')
        )
        node, spinning = stack.enter_context(spinning_node('tpf_replay'))

        def check() -> None:
            process.check()
            if spinning.done():
                spinning.result()

        recorder = Recorder(node, recorded, bag=bag)
        player = Player(node, played_topics(sequence), clock=True)
        wait_active(node, check)
        player.wait_for_subscribers(MATCH_TIMEOUT, check=check)
        _send_target(node, init, sequence.stamps[first], check)
        before, start = stolen_seconds(), time.perf_counter()
        played = play(player, sequence, rate, check)
        stolen = (stolen_seconds() - before) / (time.perf_counter() - start)
        drain(recorder, sequence.stamps[-1], check)
        run = _collect(sequence, played, recorder, stolen)
        recorder.close()
        with suppress(KeyboardInterrupt):
            while keep_playing:
                play(player, sequence, rate, check)
    return run


def played_topics(sequence: BagSequence) -> dict[str, type]:
    """Return the cameras' images and information, as far as the bag has them."""
    there, images = sequence.bag.topics, list(sequence.topics.values())
    names = images + [camera_info_topic(image) for image in images]
    return {name: KINDS[there[name].kind] for name in names if name in there}


def wait_active(node: Node, check: Callable[[], None]) -> None:
    """Wait until the node's lifecycle state is active, which it becomes after its warm-up."""
    client = node.create_client(GetState, f'{NODE}/get_state')
    asked: Future | None = None
    since = 0.0

    def active() -> bool:
        nonlocal asked, since
        now = time.perf_counter()
        # An answer is lost when it comes before both sides have discovered each other: ask again.
        if client.service_is_ready() and (asked is None or now - since > ASK_AGAIN):
            asked, since = client.call_async(GetState.Request()), now
        if asked is None or not asked.done():
            return False
        answer, asked = asked.result(), None
        return answer.current_state.id == State.PRIMARY_STATE_ACTIVE

    otherwise = f'the node did not become active within {START_TIMEOUT:g} s'
    wait_until(active, START_TIMEOUT, otherwise, check=check)
    if node.count_publishers(TRACKS) > 1:
        raise TpfError(f'another node publishes {TRACKS}; stop it or set another ROS_DOMAIN_ID')


def _send_target(node: Node, box: np.ndarray, stamp: int, check: Callable[[], None]) -> None:
    header = Header(stamp=Time(nanoseconds=stamp).to_msg())
    target = to_detection(box, 1.0, header, identity='', class_id='target')
    publisher = node.create_publisher(Detection2D, f'{NODE}/target', 1)
    otherwise = f'the node did not subscribe to {NODE}/target'
    wait_until(publisher.get_subscription_count, MATCH_TIMEOUT, otherwise, check=check)
    publisher.publish(target)
    publisher.wait_for_all_acked(Duration(seconds=MATCH_TIMEOUT))


def play(player: Player, sequence: BagSequence, rate: float, check: Callable[[], None]) -> Played:
    """Play the player's topics of the bag, with a progress bar; check is called meanwhile."""
    messages = ((x.topic, x.time, x.data) for x in sequence.bag.messages(player.topics))
    total = sum(sequence.bag.topics[name].count for name in player.topics)
    with tqdm(total=total, desc='replay', unit=' messages', disable=None) as bar:

        def progress() -> None:
            check()
            bar.update()

        return player.play(messages, rate=rate, progress=progress)


def drain(recorder: Recorder, last_stamp: int, check: Callable[[], None]) -> None:
    """Wait for the boxes of the last pair, or until none come any more; then for a status."""
    tracks, latest = recorder.arrivals[TRACKS], time.perf_counter()
    while time.perf_counter() - latest < QUIET:
        check()
        if tracks:
            latest = max(latest, tracks[-1].time)
            if tracks[-1].stamp >= last_stamp:
                break
        time.sleep(POLL)
    statuses = recorder.arrivals[STATUS]
    count = len(statuses)
    otherwise = f'the node publishes no {STATUS}'
    wait_until(lambda: len(statuses) > count, MATCH_TIMEOUT, otherwise, check=check)


def _collect(sequence: BagSequence, played: Played, recorder: Recorder, stolen: float) -> Run:
    # The pairs that went out, each with the two moments of publishing.
    cameras = {topic: camera for camera, topic in sequence.topics.items()}
    pairer = FramePairer(mode='+'.join(sequence.topics), **sequence.pairing)
    pairs = []
    for (topic, stamp), moment in played.times.items():
        if topic in cameras:
            pairs += pairer.add(cameras[topic], stamp, moment)
    sent = {
        pair.stamp: max(moment for moment in (pair.rgb, pair.thermal) if moment is not None)
        for pair in pairs + pairer.flush()
    }
    count = len(sequence)
    row = {stamp: number for number, stamp in enumerate(sequence.stamps) if stamp in sent}
    boxes = np.full((count, 4), np.nan)
    scores, latency_ms = np.full((2, count), np.nan)
    for arrival, message in zip(recorder.arrivals[TRACKS], recorder.messages(TRACKS)):
        if arrival.stamp not in row:
            continue  # after a jump of time, where the sequence ends
        number = row[arrival.stamp]
        latency_ms[number] = 1e3 * (arrival.time - sent[arrival.stamp])
        for detection in message.detections:
            boxes[number], scores[number] = to_box(detection), to_score(detection)
    status = recorder.messages(STATUS)[-1].status[0]
    return Run(
        stamps=np.array(sequence.stamps),
        boxes=boxes,
        scores=scores,
        latency_ms=latency_ms,
        lateness_ms=played.lateness_ms(95),
        stolen=stolen,
        status={each.key: each.value for each in status.values},
    )
