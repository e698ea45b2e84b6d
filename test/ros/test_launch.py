"""The launch files: what they name always, what they do where the real `launch` is installed."""

import ast
from contextlib import contextmanager
import importlib.util
import os
from pathlib import Path
import signal
import subprocess
import sys

import pytest
from tpf_tracker_ros.bags.convert import sequence_to_bag
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.ros.parameters import TABLE

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / 'launch'
needs_launch = pytest.mark.skipif(
    not importlib.util.find_spec('launch_ros'),
    reason='needs launch and launch_ros, which come with a ROS 2 installation',
)
# As `ros2 launch` runs a file, without needing ros2cli.
RUN = """
import sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [tuple(each.split(':=', 1)) for each in sys.argv[2:]]
source = PythonLaunchDescriptionSource(sys.argv[1])
service = LaunchService(noninteractive=True)  # as without a terminal
service.include_launch_description(
    IncludeLaunchDescription(source, launch_arguments=arguments))
sys.exit(service.run())
"""


def own_arguments(name):
    """Every argument that the file declares beside the parameters, read from its code."""
    names = []
    for node in ast.walk(ast.parse((LAUNCH / name).read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == 'ARGUMENTS':
            names += ast.literal_eval(ast.List(node.value.keys, ast.Load()))
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'DeclareLaunchArgument':
            names += [a.value for a in node.args if isinstance(a, ast.Constant)]
    return names


@pytest.mark.parametrize(('name', 'one'), [('tracker', 'params_file'), ('replay', 'bag')])
def test_every_argument_is_documented(name, one):
    names = own_arguments(f'{name}.launch.py')
    section = (ROOT / 'docs' / 'ros.md').read_text().split('## Launch files')[1].split('\n## ')[0]
    assert one in names
    assert [each for each in names if f'{each}`' not in section] == []


@needs_launch
@pytest.mark.parametrize('name', ['tracker', 'replay'])
def test_show_args_lists_every_parameter(name):
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(LAUNCH / f'{name}.launch.py'))
    description = source.try_get_launch_description_without_context()
    listed = {argument.name for argument in description.get_launch_arguments()}
    assert listed == {
        *TABLE,
        *own_arguments('tracker.launch.py'),
        *own_arguments(f'{name}.launch.py'),
    }


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """Return an environment in which the package is installed as colcon does it."""
    prefix = tmp_path_factory.mktemp('prefix')
    marker = prefix / 'share/ament_index/resource_index/packages/tpf_tracker_ros'
    scripts = prefix / 'lib/tpf_tracker_ros'
    for folder in (marker.parent, scripts):
        folder.mkdir(parents=True)
    marker.touch()
    for name, module in (('tracker', 'ros'), ('console', 'console')):
        script = scripts / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m tpf_tracker_ros.{module} "$@"\n')
        script.chmod(0o755)
    path = f'{prefix}{os.pathsep}{os.environ.get("AMENT_PREFIX_PATH", "")}'
    return {**os.environ, 'AMENT_PREFIX_PATH': path, 'PYTHONUNBUFFERED': '1'}


class Launched:
    """A running launch, and what it has written."""

    def __init__(self, process):
        self.process, self.text = process, ''

    def wait_for(self, words):
        for line in self.process.stdout:
            self.text += line
            if words in line:
                return line
        raise AssertionError(f'ended without {words!r}:\n{self.text}')

    def end(self):
        self.text += self.process.communicate(timeout=60)[0]
        return self.process.returncode

    def tracker(self):
        """Wait for the tracker's start; returns its pid."""
        return int(self.wait_for('[tracker-1]: process started with pid').split('[')[-1][:-2])


@contextmanager
def launched(environment, name, *arguments):
    command = [sys.executable, '-c', RUN, str(LAUNCH / f'{name}.launch.py'), *arguments]
    environment = {**environment, 'ROS_DOMAIN_ID': os.environ['ROS_DOMAIN_ID']}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield Launched(process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)


@needs_launch
@pytest.mark.parametrize(
    ('argument', 'words'),
    [
        ('params_file:=/does/not/exist.yaml', '/does/not/exist.yaml does not exist'),
        ('dds_profile:=own.xml', 'choose fastdds.xml or fastdds_4k.xml'),
        ('respawn:=maybe', "respawn is 'maybe'; it must be true or false"),
        ('slop_ms:=-1', 'slop_ms is -1.0; it must be 0 to 10000'),
        ('registration.homography:=[1,', "homography is ['[1,']; it must be 9 finite"),
        ('console_port:=http', "console_port is 'http'; it must be 0 to 65535"),
        ('rviz:=true', 'rviz2 is not installed'),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(argument, words, installed):
    if 'rviz' in argument:
        from ament_index_python.packages import get_packages_with_prefixes

        if 'rviz2' in get_packages_with_prefixes():
            pytest.skip('rviz2 is installed here')
    with launched(installed, 'tracker', argument) as launch:
        assert launch.end() == 1
    assert words in launch.text and 'process started' not in launch.text


@needs_launch
def test_the_launch_fails_as_the_tracker_did(installed):
    with launched(installed, 'tracker', 'model:=tpf_huge', 'modell:=tpf_tiny') as launch:
        assert launch.end() == 1
    assert 'there is no argument modell; did you mean model?' in launch.text
    assert "unknown model 'tpf_huge'" in launch.text


@needs_launch
def test_a_killed_tracker_is_started_again_and_ctrl_c_ends_it_quietly(installed):
    with launched(installed, 'tracker', 'respawn:=true', 'namespace:=robot') as launch:
        os.kill(launch.tracker(), signal.SIGKILL)
        launch.tracker()
        assert '[robot.tpf_tracker]' in launch.wait_for('ready')
        launch.process.send_signal(signal.SIGINT)
        written = len(launch.text)
        assert launch.end() == 0
    assert 'ERROR' not in launch.text[written:] and 'Traceback' not in launch.text


@needs_launch
def test_a_recording_by_launch(installed, tmp_path):
    bag = tmp_path / 'world.mcap'
    sequence_to_bag(WorldSequence(6, frames=20, size=(160, 128)), bag)
    with launched(installed, 'replay', f'bag:={bag}', 'rate:=0.5') as launch:
        assert launch.end() == 0
    assert '20 pairs played' in launch.text and 'accepted' in launch.text
