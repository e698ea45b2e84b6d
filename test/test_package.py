"""package.xml, setup.py and the code say the same."""

import ast
from importlib.metadata import metadata, PackageNotFoundError, packages_distributions
from pathlib import Path
import re
import sys
from xml.etree import ElementTree

import pytest
import tpf_tracker_ros

ROOT = Path(__file__).parents[1]
PACKAGE = 'tpf_tracker_ros'
# Python packages by their rosdep keys; the other imports must be ROS packages of that name.
ROSDEP = {
    'aiohttp': 'python3-aiohttp',
    'click': 'python3-click',
    'cv2': 'python3-opencv',
    'matplotlib': 'python3-matplotlib',
    'numpy': 'python3-numpy',
    'rosbags': 'python3-rosbags-pip',
    'torch': 'python3-torch',
    'tqdm': 'python3-tqdm',
    'yaml': 'python3-yaml',
}
# Only in extras: a robot does without.
OPTIONAL = {'mamba_ssm', 'onnx', 'onnxruntime', 'onnxscript', 'ray', 'tomli', 'triton'}
NO_ROSDEP_KEY = {'apsw', 'av', 'backports', 'compression', 'lz4', 'ruamel', 'safetensors'}


def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def imported(*folders: str) -> set[str]:
    names = set()
    for folder in folders:
        for path in (ROOT / folder).rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition('.')[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names.add(node.module.partition('.')[0])
    return {
        name
        for name in names - set(sys.stdlib_module_names) - {PACKAGE}
        # Only the ROS wheels are compiled for, and they bring these.
        if not name.startswith('rosidl_')
    }


def test_the_manifest_declares_what_is_imported():
    root = manifest()
    assert root.tag == 'package' and root.get('format') == '3'
    assert root.findtext('name') == PACKAGE
    assert root.findtext('export/build_type') == 'ament_python'
    declared = {each.text for each in root.iter('exec_depend')}
    names = imported(PACKAGE, 'launch')
    needed = {ROSDEP.get(name, name) for name in names - OPTIONAL - NO_ROSDEP_KEY}
    assert needed <= declared


def test_pip_installs_what_is_imported():
    try:
        requirements = metadata(PACKAGE).get_all('Requires-Dist')
    except PackageNotFoundError:
        pytest.skip('tpf_tracker_ros is not installed by pip here')
    required = {re.match(r'[\w.-]+', line)[0].lower() for line in requirements}
    distributions = packages_distributions()
    ros = {each.text for each in manifest().iter('exec_depend')}
    for name in imported(PACKAGE):
        found = {each.lower() for each in distributions.get(name, [])}
        if name in ros and not any(each.startswith('ros-') for each in found):
            continue  # not of the wheels: a ROS 2 installation has it
        assert not found or found & required, name


def test_one_version_and_the_marker_of_the_index():
    version = tpf_tracker_ros.__version__
    assert manifest().findtext('version') == version
    assert f"version='{version}'" in (ROOT / 'setup.py').read_text()
    # As bloom and catkin_prepare_release read it.
    heading = rf'^(Forthcoming|{re.escape(version)} \(\d{{4}}-\d\d-\d\d\))\n-+\n- '
    assert re.search(heading, (ROOT / 'CHANGELOG.rst').read_text(), re.MULTILINE)
    assert (ROOT / 'resource' / PACKAGE).is_file()


def test_pins_cover_the_ros_wheels_and_torch():
    pinned = (ROOT / 'scripts' / 'pins.txt').read_text()
    for name in ('ros-rclpy', 'torch', 'numpy', 'pytest', 'ruff', 'setuptools'):
        assert re.search(rf'^{name}==', pinned, re.MULTILINE), name
