"""
Benchmark datasets as they lie on disk: where images, ground truth and attributes are.

LasHeR, RGBT234, RGBT210: SEQ/visible, SEQ/infrared, visible.txt, infrared.txt, init.txt.
GTOT: SEQ/v, SEQ/i, groundTruth_v.txt, groundTruth_i.txt (x1 y1 x2 y2), init.txt.
VTUAV, short and long: SEQ/rgb, SEQ/ir, rgb.txt, ir.txt with a row for every tenth frame: row k
belongs to the file numbered START + 10 k, START by init_frame.npy ({SEQ: START}) where that lies
beside the sequence or above it, else the first number.
VisEvent: SEQ/vis_imgs, SEQ/event_imgs (events drawn in colours), groundtruth.txt.
DepthTrack: SEQ/color, SEQ/depth (16 bits, mm), groundtruth.txt (rows of nan: no target).
Anti-UAV: SEQ/infrared.mp4, infrared.json; its RGB camera has another view and is not read.
Sequences may lie in folders of their own (VTUAV's parts, LasHeR's testingset).
"""

from collections.abc import Iterator
from dataclasses import dataclass
import io
import logging
from pathlib import Path
import pickle
import struct

import numpy as np
from tpf_tracker_ros.core.boxes import present
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import entries, read_text
from tpf_tracker_ros.data.box_files import read_boxes, read_numbers
from tpf_tracker_ros.data.media import MediaSequence, shorten

DEPTH = 3  # folders between a dataset's root and its sequences, at most
STARTS = 'init_frame.npy'

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """
    What lies in a sequence's folder.

    rgb, thermal: folder of images or video; rgb None where it is not registered to thermal.
    truths: ground-truth files that results are scored against. init: the file that trackers
    start from, where it is not the first of the truths. two_corners: truths hold x1 y1 x2 y2.
    every: a row of ground truth belongs to each so many-th frame. second: what `thermal` shows, as
    TrackingNetwork.second says it.
    """

    rgb: str | None
    thermal: str
    truths: tuple[str, ...]
    init: str | None = None
    two_corners: bool = False
    every: int = 1
    second: str = 'thermal'


_ANHUI = 'visible', 'infrared'
LAYOUTS = {
    'lasher': Layout(*_ANHUI, ('init.txt',)),
    'rgbt234': Layout(*_ANHUI, ('visible.txt', 'infrared.txt'), init='init.txt'),
    'rgbt210': Layout(*_ANHUI, ('init.txt',)),
    'gtot': Layout(
        'v', 'i', ('groundTruth_v.txt', 'groundTruth_i.txt'), init='init.txt', two_corners=True
    ),
    'vtuav': Layout('rgb', 'ir', ('rgb.txt', 'ir.txt'), every=10),
    'visevent': Layout('vis_imgs', 'event_imgs', ('groundtruth.txt',), second='events'),
    'depthtrack': Layout('color', 'depth', ('groundtruth.txt',), second='depth'),
    'antiuav': Layout(None, 'infrared.mp4', ('infrared.json',)),
}
LASHER_ATTRIBUTES = (  # in the order of the flags
    *('NO', 'PO', 'TO', 'HO', 'MB', 'LI', 'HI', 'AIV', 'LR', 'DEF'),
    *('BC', 'SA', 'CM', 'TC', 'FL', 'OV', 'FM', 'SV', 'ARC'),
)


def get_layout(dataset: str) -> Layout:
    """Return the layout of a dataset. Raises TpfError on an unknown name."""
    if dataset not in LAYOUTS:
        raise TpfError(f'unknown dataset {dataset!r}; choose one of {", ".join(LAYOUTS)}')
    return LAYOUTS[dataset]


def check_second(dataset: str, model: str, wanted: str) -> None:
    """Raise TpfError where the dataset's second camera does not give what this model takes."""
    given = get_layout(dataset).second
    if given != wanted:
        fitting = ', '.join(name for name, layout in LAYOUTS.items() if layout.second == wanted)
        raise TpfError(
            f'{dataset} pairs RGB with {given}, but {model} takes {wanted}; '
            f'give a dataset of its kind: {fitting}'
        )


def find_folders(root: Path, wanted: str) -> dict[str, Path]:
    """
    Name -> folder of all folders at or below root that hold a file or folder `wanted`.

    Raises TpfError when two of them have one name.
    """
    if not root.is_dir():
        raise TpfError(f'{root} is not a folder')
    found, twice = {}, {}
    for folder in _holding(root, wanted, DEPTH):
        name = folder.resolve().name
        if name in found:
            twice[name] = f'{name} ({found[name]} and {folder})'
        found[name] = folder
    if twice:
        raise TpfError(
            f'names of sequences stand twice below {root}: {shorten(list(twice.values()))}; '
            'give the folder of one of the sets'
        )
    return found


