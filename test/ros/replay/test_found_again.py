"""On a bag through the live node: LOST, then a detector's box on ~/detections, found again."""

from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from std_msgs.msg import Header
from tpf_tracker_ros.bags.convert import sequence_to_bag
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.core.boxes import iou
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.ros.conversion import nanoseconds
from tpf_tracker_ros.ros.graph import spinning_node
from tpf_tracker_ros.ros.messages import Detection2D, Detection2DArray, to_box, to_detection
from tpf_tracker_ros.ros.outputs import LATCHED
from tpf_tracker_ros.ros.replay.node_process import node_process
from tpf_tracker_ros.ros.replay.player import Player
from tpf_tracker_ros.ros.replay.recorder import Recorder
from tpf_tracker_ros.ros.replay.replay import (
    drain,
    play,
    played_topics,
    STATUS,
    TRACKS,
    wait_active,
)

HIDDEN = range(15, 40)


class Interrupted(WorldSequence):
    """A film in which both cameras show nothing but noise for a while."""

    def __iter__(self):
        rng = np.random.default_rng(0)
        for index, pair in enumerate(super().__iter__()):
            if index in HIDDEN:
                rgb = rng.integers(0, 256, pair.rgb.shape, np.uint8)
                thermal = rng.integers(7000, 8000, pair.thermal.shape).astype(np.uint16)
                pair = replace(pair, rgb=rgb, thermal=thermal)
            yield pair


def test_a_lost_target_is_found_again_by_a_detector(tmp_path):
    sequence_to_bag(Interrupted(1, frames=60, size=(320, 256), objects=1), tmp_path / 'film.mcap')
    sequence = BagSequence(tmp_path / 'film.mcap')
    truth = dict(zip(sequence.stamps, sequence.ground_truth))
    init = ','.join(map(str, sequence.ground_truth[0]))
    states = []
    settings = {'init_box': init, 'tracker.lost_after': 6, 'tracker.lost_score': 0.35}
    with (
        node_process(sequence.topics, settings, tmp_path / 'node.log') as process,
        spinning_node('detector') as (node, _),
    ):
        detections = node.create_publisher(Detection2DArray, '/tpf_tracker/detections', 10)
        recorder = Recorder(node, {TRACKS: Detection2DArray, STATUS: DiagnosticArray}, bag=None)
        node.create_subscription(
            Detection2D,
            '/tpf_tracker/state',
            states.append,
            LATCHED,
        )

        def detect(message):
            """See the target wherever it is shown, as any detector beside the tracker would."""
            stamp = nanoseconds(message.header.stamp)
            if stamp > sequence.stamps[HIDDEN[-1]]:
                found = to_detection(truth[stamp], 0.9, Header(), identity='', class_id='target')
                array = Detection2DArray(header=message.header, detections=[found])
                detections.publish(array)

        node.create_subscription(Detection2DArray, TRACKS, detect, 10)
        player = Player(node, played_topics(sequence), clock=True)
        wait_active(node, process.check)
        player.wait_for_subscribers(10, check=process.check)
        play(player, sequence, 0.3, process.check)
        drain(recorder, sequence.stamps[-1], process.check)
    words = [(state.results[0].hypothesis.class_id, state.id) for state in states]
    lost = words.index(('LOST', '1'))
    found = lost + words[lost:].index(('TRACKING', '1'))  # the same target
    since = nanoseconds(states[found].header.stamp)
    # Pairs that were out before the detection came have no box.
    after = [m for m in recorder.messages(TRACKS) if nanoseconds(m.header.stamp) > since]
    tracked = next(message for message in after if message.detections)
    box, stamp = to_box(tracked.detections[0]), nanoseconds(tracked.header.stamp)
    assert iou(box, truth[stamp]) > 0.4
    log = (tmp_path / 'node.log').read_text()
    assert 'target 1 lost' in log and 'target 1 found again' in log
