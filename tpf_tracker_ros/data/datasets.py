"""
Benchmark datasets as they lie on disk: where images, ground truth and attributes are.

LasHeR, RGBT234, RGBT210: SEQ/visible, SEQ/infrared, visible.txt, infrared.txt, init.txt.
GTOT: SEQ/v, SEQ/i, groundTruth_v.txt, groundTruth_i.txt (x1 y1 x2 y2), init.txt.
VTUAV, short and long: SEQ/rgb, SEQ/ir, rgb.txt, ir.txt with a row for every tenth frame.
Anti-UAV: SEQ/infrared.mp4, infrared.json; its RGB camera has another view and is not read.
Sequences may lie in folders of their own (VTUAV's parts, LasHeR's testingset).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.box_files import read_boxes, read_json_boxes, read_numbers
from tpf_tracker_ros.data.media import MediaSequence
from tpf_tracker_ros.evaluation.metrics import present

DEPTH = 3  # folders between a dataset's root and its sequences, at most


@dataclass(frozen=True)
class Layout:
    """
    What lies in a sequence's folder.

    rgb, thermal: folder of images or video; rgb None where it is not registered to thermal.
    truths: ground-truth files that results are scored against. init: the file that trackers
    start from, where it is not the first of the truths. two_corners: truths hold x1 y1 x2 y2.
    every: a row of ground truth belongs to each so many-th frame.
    """

    rgb: str | None
    thermal: str
    truths: tuple[str, ...]
    init: str | None = None
    two_corners: bool = False
    every: int = 1


_ANHUI = 'visible', 'infrared'
LAYOUTS = {
    'lasher': Layout(*_ANHUI, ('init.txt',)),
    'rgbt234': Layout(*_ANHUI, ('visible.txt', 'infrared.txt'), init='init.txt'),
    'rgbt210': Layout(*_ANHUI, ('init.txt',)),
    'gtot': Layout(
        'v', 'i', ('groundTruth_v.txt', 'groundTruth_i.txt'), init='init.txt', two_corners=True
    ),
    'vtuav': Layout('rgb', 'ir', ('rgb.txt', 'ir.txt'), every=10),
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


def find_folders(root: Path, wanted: str, depth: int = DEPTH) -> dict[str, Path]:
    """Name -> folder of all folders at or below root that hold a file or folder `wanted`."""
    if not root.is_dir():
        raise TpfError(f'{root} is not a folder')
    if (root / wanted).exists():
        return {root.resolve().name: root}
    found = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()) if depth else ():
        found |= find_folders(folder, wanted, depth - 1)
    return found


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
        raise TpfError(f'{root} lacks {len(absent)} listed sequences: {", ".join(absent[:5])} …')
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
    sequence = MediaSequence(rgb, folder / layout.thermal, name=folder.resolve().name)
    starts = [
        name for name in (layout.init, layout.truths[0]) if name and (folder / name).exists()
    ]
    if starts:
        rows = read_truth(folder / starts[0], layout.two_corners and starts[0] != layout.init)
        rows = np.where(present(rows)[:, None], rows, np.nan)[: -(-len(sequence) // layout.every)]
        sequence.ground_truth = np.full((len(sequence), 4), np.nan)
        end, step = len(rows) * layout.every, layout.every
        sequence.ground_truth[:end:step] = rows
    return sequence


def read_truth(path: Path, two_corners: bool = False) -> np.ndarray:
    """Ground truth (N, 4) of one file; zeros where Anti-UAV says that the target is absent."""
    if path.suffix == '.json':
        return read_json_boxes(path, 'gt_rect')
    return read_boxes(path, two_corners=two_corners)


def read_truths(root: Path, dataset: str, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """
    Sequence name -> ground truth (G, N, 4), G boxes a frame, for scoring.

    Read from sequence folders, or from a folder with one file a sequence where the dataset has
    a single ground truth. Raises TpfError when there is none, or none for one of names.
    """
    layout = get_layout(dataset)
    folders = find_folders(root, layout.truths[0])
    if folders:
        files = {
            name: [folder / truth for truth in layout.truths] for name, folder in folders.items()
        }
    elif len(layout.truths) == 1:
        files = {path.stem: [path] for path in sorted(root.glob('*.txt'))}
    else:
        files = {}
    if not files:
        raise TpfError(
            f'{root} holds no {dataset} ground truth: no folder with {layout.truths[0]}'
            + (', no SEQUENCE.txt' if len(layout.truths) == 1 else '')
        )
    truths = {}
    for name, paths in choose(files, names, root).items():
        boxes = [read_truth(path, layout.two_corners) for path in paths]
        length = min(map(len, boxes))
        truths[name] = np.stack([rows[:length] for rows in boxes])
    return truths


def read_names(path: Path) -> list[str]:
    """Return the sequence names of a list, one a line, with any line ends."""
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise TpfError(f'list of sequences {path} cannot be read: {error}') from None


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
                values = read_numbers(by_sequence / f'{name}.txt').ravel()
                flags |= {(name, key): value for key, value in zip(LASHER_ATTRIBUTES, values)}
        elif (by_attribute / 'SequencesName.txt').is_file():
            order = read_names(by_attribute / 'SequencesName.txt')
            for path in sorted(
                set(by_attribute.glob('*.txt')) - {by_attribute / 'SequencesName.txt'}
            ):
                values = read_numbers(path).ravel()
                flags |= {(name, path.stem): value for name, value in zip(order, values)}
        if flags:
            break
    attributes = dict.fromkeys(key for _, key in flags)
    return {key: [name for name in names if flags.get((name, key))] for key in attributes}
