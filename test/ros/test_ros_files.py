"""Files that name what the node has: config, docs; and the environment for DDS."""

import json
from pathlib import Path
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from tpf_tracker_ros.ros import dds
from tpf_tracker_ros.ros.parameters import as_markdown
import yaml

ROOT = Path(__file__).parents[2]


def test_the_docs_have_the_table():
    assert as_markdown() in (ROOT / 'docs' / 'ros.md').read_text(), (
        'replace the table by the output of: python -m tpf_tracker_ros.ros.parameters --markdown'
    )


def test_views_show_topics_of_the_node():
    """The names that the code gives to its publishers, under the node's name."""
    files = (ROOT / 'tpf_tracker_ros' / 'ros' / name for name in ('node.py', 'outputs.py'))
    code = '\n'.join(file.read_text() for file in files)
    names = {f'/tpf_tracker/{name}' for name in re.findall(r"'~/(\w+)'", code)}
    names |= {'/diagnostics', '/tpf_tracker/reset'}
    rviz = yaml.safe_load((ROOT / 'config' / 'tracker.rviz').read_text())
    # Relative: RViz runs in the tracker's namespace.
    displays = rviz['Visualization Manager']['Displays']
    shown = {f'/{each["Topic"]["Value"]}' for each in displays}
    assert shown and shown <= names

    layout = json.loads((ROOT / 'config' / 'foxglove.json').read_text())
    text = json.dumps(layout['configById'])
    used = {match.split('.')[0] for match in re.findall(r'"(/[^"]*)"', text)}
    assert used <= names
    placed = set(re.findall(r'"(\w+!\w+)"', json.dumps(layout['layout'])))
    assert placed == set(layout['configById'])


@pytest.mark.parametrize(('mib', 'name'), dds.PROFILES.items())
def test_a_profile_has_the_segment_that_it_is_chosen_for(mib, name):
    profile = dds.config_file(name)
    tags = [element.tag.rpartition('}')[2] for element in ElementTree.parse(profile).iter()]
    assert 'segment_size' in tags
    assert dds.shared_memory_segment({dds.PROFILE_VARIABLE: str(profile)}) == mib << 20


def test_the_cure_for_lost_images_names_a_profile_that_holds_them(monkeypatch):
    assert 'config/fastdds.xml' in dds.cure_for_loss(640 * 512 * 3)
    assert 'config/fastdds_4k.xml' in dds.cure_for_loss(3840 * 2160 * 3)
    assert 'FASTDDS' not in dds.cure_for_loss(100_000)
    monkeypatch.setenv('RMW_IMPLEMENTATION', 'rmw_cyclonedds_cpp')
    assert 'FASTDDS' not in dds.cure_for_loss(640 * 512 * 3)


def test_a_segment_that_does_not_fit_is_told(monkeypatch):
    monkeypatch.setenv(dds.PROFILE_VARIABLE, str(dds.config_file('fastdds.xml')))
    for free, words in ((8 << 20, '/dev/shm has 8 MB left, less than the 17 MB'), (64 << 20, '')):
        monkeypatch.setattr(dds, 'disk_usage', lambda _, free=free: SimpleNamespace(free=free))
        assert (dds.shared_memory_shortage() or '').startswith(words)


@pytest.mark.parametrize(
    ('environment', 'size'),
    [
        ({}, 512 << 10),
        ({dds.PROFILE_VARIABLE: '/does/not/exist.xml'}, 512 << 10),
        ({'FASTDDS_BUILTIN_TRANSPORTS': 'LARGE_DATA'}, None),
        ({'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}, None),
        ({'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp'}, 512 << 10),
    ],
)
def test_segment_in_force(environment, size):
    assert dds.shared_memory_segment(environment) == size


def test_what_the_user_has_set_stays():
    added = dds.image_environment({})
    assert Path(added[dds.PROFILE_VARIABLE]).is_file()
    assert not dds.image_environment(added)
    own = {'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4', 'MALLOC_TRIM_THRESHOLD_': '1'}
    assert set(dds.image_environment(own)) == {'MALLOC_MMAP_THRESHOLD_'}
    whole = dds.loopback_environment(own)
    assert own.items() <= whole.items()
    assert whole['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
