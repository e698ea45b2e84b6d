"""Rooms import downwards only; see docs/architecture.md."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'tpf_tracker_ros'
# What a room may import of the others, and of torch and rclpy.
MAY = {
    'core': set(),
    'system': {'core'},
    'data': {'core', 'torch'},
    'bags': {'core'},
    'models': {'core', 'system', 'torch'},
    'engines': {'core', 'models', 'torch'},
    'tracking': {'core', 'engines', 'models'},
    'bench': {'core', 'system', 'models', 'engines', 'tracking', 'torch'},
    'evaluation': {'core', 'data', 'tracking'},
    'training': {'core', 'data', 'models', 'tracking', 'evaluation', 'torch'},
    'ros': {'core', 'system', 'data', 'bags', 'tracking', 'evaluation', 'rclpy'},
    'console': {'core', 'system', 'ros', 'rclpy'},
}


def imported(file):
    """Rooms of the package, torch and rclpy, wherever in the file they are imported."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition('.')
            if first == PACKAGE.name:
                yield rest.partition('.')[0]
            elif first in ('torch', 'rclpy'):
                yield first


@pytest.mark.parametrize('room', MAY)
def test_a_room_imports_only_what_it_may(room):
    files = list((PACKAGE / room).rglob('*.py'))
    assert files
    wrong = {
        str(file.relative_to(PACKAGE)): found - MAY[room] - {room, '', '__version__'}
        for file in files
        if (found := set(imported(file))) - MAY[room] - {room, '', '__version__'}
    }
    assert wrong == {}


def test_no_two_rooms_import_each_other():
    """Followed to the end: what a room may import leads nowhere back to it."""
    for room in MAY:
        reached, todo = set(), set(MAY[room])
        while todo:
            reached |= todo
            todo = set().union(*(MAY.get(each, set()) for each in todo)) - reached
        assert room not in reached


def test_every_room_has_a_rule():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / '__init__.py').is_file()}
    assert rooms == {*MAY, 'cli'}
