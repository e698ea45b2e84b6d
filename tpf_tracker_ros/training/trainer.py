"""
The loop that all stages share: a run in a folder that logs, saves and resumes bit-exactly.

A stage says what is trained, what the losses of a batch are and which network is the result.
Started by `torchrun --nproc-per-node N -m tpf_tracker_ros.cli train …`, N processes train
together on N GPUs, each on samples of its own.
"""

from collections import deque
from collections.abc import Iterable, Iterator
import csv
from dataclasses import asdict, dataclass, field
import math
from pathlib import Path
import time
from typing import Any

import torch
from torch import nn, Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import create_model
from tpf_tracker_ros.models.checkpoint import load_weights, save_weights
from tpf_tracker_ros.models.network import TrackingNetwork
from tpf_tracker_ros.training.pictures import draw_samples
from tpf_tracker_ros.training.ranks import Ranks
from tpf_tracker_ros.training.samples.disk import DataConfig, Mixture
from tpf_tracker_ros.training.samples.real_world import open_world
from tpf_tracker_ros.training.samples.world import Batch, WorldConfig
from tqdm import tqdm

# May change when a run goes on.
FREE = 'steps', 'minutes', 'log_every', 'save_every', 'save_seconds', 'picture_every'


@dataclass(frozen=True)
class LoopConfig:
    """The numbers that every stage has."""

    model: str = 'tpf_tiny'
    init_weights: str = ''  # .safetensors to start from, such as the stage's before; '': fresh
    init_adapter: str = ''  # .safetensors for the fusion adapter alone; 'fresh': plain averaging
    seed: int = 0
    steps: int = 5000
    minutes: float = 0.0  # train so long, all parts of the run together, instead of `steps`
    batch: int = 32  # samples, of each process
    accumulate: int = 1  # batches a step
    bf16: bool = False  # mixed precision
    learning_rate: float = 1e-3
    backbone_rate: float = 1.0  # of the learning rate; 0.1 for a pretrained ViT-B
    warmup: int = 300  # steps of linear warm-up; cosine decay follows, over `steps` or `minutes`
    weight_decay: float = 1e-4
    clip: float = 1.0  # gradient norm
    ema: float = 0.998
    log_every: int = 50  # steps between lines of the log
    save_every: int = 250  # steps between checkpoints that training can resume from
    save_seconds: float = 0.0  # and after so much time; 0: by steps alone
    picture_every: int = 0  # steps between pictures of samples; 0: none
    world: WorldConfig = field(default_factory=WorldConfig)
    world_weight: float = 1.0  # share of the world's samples beside the weights in `data`
    data: list[DataConfig] = field(default_factory=list)  # datasets on disk, none by default


