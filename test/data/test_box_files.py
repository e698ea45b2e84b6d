"""Result files as they are found in the wild: separators, corners, prefixes, damage."""

import json
import math

import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.box_files import find_results, read_boxes

BOXES = [[10, 20, 30, 40], [11.5, 21, 30, 41]]


def lines(rows, separator, end='\n'):
    return end.join(separator.join(map(str, row)) for row in rows)


@pytest.mark.parametrize('separator', [',', '\t', ' ', ', ', '   '])
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
    assert read_boxes(path).tolist() == [[191, 21, 19, 41]]
    assert read_boxes(path, corner_pixels=1).tolist() == [[191, 21, 20, 42]]
    path.write_text('191 21 210 62\n')
    assert read_boxes(path, two_corners=True).tolist() == [[191, 21, 19, 41]]


def test_whole_pixels_are_rounded_before_corners_become_sizes(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('0.6 0 10.4 0 10.4 5 0.6 5\n')
    assert read_boxes(path, whole_pixels=True).tolist() == [[1, 0, 9, 5]]


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


def test_anti_uav_json(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps({'res': [[1, 2, 3, 4], []]}))
    assert read_boxes(path).tolist() == [[1, 2, 3, 4], [0, 0, 0, 0]]
    path.write_text('{}')
    with pytest.raises(TpfError, match=r"a\.json holds no list 'res'"):
        read_boxes(path)


@pytest.mark.parametrize(
    ('text', 'why'),
    [
        ('', 'is empty'),
        ('1,2,3,4\n1,2,3\n', r'line 2: .*1,2,3'),
        ('1,2,3,4\n1,2,3,x\n', 'line 2'),
        ('1,2,3\n', '3 numbers a line'),
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
        with pytest.raises(TpfError, match='cannot be read as text'):
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