def _holding(root: Path, wanted: str, depth: int) -> Iterator[Path]:
    if (root / wanted).exists():
        yield root
    elif depth:
        for folder in entries(root):
            if folder.is_dir():
                yield from _holding(folder, wanted, depth - 1)


def find_sequences(root: Path, dataset: str, names: list[str] | None = None) -> dict[str, Path]:
    """Sequence name -> folder with images. Raises TpfError when one of names is not there."""
    layout = get_layout(dataset)
    folders = find_folders(root, layout.thermal)
    if not folders:
        raise TpfError(f'{root} has no {dataset} sequences: no folder holds {layout.thermal!r}')
    return choose(folders, names, root)


def choose(found: dict[str, Path], names: list[str] | None, root: Path) -> dict[str, Path]:
    """Return the items of found that names asks for, in that order; all of them by default."""
    absent = [name for name in names or () if name not in found]
    if absent:
        raise TpfError(f'{root} lacks {len(absent)} listed sequences: {shorten(absent)}')
    return {name: found[name] for name in names} if names else found


def open_sequence(folder: Path, dataset: str | None = None) -> MediaSequence:
    """
    Return the sequence in one folder, of a given dataset or of the first whose layout fits.

    Rows of its ground truth without a target, or between the rows of sparse ones, are NaN.
    Raises TpfError when the folder fits no layout.
    """
    layouts = LAYOUTS.values() if dataset is None else [get_layout(dataset)]
    for layout in layouts:
        parts = [part for part in (layout.rgb, layout.thermal) if part]
        if all((folder / part).exists() for part in parts):
            break
    else:
        raise TpfError(
            f'{folder} has the layout of no {dataset or "benchmark"} sequence; '
            f'expected {" and ".join(parts) if dataset else "visible and infrared, for example"}'
        )
    rgb = layout.rgb and folder / layout.rgb
    first = _start(folder) if layout.every > 1 else None
    name = folder.resolve().name
    sequence = MediaSequence(
        rgb, folder / layout.thermal, name=name, first=first, second=layout.second
    )
    starts = [place for place in start_files(layout) if (folder / place).exists()]
    if starts:
        truth = read_truth(folder / starts[0], layout.two_corners and starts[0] != layout.init)
        truth = np.where(present(truth)[:, None], truth, np.nan)
        sequence.rows = table_rows(sequence.numbers, len(truth), layout.every, first)
        sequence.ground_truth = _spread(truth, sequence, layout.every)
    return sequence


def start_files(layout: Layout) -> list[str]:
    """Return the files that trackers start from: the first that is there."""
    return [place for place in (layout.init, layout.truths[0]) if place]


def table_rows(numbers: list[int], rows: int, every: int, first: int | None = None) -> np.ndarray:
    """
    Return the row (N,) of each frame in tables of boxes that have one for every frame.

    By position, unless frames are missing on disk: then by the frames' numbers. rows: of the
    ground truth, which has one for each so many-th frame. first: number of the frame of row 0.
    """
    ahead = np.array(numbers) - (numbers[0] if first is None else first)
    if every == 1 and (len(numbers) == rows or ahead[-1] != rows - 1):
        return np.arange(len(numbers))
    return ahead


def _spread(truth: np.ndarray, sequence: MediaSequence, every: int) -> np.ndarray:
    """Rows of ground truth for the frames (N, 4), NaN where there is none; a note on the rest."""
    spread = np.full((len(sequence), 4), np.nan)
    places = {row: index for index, row in enumerate(sequence.rows.tolist())}
    lost = []
    for row, box in enumerate(truth):
        if row * every in places:
            spread[places[row * every]] = box
        else:
            lost.append(str(row * every + sequence.numbers[0] - sequence.rows[0]))
    if lost:
        log.warning(
            '%s: %d of %d rows of ground truth have no image, those of frames %s',
            *(sequence.name, len(lost), len(truth), shorten(lost)),
        )
    if every == 1 and len(truth) < len(sequence):
        log.warning(
            '%s: %d frames but %d rows of ground truth', sequence.name, len(sequence), len(truth)
        )
    return spread


def _start(folder: Path) -> int | None:
    """Return what init_frame.npy, in one of the folders above, says about this sequence."""
    folder = folder.resolve()
    for above in list(folder.parents)[: DEPTH + 1]:
        if (above / STARTS).is_file():
            start = _Starts.read(above / STARTS).get(folder.name)
            return None if start is None else int(start)
    return None