class Training:
    """
    One run in a folder: log.csv, state.pt to resume from, and the averaged weights.

    A stage overrides `columns`, `build`, `compute` and, where it trains more than the network
    that it hands on, `finished`.
    """

    columns: tuple[str, ...] = ()  # what `compute` returns and the log shows; 'loss' comes first

    def __init__(self, config: LoopConfig, folder: Path, *, device: str = 'cpu') -> None:
        self.config, self.folder = config, folder
        self.ranks = Ranks(device)
        self.device = self.ranks.device
        torch.manual_seed(config.seed)
        self.model: TrackingNetwork = create_model(config.model)
        self._initialize()
        self.network = self.build().to(self.device, memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
        # It is asked in each step whether this is 0: on a GPU, that would wait for all its work.
        self.average.n_averaged = self.average.n_averaged.cpu()
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.network, config), lr=config.learning_rate
        )
        seed = config.seed + 1000 * self.ranks.rank
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.world = open_world(config.world, self.generator)
        self.mixture = self._open_data() if config.data else None
        self._mixed: Iterator[Batch] | None = None
        self.step, self._began, self._stop_at = 0, time.perf_counter(), math.inf

    def _initialize(self) -> None:
        config = self.config

        def of_adapter(key: str) -> bool:
            return self.model.group(key) == 'adapter'

        def of_the_rest(key: str) -> bool:
            return not of_adapter(key)

        if config.init_weights:
            part = of_the_rest if config.init_adapter else None
            load_weights(self.model, Path(config.init_weights), part=part)
        if config.init_adapter not in ('', 'fresh'):
            load_weights(self.model, Path(config.init_adapter), part=of_adapter)

    def _open_data(self) -> Mixture:
        config = self.config
        return Mixture(
            self.world, config.data, world_weight=config.world_weight, batch=config.batch,
            views=self._views(), seed=(config.seed, self.ranks.rank),
        )  # fmt: skip

    def _views(self) -> dict[str, Any]:
        """Sizes and shape of the views that the network takes, for World.sample."""
        crops = self.model.crops
        return {
            'template_size': crops.template_size,
            'search_size': crops.search_size,
            'grid_z': crops.template_grid,
            'framing': crops.framing,
        }

    def build(self) -> nn.Module:
        """Make what is trained: self.model or a module around it. Freeze here what stays fixed."""
        return self.model

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """'loss' to minimise and further terms to log."""
        raise NotImplementedError

    def finished(self, network: nn.Module) -> TrackingNetwork:
        """Return the plain network that a trained (or averaged) one comes down to."""
        return network

    def run(self, *, stop_after: float = math.inf, state: Path | None = None) -> None:
        """
        Train to the end, from the last saved state where there is one.

        stop_after: minutes from now after which the run stops, its state saved, to go on later.
        state: file to go on from where the folder holds no state of its own.
        """
        config, saved_at = self.config, 0.0
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume(state)
        self._stop_at = self._now() + 60 * stop_after
        columns = 'step', *self.columns, 'pairs_per_s', 'data_share', 'minutes'
        log = _Log(self.folder, columns, self.step) if self.ranks.first else None
        total = None if config.minutes else config.steps
        with tqdm(
            total=total, initial=self.step, unit='step', disable=not self.ranks.first
        ) as progress:
            saved_at = self._now()
            while not self._is_over():
                row = self._train_chunk(config.log_every)
                progress.update(self.step - progress.n)
                progress.set_postfix(dict(list(row.items())[1:]))
                if log:
                    log.write(row)
                due = config.save_seconds and self._now() - saved_at >= config.save_seconds
                if due or self._is_over() or self.step % config.save_every < config.log_every:
                    self._save()
                    saved_at = self._now()

    def _now(self) -> float:
        """Seconds of training until now, those of the run's earlier parts among them."""
        now = time.perf_counter() - self._began
        config = self.config
        timed = config.minutes or config.save_seconds or self._stop_at < math.inf
        return self.ranks.agree(now) if timed else now

    def _done(self) -> float:
        """Share of the run that is over: of its steps, or of its minutes where they are set."""
        if self.config.minutes:
            return self._now() / (60 * self.config.minutes)
        return self.step / self.config.steps

    def _is_over(self) -> bool:
        return self._done() >= 1 or self._now() >= self._stop_at

    def _train_chunk(self, steps: int) -> dict[str, float]:
        """Train so many steps or to the end; the row for the log, means over these steps."""
        config, sums, start, first = self.config, 0, time.perf_counter(), self.step
        sampling, check = _Stopwatch(self.device), _FiniteCheck(self)
        while self.step < first + steps and not self._is_over():
            self.optimizer.zero_grad(set_to_none=True)
            for _ in range(config.accumulate):
                with sampling:
                    batch = self._sample()
                with torch.autocast(
                    self.device.partition(':')[0], torch.bfloat16, enabled=config.bf16
                ):
                    terms = self.compute(batch)
                check.add(terms['loss'], batch)
                (terms['loss'] / config.accumulate).backward()
                sums = sums + torch.stack([terms[name].detach().float() for name in self.columns])
            self.ranks.average_gradients(self.trained)
            nn.utils.clip_grad_norm_(self.trained, config.clip)
            rate = self._rate()
            for group in self.optimizer.param_groups:
                group['lr'] = config.learning_rate * group['scale'] * rate
            self.optimizer.step()
            self.ranks.share_buffers(self.network)
            self.average.update_parameters(self.network)
            self.step += 1
            if config.picture_every and self.step % config.picture_every == 0:
                self._draw(batch)
        check.finish()
        batches = (self.step - first) * config.accumulate
        means = (sums / max(1, batches)).tolist() if batches else [math.nan] * len(self.columns)
        took = time.perf_counter() - start
        return {
            'step': self.step,
            **{name: round(value, 4) for name, value in zip(self.columns, means)},
            'pairs_per_s': round(batches * config.batch * self.ranks.count / took, 1),
            'data_share': round(sampling.seconds() / took, 3),
            'minutes': round(self._now() / 60, 2),
        }

    def _sample(self) -> Batch:
        if self.mixture is None:
            return self.world.sample(self.config.batch, **self._views())
        if self._mixed is None:
            self._mixed = self.mixture.batches(self.step * self.config.accumulate)
        return next(self._mixed)

    def _rate(self) -> float:
        """Share of the learning rate: linear warm-up by steps, then cosine decay to 1 %."""
        config = self.config
        if self.step < config.warmup:
            return (self.step + 1) / config.warmup
        if config.minutes:
            done = self._done()
        else:
            done = (self.step - config.warmup) / max(1, config.steps - config.warmup)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * min(1, done))) / 2

    def _draw(self, batch: Batch) -> None:
        if self.ranks.first:
            path = self.folder / 'pictures' / f'{self.step:06}.jpg'
            draw_samples(self.finished(self.average.module), batch, path)

    def _save(self) -> None:
        generators = self.ranks.gather(self.generator.get_state())
        host_generators = self.ranks.gather(self.world.host.get_state())
        if not self.ranks.first:
            return
        state = {
            'step': self.step,
            'config': self._plain_config(),
            'model': self.network.state_dict(),
            'average': self.average.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'generator': torch.stack(generators),
            'host_generator': torch.stack(host_generators),
            'seconds': self._now(),
        }
        partial = self.folder / 'state.part'
        torch.save(state, partial)
        partial.replace(self.folder / 'state.pt')  # an interruption leaves the old state whole
        save_weights(
            self.finished(self.average.module),
            self.folder / f'{self.config.model}.safetensors',
            metadata={'steps': str(self.step), 'seed': str(self.config.seed)},
        )

    def _resume(self, given: Path | None = None) -> None:
        path = self.folder / 'state.pt'
        if not path.is_file():
            if given is None:
                return
            if not given.is_file():
                raise TpfError(f'state {given} does not exist')
            path = given
        state = torch.load(path, map_location='cpu', weights_only=True)
        generators = state['generator']
        if len(generators) != self.ranks.count:
            raise TpfError(
                f'{path} is of {len(generators)} processes but {self.ranks.count} are running; '
                f'start it with torchrun --nproc-per-node {len(generators)}'
            )
        changed = first_difference(state['config'], self._plain_config())
        if changed:
            key, before, now = changed
            raise TpfError(
                f'{path} is of a run with {key} = {before!r}, but now {key} = {now!r}; '
                'restore it or give another folder'
            )
        try:
            self.network.load_state_dict(state['model'])
            self.average.load_state_dict(state['average'])
            self.optimizer.load_state_dict(state['optimizer'])
        except (RuntimeError, ValueError) as error:
            reason = ' '.join(str(error).split())[:200]
            raise TpfError(
                f'{path} is of another network or stage ({reason}); give another folder'
            ) from None
        # A copy: set_state crashes on a tensor that starts within a larger one.
        self.world.host.set_state(state['host_generator'][self.ranks.rank].clone())
        self.generator.set_state(generators[self.ranks.rank].clone())
        self.step = state['step']
        self._began = time.perf_counter() - state['seconds']

    def _plain_config(self) -> dict[str, Any]:
        """Return what must stay the same for a run to go on, as plain values."""
        values = {'stage': type(self).__name__, **asdict(self.config)}
        return {key: value for key, value in values.items() if key not in FREE}


