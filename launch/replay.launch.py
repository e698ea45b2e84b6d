"""
A recording through the tracker, in simulated time; fails when no box comes out.

ros2 launch tpf_tracker_ros replay.launch.py bag:=flight.mcap init_box:=310,200,24,18

Plays by `ros2 bag play` where it is installed, else by the package's own player. The arguments of
tracker.launch.py are accepted, too; topics, transports and the first ground truth are taken from
the bag where they are not given, and what is given for pairing counts for the bag as well.
"""

from importlib.util import find_spec
from pathlib import Path
import sys

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetLaunchConfiguration,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from tpf_tracker_ros.bags.cameras import COMPRESSED
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.core.pairing import pairing_settings
from tpf_tracker_ros.ros.dds import image_environment
from tpf_tracker_ros.ros.parameters import TABLE
from tpf_tracker_ros.ros.replay.node_process import camera_info_topic

PLAYBACK = 'playback'
PAIRING = 'slop_ms', 'rgb_offset_ms', 'thermal_offset_ms'


def generate_launch_description() -> LaunchDescription:
    """Look into the bag, start the tracker for what is there, then play."""
    tracker = Path(__file__).with_name('tracker.launch.py')
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='recording: mcap file or rosbag2 folder'),
            DeclareLaunchArgument('rate', default_value='1.0', description='times real time'),
            RegisterEventHandler(OnProcessExit(on_exit=_ended)),
            OpaqueFunction(function=_prepare),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(tracker))),
        ]
    )


def _prepare(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Set the tracker's arguments that are not given from the bag; start the players."""
    given = context.launch_configurations
    used = given.get('mode') or 'rgb+thermal'
    topics = [given.get(camera) if camera in used else '' for camera in ('rgb', 'thermal')]
    pairing = {name: TABLE[name].parse(given[name]) for name in PAIRING if given.get(name)}
    sequence = BagSequence(Path(given['bag']), *topics, **pairing_settings(pairing))
    arguments = {'mode': '+'.join(sequence.topics)}
    for camera, topic in sequence.topics.items():
        arguments[camera] = topic.removesuffix(COMPRESSED)
        arguments[f'{camera}_info'] = camera_info_topic(topic)
        arguments[f'{camera}_transport'] = 'compressed' if topic.endswith(COMPRESSED) else 'raw'
    if sequence.ground_truth is not None:
        arguments['init_box'] = ','.join(map(str, sequence.ground_truth[0]))
    arguments = {name: given.get(name) or value for name, value in arguments.items()}
    arguments |= {'use_sim_time': 'true', 'namespace': ''}
    return [
        *(SetLaunchConfiguration(name, value) for name, value in arguments.items()),
        *_players(given['bag'], given['rate'], sequence.topics, pairing),
    ]


def _players(
    bag: str, rate: str, topics: dict[str, str], pairing: dict[str, float]
) -> list[ExecuteProcess]:
    playback = [sys.executable, '-m', 'tpf_tracker_ros.ros.replay.playback', bag, '--rate', rate]
    for camera in ('rgb', 'thermal'):
        playback += [f'--{camera}-topic', topics.get(camera, '')]
    for name, value in pairing.items():
        playback += [f'--{name.replace("_", "-")}', str(value)]
    commands = {PLAYBACK: playback}
    if find_spec('ros2bag') and find_spec('rosbag2_interfaces'):
        playback.append('--resume')
        options = ['--start-paused', '--disable-keyboard-controls', '--clock', '--rate', rate]
        commands['ros2_bag_play'] = ['ros2', 'bag', 'play', bag, *options]
    return [
        ExecuteProcess(name=name, cmd=cmd, additional_env=image_environment(), output='screen')
        for name, cmd in commands.items()
    ]


def _ended(event: ProcessExited, context: LaunchContext) -> list[Shutdown]:
    """Fail as any process did; the end of the playback is the end of all."""
    if context.is_shutdown:
        return []
    if event.returncode:
        raise RuntimeError(f'{event.process_name} ended with exit code {event.returncode}')
    return [Shutdown()] if event.process_name.startswith(PLAYBACK) else []
