"""Result files as they are found in the wild: separators, corners, prefixes, damage."""

import json
import math

from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.box_files import find_results, read_boxes

BOXES = [[10, 20, 30, 40], [11.5, 21, 30, 41]]


def lines(rows, separator, end='\n'):
    return end.join(separator.join(map(str, row)) for row in rows)


@pytest.mark.parametrize('separator', [',', '\t', ' ', ', ', '   ', ';', '; '])
@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_every_separator_and_line_end(tmp_path, separator, end):
    path = tmp_path / 'a.txt'
    path.write_bytes((lines(BOXES, separator, end) + end * 2).encode('utf-8-sig'))
    assert read_boxes(path).tolist() == BOXES
    path.write_bytes(lines(BOXES, separator, end).encode())  # no end of the last line
    assert read_boxes(path).tolist() == BOXES


def test_corners(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('191 21 210.0 21 210.0 62.0 191 62.0\n')
    assert read_boxes(path, corner_pixels=0).tolist() == [[191, 21, 19, 41]]
    assert read_boxes(path, corner_pixels=1).tolist() == [[191, 21, 20, 42]]
    path.write_text('191 21 210 62\n')
    assert read_boxes(path, two_corners=True).tolist() == [[191, 21, 19, 41]]


def test_eight_numbers_are_corners_only_where_the_protocol_says_so(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('40,5,50,25,28,0,22,0\n')
    with pytest.raises(TpfError, match=r'8 numbers a line.*rgbt234.*decimal mark'):
        read_boxes(path)


def test_whole_pixels_are_rounded_before_corners_become_sizes(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('0.6 0 10.4 0 10.4 5 0.6 5\n')
    assert read_boxes(path, whole_pixels=True, corner_pixels=0).tolist() == [[1, 0, 9, 5]]


def test_a_row_that_stands_twice_in_its_line(tmp_path):
    path = tmp_path / 'infrared.txt'
    path.write_text('211,133,20,15\n212,133,21,15212,133,21,15\n216,133,21,15\n')
    assert read_boxes(path)[:, 0].tolist() == [211, 212, 212, 216]


def test_rgbt234_as_published(shared_data):
    boxes = read_boxes(shared_data / 'metrics/rgbt234_gt/kite2/infrared.txt')
    assert boxes.shape == (1623, 4)


def test_lost_targets_stay_nan(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('1,2,3,4\nNaN,NaN,NaN,NaN\n')
    assert np.isnan(read_boxes(path)[1]).all()


@pytest.mark.parametrize('name', ['a.json', 'a.txt', 'a_IR.txt'])
@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_anti_uav_json(tmp_path, name, mark):
    path = tmp_path / name
    path.write_text(mark + json.dumps({'res': [[1, 2, 3, 4], [], [0]]}))
    assert read_boxes(path).tolist() == [[1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0]]
    path.write_text(mark + '{}')
    with pytest.raises(TpfError, match=r"holds no list 'res'"):
        read_boxes(path)
    path.write_text('{"res": [[1, 2, 3, 4], [1, 2, 3]]}')
    with pytest.raises(TpfError, match=r'res\[1\] is \[1, 2, 3\]'):
        read_boxes(path)


def test_the_flag_exist_decides_not_what_stands_beside_it(tmp_path):
    path = tmp_path / 'infrared.json'
    path.write_text('{"exist": [1, 0, 1], "gt_rect": [[1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8]]}')
    assert read_boxes(path, key='gt_rect')[:, 0].tolist() == [1, 0, 5]
    path.write_text('{"exist": [1, 0], "gt_rect": [[1, 2, 3, 4]]}')
    with pytest.raises(TpfError, match='1 boxes but 2 flags'):
        read_boxes(path, key='gt_rect')


@pytest.mark.parametrize('blank', ['', '\t\t\t', ',,,', '  '])
def test_an_empty_row_is_a_frame_without_a_box(tmp_path, blank):
    path = tmp_path / 'a.txt'
    path.write_text(f'1,2,3,4\n{blank}\n5,6,7,8\n9,9,9,9\n\n\n')
    boxes = read_boxes(path)
    assert boxes.shape == (4, 4)
    assert np.isnan(boxes[1]).all() and boxes[2].tolist() == [5, 6, 7, 8]


def test_a_pointer_and_a_page_are_called_so(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n')
    with pytest.raises(TpfError, match='Git LFS pointer'):
        read_boxes(path)
    path.write_text('<!DOCTYPE html><html><head>')
    with pytest.raises(TpfError, match='web page'):
        read_boxes(path)


SEPARATORS = st.sampled_from([',', ', ', '\t', ' ', '   ', ';'])
NUMBERS = st.floats(-1e6, 1e6, width=32)
TABLES = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=2, max_size=6)
on_one_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@on_one_path
@given(
    table=TABLES,
    separator=SEPARATORS,
    end=st.sampled_from(['\n', '\r\n', '\r']),
    tail=st.integers(0, 2),
    encoding=st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16']),
    style=st.sampled_from(['', '.3f', 'g', 'e', '+.1f']),
)
def test_what_is_written_is_read(tmp_path, table, separator, end, tail, encoding, style):
    rows = [[format(value, style) for value in row] for row in table]
    path = tmp_path / 'a.txt'
    path.write_bytes((lines(rows, separator, end) + end * tail).encode(encoding))
    assert read_boxes(path).tolist() == [[float(value) for value in row] for row in rows]


@on_one_path
@given(table=TABLES, separator=SEPARATORS, data=st.data())
def test_damage_is_named_or_the_other_rows_keep_their_place(tmp_path, table, separator, data):
    rows = [[f'{value:.2f}' for value in row] for row in table]
    text = lines(rows, separator) + '\n'
    place = data.draw(st.integers(0, len(text) - 1))
    damage = data.draw(st.sampled_from(['', ',', ' ', '\n', ';', 'x', '-', '_', '\0', '٣', '.']))
    path = tmp_path / 'a.txt'
    behind = place + 1
    path.write_text(text[:place] + damage + text[behind:])
    hit = text.count('\n', 0, place)
    try:
        boxes = read_boxes(path)
    except TpfError as error:
        assert str(path) in str(error) and '\n' not in str(error)
        return
    want = np.array(rows, float)
    assert np.array_equal(boxes[:hit], want[:hit])
    if len(boxes) == len(rows):
        after = hit + 1 + (damage == '\n' != text[place])
        assert np.array_equal(boxes[after:], want[after:])


@pytest.mark.parametrize(
    ('text', 'why'),
    [
        ('', 'is empty'),
        ('1,2,3,4\n1,2,3\n', r'line 2: .*1,2,3'),
        ('1,2,3,4\n1,2,3,x\n', 'line 2'),
        ('1,2,3\n', '3 numbers a line'),
        ('\n1,2,3,4\n', 'line 1 is empty'),
        ('1,2,3,4\n\n5,6,7,8\n\n5,6,7,8\n', 'every second line is empty'),
        ('40,5\t50,25\t28,00\t22,00\n', 'line 1: .*decimal commas'),
        ('40,5 50,25 28,00 22,00\n', 'line 1: .*decimal commas'),
        ('40,5;50,25;28,00;22,00\n', 'line 1: .*decimal commas'),
        ('40,5\t50,25\t28\t22\n', 'line 1: .*decimal commas'),
        ('1,2,3,4\n1,2,3,1_0\n', 'line 2'),
        ('1,2,3,4\n1,2,3,inf\n', 'line 2'),
        ('1,2,3,4\n\n1,2,3,4 5\n', 'line 3'),
    ],
)
def test_damage_is_named(tmp_path, text, why):
    path = tmp_path / 'bad.txt'
    path.write_text(text)
    with pytest.raises(TpfError, match=rf'bad\.txt.*{why}'):
        read_boxes(path)


def test_binary_and_missing_files(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_bytes(bytes(range(256)))
    for place in (path, tmp_path / 'none.txt'):
        with pytest.raises(TpfError, match=r'cannot be read( as text)?: '):
            read_boxes(place)


@pytest.mark.parametrize('prefix', ['', 'JMMAC_', 'JMMAC_234_final_', 'DAFNet-234_'])
def test_prefixes_times_and_backquotes(tmp_path, prefix):
    names = ['blkboy`shead', 'car', 'redcar', 'absent']
    for name in names[:3]:
        (tmp_path / f'{prefix}{name}.txt').write_text('1,2,3,4\n')
        (tmp_path / f'{prefix}{name}_time.txt').write_text('0.1\n')
    found = find_results(tmp_path, names)
    assert {name: path.name for name, path in found.items()} == {
        name: f'{prefix}{name}.txt' for name in names[:3]
    }


def test_endings_and_hidden_files(tmp_path):
    for name in ('car', 'dog'):
        (tmp_path / f'{name}_IR.txt').write_text('{"res": [[1, 2, 3, 4]]}')
        (tmp_path / f'._{name}_IR.txt').write_text('macOS')
    found = find_results(tmp_path, ['car', 'dog'])
    assert [path.name for path in found.values()] == ['car_IR.txt', 'dog_IR.txt']


def test_two_trackers_in_one_folder(tmp_path):
    for tracker in ('Alpha', 'Beta'):
        (tmp_path / f'{tracker}_car.txt').write_text('1,2,3,4\n')
    (tmp_path / 'Alpha_dog.txt').write_text('1,2,3,4\n')
    for tracker in ('Alpha', 'Beta'):
        found = find_results(tmp_path, ['car', 'dog'], tracker)
        assert found['car'].name == f'{tracker}_car.txt'


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / 'notes.txt').write_text(str(math.pi))
    assert find_results(tmp_path, ['car']) == {}