def first_difference(before: Any, now: Any, key: str = '') -> tuple[str, Any, Any] | None:
    """
    Return key, value and value of where two configurations of plain values first differ.

    Keys that one of them lacks came or went with a version of this package; they do not count.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        items = [(f'{key}.{k}' if key else k, before[k], now[k]) for k in now if k in before]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        items = [(f'{key}[{i}]', *pair) for i, pair in enumerate(zip(before, now))]
    else:
        return None if before == now else (key, before, now)
    return next(filter(None, (first_difference(a, b, k) for k, a, b in items)), None)


class _Stopwatch:
    """Time spent inside of `with` blocks; on a GPU, by events, which do not wait for its work."""

    def __init__(self, device: str) -> None:
        self._on_gpu, self._marks, self._seconds = device.startswith('cuda'), [], 0.0

    def __enter__(self) -> None:
        self._marks.append(self._mark())

    def __exit__(self, *_: object) -> None:
        self._marks.append(self._mark())

    def _mark(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> float:
        """All blocks together; waits for them on a GPU."""
        pairs = zip(self._marks[::2], self._marks[1::2])
        if not self._on_gpu:
            return sum(end - start for start, end in pairs)
        torch.cuda.synchronize()
        return sum(start.elapsed_time(end) for start, end in pairs) / 1000


class _FiniteCheck:
    """
    Stops a training whose loss is not finite, and keeps the batch.

    On a GPU a loss is looked at two batches later: to ask at once would be to wait for it.
    """

    def __init__(self, training: Training) -> None:
        self._training, self._pending = training, deque()
        self._lag = 2 if training.device.startswith('cuda') else 0

    def add(self, loss: Tensor, batch: Batch) -> None:
        finite = torch.isfinite(loss.detach()).to('cpu', non_blocking=True)
        known = None
        if self._lag:
            known = torch.cuda.Event()
            known.record()
        self._pending.append((finite, known, batch, self._training.step))
        self._look(self._lag)

    def finish(self) -> None:
        self._look(0)

    def _look(self, left: int) -> None:
        while len(self._pending) > left:
            finite, known, batch, step = self._pending.popleft()
            if known is not None:
                known.synchronize()
            if finite:
                continue
            path = self._training.folder / 'nan_batch.pt'
            torch.save(asdict(batch), path)
            raise TpfError(
                f'loss is not finite at step {step}; the batch is in {path}; '
                'lower learning_rate or clip'
            )


class _Log:
    """log.csv, and TensorBoard's events beside it where tensorboard is installed."""

    def __init__(self, folder: Path, columns: Iterable[str], step: int) -> None:
        self._path, self._board = folder / 'log.csv', None
        rows = []
        if self._path.is_file():
            # What an interrupted run logged after its last state will be logged again.
            lines = self._path.read_text().splitlines()[1:]
            rows = [line for line in lines if int(line.partition(',')[0]) <= step]
        self._path.write_text('\n'.join([','.join(columns), *rows, '']))
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(folder, purge_step=step)
        except ImportError:
            pass

    def write(self, row: dict[str, Any]) -> None:
        """One line; the first column is the step."""
        with open(self._path, 'a', newline='') as file:
            csv.writer(file, lineterminator='\n').writerow(row.values())
        if self._board is not None:
            for name, value in list(row.items())[1:]:
                self._board.add_scalar(name, value, row['step'])


def parameter_groups(network: nn.Module, config: LoopConfig) -> list[dict]:
    """Get what is not frozen; decay on matrices and kernels only, a rate of the backbone's own."""
    groups = []
    names = {id(p): name for name, p in network.named_parameters() if p.requires_grad}
    for scale in dict.fromkeys((1.0, config.backbone_rate)):
        chosen = [
            p
            for p in network.parameters()
            if id(p) in names
            and scale == (config.backbone_rate if 'backbone.' in names[id(p)] else 1.0)
        ]
        for decay, params in (
            (config.weight_decay, [p for p in chosen if p.ndim > 1]),
            (0.0, [p for p in chosen if p.ndim <= 1]),
        ):
            if params:
                groups.append({'params': params, 'weight_decay': decay, 'scale': scale})
    return groups
