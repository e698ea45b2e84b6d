"""What is in a bag, and what the tracker would make of it: the text of `tpf bag info`."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.bags.storage import Bag, bag_files
from tpf_tracker_ros.core.errors import TpfError
from tqdm import tqdm

BAR = 40  # characters
GAP = 1.5  # median periods


def describe(path: Path | str, open_bag: Callable[[Path | str], BagSequence] = BagSequence) -> str:
    """
    Topics with rates and gaps, the pairs that would be tracked, and their skew in time.

    open_bag: how the tracker would open it. Raises TpfError on what is no bag; a bag that cannot
    be tracked is described all the same.
    """
    bag = Bag(path)
    times = defaultdict(list)
    total = sum(topic.count for topic in bag.topics.values())
    for message in tqdm(bag.messages(), total=total, desc=bag.path.name, disable=None):
        times[message.topic].append(message.time)
    lines = [*_summary(bag, times), '', *_topics(bag, times), '']
    try:
        lines += _pairs(open_bag(path))
    except TpfError as error:
        lines.append(f'cannot be tracked: {error}')
    return '\n'.join(lines)


def _summary(bag: Bag, times: dict[str, list[int]]) -> Iterator[str]:
    files = bag_files(bag.path)
    size = sum(file.stat().st_size for file in files)
    shown = files[0].name if len(files) == 1 else f'{len(files)} files'
    yield f'{bag.path}: {shown}, {size / 1e6:.1f} MB'
    stamps = [stamp for each in times.values() for stamp in (min(each), max(each))]
    if stamps:
        start, stop = np.datetime64(min(stamps), 'ns'), (max(stamps) - min(stamps)) / 1e9
        count = sum(map(len, times.values()))
        yield f'{count} messages in {stop:.2f} s from {start.astype("datetime64[ms]")} UTC'


def _topics(bag: Bag, times: dict[str, list[int]]) -> Iterator[str]:
    """One row a topic: rate from the median period; gaps are longer than 1.5 of it."""
    rows = [('topic', 'type', 'messages', 'Hz', 'gaps', 'longest gap')]
    for name, topic in sorted(bag.topics.items()):
        periods = np.diff(times.get(name, []))
        rate = gaps = longest = '-'
        if len(periods) and np.median(periods) > 0:
            period = np.median(periods)
            rate = f'{1e9 / period:.4g}'
            gaps = str((periods > GAP * period).sum())
            longest = f'{periods.max() / 1e6:.0f} ms'
        rows.append((name, topic.kind, str(len(times.get(name, []))), rate, gaps, longest))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:])]
        yield '  '.join((*left, *right))


def _pairs(sequence: BagSequence) -> Iterator[str]:
    cameras = ', '.join(f'{camera} {topic}' for camera, topic in sequence.topics.items())
    yield f'would be tracked: {cameras}'
    for camera, (_, reason) in sequence.why.items():
        yield f'{camera} because: {reason}'
    pairer = sequence.pairer
    if len(sequence.topics) == 1:
        yield f'{len(sequence)} frames of one camera'
        return
    late, unpaired = pairer.late, pairer.unpaired
    yield (
        f'{pairer.paired} pairs within {pairer.slop_ns / 1e6:g} ms, '
        f'{pairer.single} frames of one camera while the other was dead'
    )
    for camera in sequence.topics:
        yield f'{camera}: {unpaired[camera]} without a partner, {late[camera]} out of order'
    if sequence.ground_truth is not None:
        known = np.isfinite(sequence.ground_truth).all(axis=1).sum()
        yield f'ground truth for {known} of {len(sequence)} pairs'
    skews = np.array(sequence.skews) / 1e6
    if len(skews):
        yield ''
        yield (
            f'skew, thermal minus rgb: median {np.median(skews):.2f} ms, '
            f'p5 {np.percentile(skews, 5):.2f} ms, p95 {np.percentile(skews, 95):.2f} ms'
        )
        yield from _histogram(skews)


def _histogram(values: np.ndarray) -> Iterator[str]:
    """Bars of the values in ms; bins of at least 0.1 ms, so that noise is not blown up."""
    width = max(0.1, np.ptp(values) / 10)
    first = np.floor(values.min() / width) * width
    counts, edges = np.histogram(values, np.arange(first, values.max() + width * 1.01, width))
    for low, count in zip(edges, counts):
        bar = '#' * int(np.ceil(BAR * count / counts.max()))
        yield f'{low:8.2f} .. {low + width:8.2f} ms  {bar} {count}'
