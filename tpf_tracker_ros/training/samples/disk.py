"""
Training samples from benchmark sequences on disk, mixed with those of the synthetic world.

As in the OSTrack family, the frames of a sample come from one sequence, in time order and within
200 frames: the initial template, the dynamic one, the search view. Crops are jittered as the
world's are, alike in both cameras. What a batch is made of follows from the seed, the process
and the batch's number alone, so threads can read ahead and a resumed run sees the same samples.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tpf_tracker_ros.core.boxes import present
from tpf_tracker_ros.core.crops import Framing, SQUARE, Window
from tpf_tracker_ros.core.depth import depth_colours
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.data.datasets import (
    find_sequences,
    get_layout,
    open_sequence,
    read_names,
)
from tpf_tracker_ros.data.media import MediaSequence
from tpf_tracker_ros.training.samples.sensors import degrade_real, draw_failing
from tpf_tracker_ros.training.samples.world import (
    Batch,
    DYNAMIC,
    INITIAL,
    join_batches,
    reordered,
    SEARCH,
    Views,
    World,
    WorldConfig,
)

AHEAD = 3  # batches that are read while one is trained on

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataConfig:
    """One [[data]] table: a dataset on disk, and how often it is drawn from."""

    dataset: str  # lasher, rgbt234, rgbt210, gtot, vtuav; visevent for events, depthtrack
    root: str  # folder of the sequences, or above it
    sequences: str = ''  # file that names those to train on, one a line; '': all below root
    weight: float = 1.0  # its share of the samples beside world_weight and the other weights
    reach: int = 200  # frames from the initial template to the search view, at most
    dynamic_age: float = 15.0  # mean frames from the dynamic template to the search view
    flip_share: float = 0.5  # samples that are mirrored, left to right


@dataclass(frozen=True)
class Sample:
    """Which frames of a sequence, which windows of them, and the box cx, cy, w, h in the last."""

    sequence: MediaSequence
    frames: tuple[int, int, int]
    windows: tuple[Window, Window, Window]
    box: np.ndarray
    flip: bool


class Footage:
    """
    The sequences of one dataset.

    Raises TpfError when there are none that can be trained on. A sequence without two frames
    that show the target within reach of each other is left out, with a warning that counts.
    """

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        if get_layout(config.dataset).rgb is None:
            raise TpfError(f'{config.dataset} has no RGB on the thermal grid; it cannot be used')
        names = read_names(Path(config.sequences)) if config.sequences else None
        folders = find_sequences(Path(config.root), config.dataset, names)
        self._sequences = []  # each with the frames that show the target, and the ends of pairs
        for folder in folders.values():
            sequence = open_sequence(folder, config.dataset)
            if sequence.ground_truth is None:
                continue
            frames = np.flatnonzero(present(sequence.ground_truth) & sequence.both)
            ends = 1 + np.flatnonzero(np.diff(frames) <= config.reach)
            if len(ends):
                self._sequences.append((sequence, frames, ends))
        left_out = len(folders) - len(self._sequences)
        reason = f'no two frames with a box within {config.reach} frames'
        if not self._sequences:
            raise TpfError(f'{config.root}: none of {left_out} sequences is usable: {reason}')
        if left_out:
            log.warning('%s: %d sequences left out: %s', config.root, left_out, reason)

    def draw(
        self, rng: np.random.Generator, world: WorldConfig, *, framing: Framing = SQUARE
    ) -> Sample:
        """Draw frames of any sequence, all alike likely, and what is cropped of them."""
        config = self.config
        sequence, shown, ends = self._sequences[rng.integers(len(self._sequences))]
        last = rng.choice(ends)
        search = shown[last]
        initial = rng.integers(np.searchsorted(shown, search - config.reach), last)
        # The dynamic template is mostly young, as NDTU keeps it, and starts as the initial one.
        born = search - 1 - rng.exponential(config.dynamic_age)
        dynamic = max(initial, np.searchsorted(shown, born, side='right') - 1)
        frames = int(shown[initial]), int(shown[dynamic]), int(search)
        windows, box = aim(sequence.ground_truth[list(frames)], world, framing, rng)
        return Sample(sequence, frames, windows, box, rng.random() < config.flip_share)


def aim(
    boxes: np.ndarray, config: WorldConfig, framing: Framing, rng: np.random.Generator
) -> tuple[tuple[Window, Window, Window], np.ndarray]:
    """
    Windows of three views around boxes (3, 4) x, y, w, h px, jittered as the world's views are.

    The second value is the last box cx, cy, w, h relative to the last window.
    """
    initial = Window.around(
        boxes[INITIAL], framing.template, aspect=framing.aspect, context=framing.context
    )
    remembered = _distort(boxes[DYNAMIC], *rng.normal(0, config.dynamic_jitter, 4))
    dynamic = Window.around(
        remembered, framing.template, aspect=framing.aspect, context=framing.context
    )
    most = config.search_scale_limit
    log_side = np.clip(rng.normal(0, config.search_scale), -most, most)
    guess = _distort(boxes[SEARCH], 0, 0, log_side, rng.normal(0, config.search_aspect))
    wide = framing.wide > 0 and rng.random() < config.wide_share
    factor = framing.wide if wide else framing.search
    factor *= max(1.0, framing.smallest / np.sqrt(boxes[SEARCH][2:].prod()))
    search = Window.around(guess, factor, aspect=framing.aspect, context=framing.context)
    shift = rng.uniform(-1, 1, 2) * config.search_shift * (0.5 - 0.5 / factor)
    if rng.random() < config.absent_share:
        shift = np.sign(shift) * (1 + np.abs(shift))
    dx, dy = np.round(shift * (search.width, search.height)).astype(int)
    search = replace(search, x=search.x + int(dx), y=search.y + int(dy))
    return (initial, dynamic, search), _relative(boxes[SEARCH], search)


def _distort(
    box: np.ndarray, right: float, down: float, log_side: float, log_aspect: float
) -> np.ndarray:
    """Move a box x, y, w, h by shares of its sides, then scale and stretch it in place."""
    x, y, w, h = box
    cx, cy = x + w * (0.5 + right), y + h * (0.5 + down)
    w, h = w * np.exp(log_side + log_aspect / 2), h * np.exp(log_side - log_aspect / 2)
    return np.array([cx - w / 2, cy - h / 2, w, h])


def _relative(box: np.ndarray, window: Window) -> np.ndarray:
    """Inverse of Window.to_image."""
    x, y, w, h = box
    cx, cy = x + w / 2 - window.x, y + h / 2 - window.y
    return np.array([cx, cy, w, h]) / np.tile((window.width, window.height), 2)


def read_views(sample: Sample, sizes: tuple[int, int, int]) -> list[np.ndarray]:
    """
    Return three views uint8 (S, S, 7): RGB, thermal as three, 255 where the image is shown.

    16-bit thermal frames are mapped by their own range: what went before them is not read. Depth
    is shown in colours, as its models see it.
    Raises TpfError on an image that cannot be read, by its name.
    """
    pairs, views = {}, []
    for frame in set(sample.frames):
        try:
            pairs[frame] = sample.sequence[frame]
        except (TpfError, OSError) as error:
            name = sample.sequence.name
            raise TpfError(f'sequence {name}, frame {frame}: {error}') from error
    for frame, window, size in zip(sample.frames, sample.windows, sizes):
        to_rgb = depth_colours if sample.sequence.second == 'depth' else ThermalRange().to_rgb
        rgb, thermal = pairs[frame].rgb, to_rgb(pairs[frame].thermal)
        inside = _inside(window, pairs[frame].size, size)
        view = np.dstack([window.take(rgb, size), window.take(thermal, size), inside])
        views.append(view[:, ::-1] if sample.flip else view)
    return views


def _inside(window: Window, image_size: tuple[int, int], size: int) -> np.ndarray:
    """255 for the pixels (size, size) of a crop whose centres lie in the image, else 0."""
    steps = (np.arange(size) + 0.5) / size
    x, y = window.x + steps * window.width, window.y + steps * window.height
    columns, rows = (x >= 0) & (x < image_size[0]), (y >= 0) & (y < image_size[1])
    return np.uint8(255) * (rows[:, None] & columns)


class Mixture:
    """
    Batches in which each sample is of the world or of one of the datasets, drawn by weight.

    views: the arguments of World.sample. seed: of the run and of the process. Real samples have
    no known matches: none of their tokens is `seen`.
    """

    def __init__(
        self,
        world: World,
        data: list[DataConfig],
        *,
        world_weight: float,
        batch: int,
        views: dict[str, Any],
        seed: tuple[int, int],
    ) -> None:
        weights = np.array([world_weight, *(source.weight for source in data)])
        if (weights < 0).any() or weights.sum() == 0:
            raise TpfError(
                f'world_weight and the weights in data are {weights.tolist()}; '
                'none may be negative, and one must be above 0'
            )
        self._shares = weights / weights.sum()
        self._world, self._batch, self._views, self._seed = world, batch, views, seed
        self._footage = [Footage(source) for source in data]
        self._sizes = (views['template_size'],) * 2 + (views['search_size'],)

    def plan(self, number: int) -> list[Sample | None]:
        """Return the samples of the batch of this number, None where the world gives one."""
        rng = np.random.default_rng((*self._seed, number))
        sources = rng.choice(len(self._shares), self._batch, p=self._shares)
        framing = self._views['framing']
        return [
            self._footage[source - 1].draw(rng, self._world.config, framing=framing)
            if source
            else None
            for source in sources
        ]

    def batches(self, first: int) -> Iterator[Batch]:
        """Batches from this number on; what is read ahead draws nothing from the world's seed."""
        with ThreadPoolExecutor() as pool:
            ahead = deque()
            for number in count(first):
                plan = self.plan(number)
                real = [sample for sample in plan if sample]
                views = [pool.submit(read_views, sample, self._sizes) for sample in real]
                ahead.append((plan, real, views))
                if len(ahead) > AHEAD:
                    plan, real, views = ahead.popleft()
                    yield self._assemble(plan, real, [each.result() for each in views])

    def _assemble(
        self, plan: list[Sample | None], real: list[Sample], views: list[list[np.ndarray]]
    ) -> Batch:
        parts = []
        if len(real) < len(plan):
            parts.append(self._world.sample(len(plan) - len(real), **self._views))
        if real:
            parts.append(self._to_batch(real, views))
        # In the order of the plan: whoever uses a part of the batch gets both kinds.
        lies_at = np.argsort([sample is not None for sample in plan], kind='stable')
        order = torch.from_numpy(np.argsort(lies_at)).to(self._world.device)
        return reordered(join_batches(parts), order)

    def _to_batch(self, samples: list[Sample], views: list[list[np.ndarray]]) -> Batch:
        """Batch of real views, with cameras that fail as often as in the world."""
        device, world = self._world.device, self._world
        failing = draw_failing(len(samples), world.config.sensors, world.generator)
        seen_by, sound_views = [], []
        for view in zip(*views):
            image = torch.from_numpy(np.stack(view)).to(device).permute(0, 3, 1, 2) / 255
            inside = image[:, 6:]
            cameras = partial(
                degrade_real,
                image[:, :3],
                image[:, 3:6],
                world.config.sensors,
                world.generator,
            )
            if self._views.get('sound'):
                sound = world.undrawn(cameras, failing=torch.zeros_like(failing))
                sound_views.append([each * inside for each in sound])
            seen_by.append([each * inside for each in cameras(failing=failing)])
        box = np.stack([sample.box for sample in samples])
        flip = np.array([sample.flip for sample in samples])
        box[flip, 0] = 1 - box[flip, 0]
        shape = len(samples), 2, self._views['grid_z'] ** 2
        return Batch(
            *zip(*seen_by),
            torch.from_numpy(box).float().to(device),
            torch.zeros(*shape, 2, device=device),
            torch.zeros(shape, dtype=torch.bool, device=device),
            ~failing.flatten(),
            Views(*zip(*sound_views)) if sound_views else None,
        )
