import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import pytest
from rclpy.serialization import deserialize_message
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tpf_tracker_ros.bags.storage import Bag
from tpf_tracker_ros.bags.writer import BagWriter
from tpf_tracker_ros.ros.graph import spinning_node, wait_until
from tpf_tracker_ros.ros.messages import Detection2DArray
from tpf_tracker_ros.ros.replay.recorder import Recorder

START = 1_700_000_000_000_000_000
TRACKS, FUSED, STATUS = '/tpf_tracker/tracks', '/tpf_tracker/fused_image', '/tpf_tracker/status'
TOPICS = {STATUS: DiagnosticArray, FUSED: Image, TRACKS: Detection2DArray}


def messages(stamp: int) -> dict:
    header = Header(stamp=Time(nanoseconds=stamp).to_msg(), frame_id='rgb_camera')
    return {
        TRACKS: Detection2DArray(header=header),
        FUSED: Image(header=header, height=1, width=3, step=9, encoding='rgb8', data=bytes(9)),
        STATUS: DiagnosticArray(header=header, status=[DiagnosticStatus(name=str(stamp))]),
    }


def publish_and_record(bag: BagWriter | None, stamps: list[int]) -> tuple[Recorder, list, list]:
    sent, times = [], []
    with spinning_node('test_recorder') as (node, _):
        publishers = {name: node.create_publisher(kind, name, 10) for name, kind in TOPICS.items()}
        recorder = Recorder(node, TOPICS, bag=bag)
        wait_until(
            lambda: all(each.get_subscription_count() for each in publishers.values()), 10, 'match'
        )
        for stamp in stamps:
            sent.append(messages(stamp))
            times.append(time.perf_counter())
            for name, message in sent[-1].items():
                publishers[name].publish(message)
            time.sleep(0.02)
        wait_until(
            lambda: all(len(each) == len(stamps) for each in recorder.arrivals.values()), 5, 'all'
        )
    return recorder, sent, times


def test_messages_and_their_arrival_are_kept_and_images_are_not():
    stamps = [START + number for number in range(5)]
    recorder, sent, times = publish_and_record(None, stamps)
    for name in TRACKS, STATUS:
        assert recorder.messages(name) == [each[name] for each in sent]
    for arrivals in recorder.arrivals.values():
        assert [each.stamp for each in arrivals] == stamps
        assert [each.time for each in arrivals] == pytest.approx(times, abs=0.5)
        assert all(each.time > at for each, at in zip(arrivals, times))
    assert not any(each.data for each in recorder.arrivals[FUSED])


def test_boxes_and_images_are_in_the_bag_by_their_own_stamps(tmp_path):
    stamps = [START + number * 33_000_000 for number in range(5)]
    with BagWriter(tmp_path / 'tracks.mcap') as writer:
        _, sent, _ = publish_and_record(writer, stamps)
    bag = Bag(tmp_path / 'tracks.mcap')
    assert {name: topic.kind for name, topic in bag.topics.items()} == {
        TRACKS: 'vision_msgs/msg/Detection2DArray',
        FUSED: 'sensor_msgs/msg/Image',
    }
    for name in TRACKS, FUSED:
        written = list(bag.messages([name]))
        assert [message.time for message in written] == stamps
        assert [deserialize_message(message.data, TOPICS[name]) for message in written] == [
            each[name] for each in sent
        ]
