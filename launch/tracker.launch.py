"""
The tracker node on a robot's two cameras; `--show-args` lists all arguments.

ros2 launch tpf_tracker_ros tracker.launch.py rgb:=/camera/image_raw thermal:=/lepton/image_raw
"""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from ament_index_python.packages import get_package_prefix, PackageNotFoundError
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from tpf_tracker_ros.console.process import HISTORY_MB
from tpf_tracker_ros.ros.dds import config_file, image_environment, PROFILES
from tpf_tracker_ros.ros.parameters import TABLE
from tpf_tracker_ros.ros.replay.node_process import camera_info_topic

ARGUMENTS = {
    'rgb': ('rgb/image_raw', 'topic of the RGB images, without /compressed'),
    'thermal': ('thermal/image_raw', 'topic of the thermal images, without /compressed'),
    'rgb_info': ('', 'topic of the RGB CameraInfo; empty: camera_info beside the images'),
    'thermal_info': ('', 'topic of the thermal CameraInfo; empty: camera_info beside the images'),
    'namespace': ('', 'namespace of the node'),
    'use_sim_time': ('false', 'take the time from /clock'),
    'respawn': ('false', 'start the tracker again when it dies; else the launch ends as it did'),
    'dds_profile': (
        'fastdds.xml',
        f'of config/, for Fast DDS: {", ".join(PROFILES.values())} (4K images); the camera '
        'drivers need the same',
    ),
    'rviz': ('false', 'show the overlay and the boxes in RViz'),
    'console': (
        'false',
        'serve a page for the browser: see, give the target, steer; target_history_mb is then '
        f'{HISTORY_MB:g} where it is not given, so that drawing may take its time',
    ),
    'console_address': ('127.0.0.1', 'the page listens on; others ask viewers for a token'),
    'console_port': ('8321', 'of the page'),
    'params_file': (
        str(config_file('tracker.yaml')),
        'parameters, by default those in [brackets] below; arguments that are not empty win',
    ),
}


def generate_launch_description() -> LaunchDescription:
    """Declare one argument for each row of the parameter table, besides those above."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    for row in TABLE.values():
        allowed = f' ({row.allowed})' if row.allowed else ''
        description = f'{row.description}{allowed} [{row.default}]'
        declared.append(DeclareLaunchArgument(row.name, default_value='', description=description))
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Check what can be checked before anything runs, then start the tracker and what shows it."""

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def asked(name: str) -> bool:
        if (value := given(name).lower()) not in ('true', 'false'):
            raise RuntimeError(f'{name} is {value!r}; it must be true or false')
        return value == 'true'

    _warn_of_typing_errors(context)
    profile, file, port = given('dds_profile'), given('params_file'), given('console_port')
    if profile not in PROFILES.values():
        raise RuntimeError(f'dds_profile {profile!r}: choose {" or ".join(PROFILES.values())}')
    if not Path(file).is_file():
        raise RuntimeError(f'params_file {file} does not exist')
    if not port.isdecimal() or int(port) > 65535:
        raise RuntimeError(f'console_port is {port!r}; it must be 0 to 65535')
    environment = image_environment(profile=profile)
    started = [_tracker(given, asked, environment)]
    if asked('rviz'):
        started.append(_rviz(given, environment))
    if asked('console'):
        started.append(_console(given, environment))
    if not asked('respawn'):
        started.insert(0, RegisterEventHandler(OnProcessExit(on_exit=_tracker_ended)))
    return started


def _warn_of_typing_errors(context: LaunchContext) -> None:
    """Say which arguments are none, but nearly: launch drops what nobody has declared."""
    known = {*ARGUMENTS, *TABLE}
    for name in context.launch_configurations:
        if name not in known and (near := get_close_matches(name, known, n=1, cutoff=0.8)):
            get_logger('tracker.launch.py').warning(
                f'there is no argument {name}; did you mean {near[0]}?'
            )


def _tracker(
    given: Callable[[str], str], asked: Callable[[str], bool], environment: dict[str, str]
) -> Node:
    parameters = {'use_sim_time': asked('use_sim_time')}
    if asked('console'):
        parameters['target_history_mb'] = HISTORY_MB
    for name, row in TABLE.items():
        if text := given(name):
            parameters[name] = row.parse(text)
    remappings = []
    for camera in ('rgb', 'thermal'):
        topic = given(camera)
        remappings += [
            (f'{camera}/image_raw', topic),
            (f'{camera}/camera_info', given(f'{camera}_info') or camera_info_topic(topic)),
        ]
    return Node(
        package='tpf_tracker_ros',
        executable='tracker',
        name='tpf_tracker',
        namespace=given('namespace'),
        parameters=[given('params_file'), parameters],
        remappings=remappings,
        additional_env=environment,
        respawn=asked('respawn'),
        respawn_delay=1.0,
        output='screen',
        emulate_tty=True,
    )


def _rviz(given: Callable[[str], str], environment: dict[str, str]) -> Node:
    """Return RViz in the tracker's namespace, where the topics of its configuration are."""
    try:
        get_package_prefix('rviz2')
    except PackageNotFoundError:
        raise RuntimeError(
            'rviz is true, but rviz2 is not installed; install ros-$ROS_DISTRO-rviz2, '
            'or leave rviz out'
        ) from None
    return Node(
        package='rviz2',
        executable='rviz2',
        namespace=given('namespace'),
        arguments=['-d', str(config_file('tracker.rviz'))],
        additional_env=environment,
    )


def _tracker_ended(event: ProcessExited, context: LaunchContext) -> list[Shutdown]:
    """End the launch with the tracker, which it is for, and fail as it did."""
    if context.is_shutdown or not event.process_name.startswith('tracker'):
        return []
    if event.returncode:
        raise RuntimeError(f'the tracker ended with exit code {event.returncode}')
    return [Shutdown(reason='the tracker ended')]


def _console(given: Callable[[str], str], environment: dict[str, str]) -> Node:
    """Return the page of the tracker in its namespace."""
    return Node(
        package='tpf_tracker_ros',
        executable='console',
        name='console',
        namespace=given('namespace'),
        parameters=[{'address': given('console_address'), 'port': int(given('console_port'))}],
        additional_env=environment,
        output='screen',
        emulate_tty=True,
    )
