"""
Reading boxes from text: tracker results and ground truth in every form that is published.

A table has one box a line; its numbers are separated by commas, semicolons, tabs or blanks. Four
numbers are x, y, w, h (or two corners, where the dataset says so), eight are the corners of a box
where the dataset has such results. A line between the others that is empty, or holds empty
fields alone, is a frame without a box. Whatever else is not a row like the first is named by its
line. Anti-UAV's json stands in files of any name: {"res": [[x, y, w, h], []]} holds results,
{"exist": [1, 0], "gt_rect": [[x, y, w, h], []]} ground truth; an empty list is no box.
"""

from collections import Counter
from contextlib import suppress
import json
from pathlib import Path
import re

import numpy as np
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import read_text, substitute

SUFFIXES = '.txt', '.csv', '.json'
ENDINGS = '', '_IR'  # Anti-UAV's own script writes SEQ_IR.txt
# Of a table; float() also takes 1_000, digits of other scripts, and infinity.
CHARACTERS = set('0123456789+-.eE,; \t\r\nNaAn')
DECIMAL_COMMA = re.compile(r'[-+]?\d+,\d+')


def read_boxes(
    path: Path,
    *,
    two_corners: bool = False,
    corner_pixels: int | None = None,
    whole_pixels: bool = False,
    key: str = 'res',
) -> np.ndarray:
    """
    Boxes (N, 4) x, y, w, h as float64; NaN in frames without a box (zeros from json).

    two_corners: four numbers are x1, y1, x2, y2 instead of x, y, w, h. corner_pixels: eight
    numbers are corners; what is added to x2 - x1 to get a width, 1 where corners are the last
    pixels inside. None: eight numbers are no box. whole_pixels: round the numbers as they stand
    in the file. key: of the list in a json file.
    Raises TpfError, with file and line, when it is not such a table.
    """
    text = read_text(path)
    if text.lstrip().startswith('{') or path.suffix == '.json':
        return _json_boxes(path, text, key)
    numbers = _table(path, text)
    if whole_pixels:
        numbers = numbers.round()
    columns = numbers.shape[1]
    if columns == 4 and not two_corners:
        return numbers
    if columns == 4 or (columns == 8 and corner_pixels is not None):
        corners = numbers.reshape(len(numbers), -1, 2)
        sides = np.ptp(corners, axis=1) + (corner_pixels or 0)
        return np.concatenate([corners.min(1), sides], axis=1)
    raise TpfError(
        f'{path}: {columns} numbers a line; a box is x,y,w,h'
        + ('' if corner_pixels is None else ' or the 8 of its corners')
        + ('; corners are read with --dataset rgbt234, rgbt210 or gtot' if columns == 8 else '')
        + ('; is its decimal mark a comma? write points' if columns in (5, 6, 7, 8) else '')
    )


def read_numbers(path: Path) -> np.ndarray:
    """
    Read the numbers (N, columns) in a table; rows without numbers between the others are NaN.

    Raises TpfError naming the first line that is not such a row.
    """
    return _table(path, read_text(path))


def _table(path: Path, text: str) -> np.ndarray:
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise TpfError(f'{path} is empty; it must hold one box a line')
    blank = [number for number, line in enumerate(lines, 1) if not line.strip(' \t,;')]
    if blank and blank[0] == 1:
        raise TpfError(f'{path} line 1 is empty; a table begins with its first row')
    if len(blank) > 1 and blank == list(range(2, len(lines), 2)):
        raise TpfError(f'{path} line 2: every second line is empty; remove the empty ones')
    separator = next((mark for mark in ';,' if mark in lines[0]), None)
    if not blank and CHARACTERS.issuperset(text):
        with suppress(ValueError):  # of float, or of rows that are not of one length
            return np.array([list(map(float, line.split(separator))) for line in lines])
    rows = []
    for number, line in enumerate(lines, 1):
        columns = len(rows[0]) if rows else 0
        if number in blank:
            rows.append([np.nan] * columns)
        else:
            found = _rows(line, separator, columns)
            if not found:
                raise TpfError(f'{path} line {number}: {_fault(line, columns)}{substitute(path)}')
            rows += found
    return np.array(rows)


def _rows(line: str, separator: str | None, columns: int) -> list[list[float]]:
    """Return the row of so many numbers (0: any) in a line, or none."""
    # RGBT234's kite2/infrared.txt has one line in which the same row stands twice, glued.
    twice = re.fullmatch(r'\s*(\S.*\S)\1\s*', line)
    for part, times in ((line, 1), (twice[1] if twice else '', 2)):
        row = _numbers(part, separator)
        if row and len(row) == (columns or len(row)):
            return [row] * times
    return []


def _numbers(line: str, separator: str | None) -> list[float]:
    """Numbers of a row, separated by a mark or (None) by blanks; [] when it is none."""
    fields = line.split(separator)
    if separator and not fields[-1].strip():
        fields.pop()  # a separator behind the last number
    try:
        return [float(field) for field in fields] if CHARACTERS.issuperset(line) else []
    except ValueError:
        return []


def _fault(line: str, columns: int) -> str:
    shown = repr(line.strip()[:60])
    fields = re.split(r'[;\s]+', line.strip())
    if any(DECIMAL_COMMA.fullmatch(field) for field in fields) and len(fields) > 1:
        return f'{shown} has decimal commas; write 40.50 for 40,50'
    what = f'a row of {columns} numbers like the first' if columns else 'a row of numbers'
    return f'{shown} is not {what}; repair it'


def _json_boxes(path: Path, text: str, key: str) -> np.ndarray:
    """Boxes (N, 4) of an Anti-UAV json file; zeros where the target is absent."""
    try:
        content = json.loads(text)
        rows, flags = content[key], content.get('exist') if key == 'gt_rect' else None
        flags = [1] * len(rows) if flags is None else flags
        if len(flags) != len(rows):
            raise TpfError(f'{path} has {len(rows)} boxes but {len(flags)} flags "exist"')
        boxes = np.zeros((len(rows), 4))
        for index, (row, exists) in enumerate(zip(rows, flags)):
            # Its script takes [] and [0] for no box; what stands beside exist: 0 is stale.
            if exists and len(row) > 1:
                if len(row) != 4:
                    raise TpfError(f'{path} {key}[{index}] is {row}, not a box [x, y, w, h]')
                boxes[index] = row
        return boxes
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TpfError(f'{path} holds no list {key!r} of boxes [x, y, w, h]: {error!r}') from None


def find_results(
    folder: Path, sequences: list[str], tracker: str | None = None
) -> dict[str, Path]:
    """
    Sequence name -> result file, for the sequences that have one.

    All files of a tracker carry one prefix (none, 'TRACKER_', ...) and one of ENDINGS: those that
    begin with the tracker's name, or that most files have. Whatever is named otherwise, like
    SEQ_time.txt, is passed over, and so are hidden files.
    """
    files = {
        path.stem: path
        for path in sorted(folder.iterdir())
        if path.suffix in SUFFIXES and not path.name.startswith('.')
    }
    affixes = Counter(
        (stem.removesuffix(name + ending), ending)
        for name in sequences
        for ending in ENDINGS
        for stem in files
        if stem.endswith(name + ending)
    )
    if not affixes:
        return {}
    named = [affix for affix in affixes if tracker and affix[0].startswith(tracker)]
    prefix, ending = max(
        named or affixes, key=lambda affix: (affixes[affix], -len(affix[0] + affix[1]))
    )
    found = {name: files.get(prefix + name + ending) for name in sequences}
    return {name: path for name, path in found.items() if path}
