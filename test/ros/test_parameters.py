"""The parameter table: complete, sound, and the source of the YAML."""

from dataclasses import fields

import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.pairing import FramePairer
from tpf_tracker_ros.ros.dds import config_file
from tpf_tracker_ros.ros.parameters import (
    as_markdown,
    as_yaml,
    check,
    Parameter,
    RENAMED,
    TABLE,
    tracker_settings,
)
from tpf_tracker_ros.tracking.config import TrackerConfig
import yaml

DEFAULTS = {name: row.default for name, row in TABLE.items()}


def test_every_setting_of_the_tracker_is_a_live_parameter_with_its_default():
    config = TrackerConfig()
    settings = {field.name: getattr(config, field.name) for field in fields(config)}
    assert tracker_settings(DEFAULTS) == settings
    read_only = [name for name in settings if TABLE[f'tracker.{name}'].read_only]
    assert read_only == ['policy']


def test_defaults_are_accepted_and_those_of_the_pairing_class():
    check(DEFAULTS)
    assert all(row.accept(row.default) == row.default for row in TABLE.values())
    pairer = FramePairer()
    assert DEFAULTS['slop_ms'] * 1e6 == pairer.slop_ns
    assert DEFAULTS['camera_timeout_ms'] * 1e6 == pairer.camera_timeout_ns
    assert DEFAULTS['queue_depth'] == pairer.depth


def test_the_yaml_says_what_the_table_says():
    text = as_yaml().replace('# tracker:', 'tracker:')
    for name in tracker_settings(DEFAULTS):
        text = text.replace(f'# {name}: ', f'{name}: ')
    (content,) = yaml.safe_load(text).values()
    read = {}
    for name, value in content['ros__parameters'].items():
        inner = value.items() if isinstance(value, dict) else [(None, value)]
        read.update({f'{name}.{key}' if key else name: each for key, each in inner})
    assert read == DEFAULTS
    (given,) = yaml.safe_load(as_yaml()).values()
    assert 'tracker' not in given['ros__parameters'], 'a model may have defaults of its own'
    assert max(map(len, as_yaml().splitlines())) < 100
    assert config_file('tracker.yaml').read_text() == as_yaml(), (
        'run: python -m tpf_tracker_ros.ros.parameters > config/tracker.yaml'
    )


def test_old_names_are_no_names_and_lead_to_one():
    assert RENAMED and not RENAMED.keys() & TABLE.keys()
    assert all(new.partition(',')[0] in TABLE for new in RENAMED.values())


def test_a_held_image_must_not_look_frozen():
    hold = {**DEFAULTS, 'pairing': 'hold'}
    check(hold)
    check({**hold, 'hold_ms': 500.0, 'tracker.frozen_ms': 0.0})
    with pytest.raises(TpfError, match=r'hold_ms is 500.*set tracker.frozen_ms higher'):
        check({**hold, 'hold_ms': 500.0})


def test_the_markdown_has_a_row_for_each():
    rows = as_markdown().splitlines()[2:]
    assert [row.split('`')[1] for row in rows] == list(TABLE)
    assert all(row.count('|') == 6 for row in rows)


@pytest.mark.parametrize(
    ('row', 'value', 'expected'),
    [
        (Parameter('x', 1.0, ''), 2, 2.0),
        (Parameter('x', [0.0, 0.0], ''), (1, 2), [1.0, 2.0]),
        (Parameter('x', 'a', '', choices=('a', 'b')), 'b', 'b'),
        (Parameter('x', 3, '', low=1), 1, 1),
    ],
)
def test_what_is_accepted(row, value, expected):
    accepted = row.accept(value)
    assert accepted == expected and type(accepted) is type(row.default)


@pytest.mark.parametrize(
    ('row', 'value', 'words'),
    [
        (Parameter('x', 1.0, '', high=5), 6, 'x is 6'),
        (Parameter('x', 1.0, ''), float('nan'), 'a number'),
        (Parameter('x', 1.0, ''), True, 'a number'),
        (Parameter('x', 1, ''), 1.5, 'a whole number'),
        (Parameter('x', True, ''), 1, 'true or false'),
        (Parameter('x', 'a', ''), 5, 'a string'),
        (Parameter('x', 'a', '', choices=('a', 'b')), 'c', 'it must be a, b'),
        (Parameter('x', [0.0, 0.0], ''), [1.0], '2 finite numbers'),
        (Parameter('x', [0.0, 0.0], ''), 'no', '2 finite numbers'),
        (Parameter('x', [0.0, 0.0], ''), None, '2 finite numbers'),
    ],
)
def test_what_is_refused(row, value, words):
    with pytest.raises(TpfError, match=words):
        row.accept(value)
