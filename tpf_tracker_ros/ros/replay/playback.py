"""
A recording for a tracker that somebody else started: the player's side of replay.launch.py.

`python -m tpf_tracker_ros.ros.replay.playback BAG` waits until the node is active, plays the bag
with /clock, waits for the last boxes, and exits non-zero when there was none. With --resume a
paused `ros2 bag play` plays instead.
"""

from pathlib import Path
import sys
import time

import click
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.pairing import pairing_settings
from tpf_tracker_ros.ros.graph import spinning_node, wait_until
from tpf_tracker_ros.ros.messages import Detection2DArray
from tpf_tracker_ros.ros.replay.player import Player
from tpf_tracker_ros.ros.replay.recorder import Recorder
from tpf_tracker_ros.ros.replay.replay import (
    drain,
    MATCH_TIMEOUT,
    play,
    played_topics,
    STATUS,
    TRACKS,
    wait_active,
)

DAY = 86400.0  # s, longer than any recording


@click.command()
@click.argument('bag', type=click.Path(path_type=Path))
@click.option(
    '--rgb-topic', help="Topic in the bag; '' leaves the camera out. [found by its pixels]"
)
@click.option(
    '--thermal-topic', help="Topic in the bag; '' leaves the camera out. [found by its pixels]"
)
@click.option('--slop-ms', default=15.0, help='Most ms between paired images.')
@click.option('--rgb-offset-ms', default=0.0, help='Added to RGB stamps for pairing.')
@click.option('--thermal-offset-ms', default=0.0, help='Added to thermal stamps for pairing.')
@click.option('--rate', default=1.0, help='Times as fast as recorded.')
@click.option('--resume', is_flag=True, help='Resume a paused `ros2 bag play` instead of playing.')
def main(
    bag: Path,
    rgb_topic: str | None,
    thermal_topic: str | None,
    rate: float,
    resume: bool,
    **pairing: float,
) -> None:
    """Play BAG to a running tracker node and count its boxes."""
    try:
        sequence = BagSequence(bag, rgb_topic, thermal_topic, **pairing_settings(pairing))
        with spinning_node('tpf_playback') as (node, spinning):

            def check() -> None:
                if spinning.done():
                    spinning.result()

            recorder = Recorder(
                node, {TRACKS: Detection2DArray, STATUS: DiagnosticArray}, bag=None
            )
            wait_active(node, check)
            if resume:
                _resume(node, list(sequence.topics.values()))
            else:
                player = Player(node, played_topics(sequence), clock=True)
                player.wait_for_subscribers(MATCH_TIMEOUT, check=check)
                play(player, sequence, rate, check)
            drain(recorder, sequence.stamps[-1], check)
        messages = recorder.messages(TRACKS)
    except TpfError as error:
        sys.exit(f'error: {error}')
    boxes = sum(bool(message.detections) for message in messages)
    print(f'{len(sequence)} pairs played, {len(messages)} answered, {boxes} with a box')
    if not boxes:
        sys.exit('error: the tracker published no box')


def _resume(node: Node, topics: list[str]) -> None:
    """Let a paused `ros2 bag play` go on, and wait until it has ended."""
    from rosbag2_interfaces.srv import Resume

    client = node.create_client(Resume, '/rosbag2_player/resume')

    def playing() -> bool:
        return all(node.count_publishers(topic) for topic in topics)

    otherwise = f'ros2 bag play does not publish {" and ".join(topics)}'
    wait_until(lambda: playing() and client.service_is_ready(), MATCH_TIMEOUT, otherwise)
    time.sleep(1.0)  # whether player and tracker have found each other cannot be seen from here
    client.call_async(Resume.Request())
    wait_until(lambda: not playing(), DAY, 'ros2 bag play does not end')


if __name__ == '__main__':
    main()
