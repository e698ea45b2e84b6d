"""
The tracker node on a robot's two cameras; `--show-args` lists all arguments.

ros2 launch tpf_tracker_ros tracker.launch.py rgb:=/camera/image_raw thermal:=/lepton/image_raw
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from tpf_tracker_ros.ros.dds import config_file, image_environment
from tpf_tracker_ros.ros.parameters import TABLE
import yaml

ARGUMENTS = {
    'rgb': ('rgb/image_raw', 'topic of the RGB images, without /compressed'),
    'thermal': ('thermal/image_raw', 'topic of the thermal images, without /compressed'),
    'rgb_info': ('rgb/camera_info', 'topic of the RGB CameraInfo'),
    'thermal_info': ('thermal/camera_info', 'topic of the thermal CameraInfo'),
    'namespace': ('', 'namespace of the node'),
    'use_sim_time': ('false', 'take the time from /clock'),
    'rviz': ('false', 'show the overlay and the boxes in RViz'),
    'console': ('false', 'serve a page for the browser: see, give the target, steer'),
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
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        arguments=['-d', str(config_file('tracker.rviz'))],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
    console = Node(
        package='tpf_tracker_ros',
        executable='console',
        name='console',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            {
                'address': LaunchConfiguration('console_address'),
                'port': ParameterValue(LaunchConfiguration('console_port'), value_type=int),
            }
        ],
        additional_env=image_environment(),
        output='screen',
        condition=IfCondition(LaunchConfiguration('console')),
    )
    return LaunchDescription([*declared, OpaqueFunction(function=_tracker), rviz, console])


def _tracker(context: LaunchContext) -> list[Node]:
    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    parameters = {'use_sim_time': yaml.safe_load(given('use_sim_time'))}
    for name, row in TABLE.items():
        if text := given(name):
            parameters[name] = text if isinstance(row.default, str) else yaml.safe_load(text)
    return [
        Node(
            package='tpf_tracker_ros',
            executable='tracker',
            name='tpf_tracker',
            namespace=given('namespace'),
            parameters=[given('params_file'), parameters],
            remappings=[
                ('rgb/image_raw', given('rgb')),
                ('thermal/image_raw', given('thermal')),
                ('rgb/camera_info', given('rgb_info')),
                ('thermal/camera_info', given('thermal_info')),
            ],
            additional_env=image_environment(),
            output='screen',
            emulate_tty=True,
        )
    ]
