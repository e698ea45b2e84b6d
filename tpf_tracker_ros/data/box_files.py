"""
Reading boxes from text: tracker results and ground truth in every form that is published.

One box a line, separated by commas, tabs or blanks, with any line ends; four numbers are
x, y, w, h (or two corners, where the dataset says so), eight are the corners of a box. Anti-UAV
trackers write json: {"res": [[x, y, w, h], []]}, an empty list for an absent target.
"""

from collections import Counter
import json
from pathlib import Path
import re

import numpy as np
from tpf_tracker_ros.core.errors import TpfError

SUFFIXES = '.txt', '.csv', '.json'


def read_boxes(
    path: Path, *, two_corners: bool = False, corner_pixels: int = 0, whole_pixels: bool = False
) -> np.ndarray:
    """
    Boxes (N, 4) x, y, w, h as float64.

    two_corners: four numbers are x1, y1, x2, y2 instead of x, y, w, h. corner_pixels: what is
    added to x2 - x1 to get a width, 1 where corners are the last pixels inside. whole_pixels:
    round the numbers as they stand in the file.
    Raises TpfError, with file and line, when it is not such a table.
    """
    if path.suffix == '.json':
        return read_json_boxes(path, 'res')
    numbers = read_numbers(path)
    if whole_pixels:
        numbers = numbers.round()
    if numbers.shape[1] == 4 and not two_corners:
        return numbers
    if numbers.shape[1] not in (4, 8):
        raise TpfError(
            f'{path}: {numbers.shape[1]} numbers a line; a box is x,y,w,h or the 8 of its corners'
        )
    corners = numbers.reshape(len(numbers), -1, 2)
    sides = np.ptp(corners, axis=1) + corner_pixels
    return np.concatenate([corners.min(1), sides], axis=1)


def read_numbers(path: Path) -> np.ndarray:
    """Read the numbers (N, columns) in a text file. Raises TpfError naming the bad line."""
    try:
        text = path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise TpfError(f'{path} cannot be read as text: {error}') from None
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise TpfError(f'{path} is empty; it must hold one box a line')
    columns = len(_values(lines[0]))
    try:
        return np.array(_values(text), dtype=np.float64).reshape(len(lines), columns)
    except ValueError:
        return np.array([row for line in lines for row in _parse(line, columns, path, lines)])


def _values(text: str) -> list[str]:
    return text.replace(',', ' ').split()


def _parse(line: str, columns: int, path: Path, lines: list[str]) -> list[list[float]]:
    """Return the rows in one line of a table that is not regular."""
    # RGBT234's kite2/infrared.txt has one line in which the same row stands twice, glued.
    twice = re.fullmatch(r'\s*(\S.*\S)\1\s*', line)
    for part, times in ((line, 1), (twice and twice[1], 2)):
        try:
            row = [float(value) for value in _values(part or '')]
        except ValueError:
            continue
        if len(row) == columns:
            return [row] * times
    raise TpfError(
        f'{path} line {lines.index(line) + 1}: {line.strip()[:60]!r} is not a row of {columns} '
        'numbers like the first; repair it'
    )


def read_json_boxes(path: Path, key: str) -> np.ndarray:
    """Boxes (N, 4) of an Anti-UAV json file; an empty list becomes an empty box of zeros."""
    try:
        rows = json.loads(path.read_text())[key]
        return np.array([row if len(row) == 4 else (0, 0, 0, 0) for row in rows], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TpfError(f'{path} holds no list {key!r} of boxes [x, y, w, h]: {error!r}') from None


def find_results(
    folder: Path, sequences: list[str], tracker: str | None = None
) -> dict[str, Path]:
    """
    Sequence name -> result file, for the sequences that have one.

    All files of a tracker carry one prefix (none, 'TRACKER_', ...): the one that begins with the
    tracker's name, or that most files have. Whatever is named otherwise, like SEQ_time.txt, is
    passed over.
    """
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES}
    prefixes = Counter(
        stem.removesuffix(name) for name in sequences for stem in files if stem.endswith(name)
    )
    if not prefixes:
        return {}
    named = [text for text in prefixes if tracker and text.startswith(tracker)]
    prefix = max(named or prefixes, key=lambda text: (prefixes[text], -len(text)))
    return {name: files[prefix + name] for name in sequences if prefix + name in files}