class _Starts(pickle.Unpickler):
    """Numpy's pickled dictionary, and nothing else that a pickle can call."""

    ALLOWED = '_reconstruct', 'ndarray', 'dtype', 'scalar'

    def find_class(self, module: str, name: str) -> object:
        if module.partition('.')[0] == 'numpy' and name in self.ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f'it names {module}.{name}')

    @classmethod
    def read(cls, path: Path) -> dict[str, int]:
        try:
            file = io.BytesIO(path.read_bytes())
            file.seek(8)  # behind the magic and the version
            (header,) = struct.unpack('<H', file.read(2))
            file.seek(header, io.SEEK_CUR)
            return dict(cls(file).load().item())
        except Exception as error:  # unpickling raises whatever it stumbles on
            raise TpfError(f'{path} is no dictionary of first frames: {error}') from None


def read_truth(path: Path, two_corners: bool = False) -> np.ndarray:
    """Ground truth (N, 4) of one file; zeros where Anti-UAV says that the target is absent."""
    return read_boxes(path, two_corners=two_corners, key='gt_rect')


def read_truths(root: Path, dataset: str, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """
    Sequence name -> ground truth (G, N, 4), G boxes a frame, for scoring.

    Read from sequence folders, or from a folder with one file a sequence where the dataset has
    a single ground truth. Raises TpfError when there is none, or none for one of names.
    """
    layout = get_layout(dataset)
    folders = find_folders(root, layout.truths[0]) | find_folders(root, layout.thermal)
    if folders:
        files = {
            name: [folder / truth for truth in layout.truths] for name, folder in folders.items()
        }
    elif len(layout.truths) == 1:
        files = {path.stem: [path] for path in entries(root) if path.suffix == '.txt'}
    else:
        files = {}
    if not files:
        raise TpfError(
            f'{root} holds no {dataset} ground truth: no folder with {layout.truths[0]}'
            + (', no SEQUENCE.txt' if len(layout.truths) == 1 else '')
        )
    files = choose(files, names, root)
    absent = [str(path) for paths in files.values() for path in paths if not path.is_file()]
    if absent:
        raise TpfError(
            f'{len(absent)} files of ground truth are missing: {shorten(absent)}; '
            'complete them or choose by --sequences'
        )
    return {name: _agreeing(paths, layout) for name, paths in files.items()}


def _agreeing(paths: list[Path], layout: Layout) -> np.ndarray:
    boxes = [read_truth(path, layout.two_corners) for path in paths]
    if len(set(map(len, boxes))) > 1:
        rows = ' but '.join(f'{path.name} {len(each)}' for path, each in zip(paths, boxes))
        raise TpfError(f'{paths[0].parent}: {rows} rows of ground truth; they must be as many')
    return np.stack(boxes)


def read_rows(root: Path, dataset: str) -> dict[str, np.ndarray]:
    """Sequence name -> rows (N,) of its frames in tables, for sparse truths beside images."""
    layout = get_layout(dataset)
    folders = find_folders(root, layout.thermal) if layout.every > 1 else {}
    return {
        name: open_sequence(folder, dataset).rows
        for name, folder in folders.items()
        if (folder / layout.rgb).is_dir()
    }


def by_row(boxes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) of N frames as a table with a row for every frame, NaN for missing ones."""
    table = np.full((rows[-1] + 1, 4), np.nan)
    table[rows] = boxes
    return table


def read_names(path: Path) -> list[str]:
    """Return the sequence names of a list, one a line, with any line ends. Raises TpfError."""
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise TpfError(f'list of sequences {path} names none; write one name a line')
    return names


def read_attributes(root: Path, names: list[str]) -> dict[str, list[str]]:
    """
    Attribute -> sequences that have it, where the dataset brings attributes; else empty.

    Looked for in and beside root: LasHeR's AttriSeqsTxt/SEQ.txt (a flag for each attribute),
    RGBT234's attr_txt/ATTRIBUTE.txt (a flag for each line of attr_txt/SequencesName.txt).
    """
    flags = {}  # (sequence, attribute) -> 0 or 1
    for folder in (root, root.parent):
        by_sequence, by_attribute = folder / 'AttriSeqsTxt', folder / 'attr_txt'
        if by_sequence.is_dir():
            for name in names:
                values = _flags(by_sequence / f'{name}.txt', len(LASHER_ATTRIBUTES))
                flags |= {(name, key): value for key, value in zip(LASHER_ATTRIBUTES, values)}
        elif (by_attribute / 'SequencesName.txt').is_file():
            order = read_names(by_attribute / 'SequencesName.txt')
            for path in entries(by_attribute):
                if path.suffix != '.txt' or path.name == 'SequencesName.txt':
                    continue
                values = _flags(path, len(order))
                flags |= {(name, path.stem): value for name, value in zip(order, values)}
        if flags:
            break
    attributes = dict.fromkeys(key for _, key in flags)
    return {key: [name for name in names if flags.get((name, key))] for key in attributes}


def _flags(path: Path, count: int) -> np.ndarray:
    flags = read_numbers(path).ravel()
    if len(flags) != count:
        raise TpfError(f'{path} holds {len(flags)} flags; it must hold {count}')
    return flags
