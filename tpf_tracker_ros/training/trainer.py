"""
The loop that all stages share: a run in a folder that logs, saves and resumes bit-exactly.

What is trained and on which losses is the stage's business (stage.py). Started by
`torchrun --nproc-per-node N -m tpf_tracker_ros.cli train …`, N processes train together on N
GPUs, each on samples of its own.
"""

from collections.abc import Iterator
from dataclasses import asdict
import math
from pathlib import Path
import time
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.checkpoint import save_weights
from tpf_tracker_ros.training.pictures import draw_samples
from tpf_tracker_ros.training.ranks import Ranks
from tpf_tracker_ros.training.samples.disk import Mixture
from tpf_tracker_ros.training.samples.real_world import open_world
from tpf_tracker_ros.training.samples.world import Batch
from tpf_tracker_ros.training.stage import RunConfig, Stage
from tpf_tracker_ros.training.watch import FiniteCheck, Log, Stopwatch
from tqdm import tqdm

# May change when a run goes on.
FREE = 'steps', 'minutes', 'log_every', 'save_every', 'save_seconds', 'picture_every'


class Trainer:
    """
    One run in a folder: log.csv, state.pt to resume from, and the averaged weights.

    folder: made by run. device: 'cpu', 'cuda' or 'cuda:N'; under torchrun, each process's own.
    """

    def __init__(
        self, stage: type[Stage], config: RunConfig, folder: Path, *, device: str = 'cpu'
    ) -> None:
        self.config, self.folder = config, folder
        self.ranks = Ranks(device)
        self.device = self.ranks.device
        torch.manual_seed(config.seed)
        seed = config.seed + 1000 * self.ranks.rank
        self.generator = torch.Generator(self.device).manual_seed(seed)
        painted = config.world_weight > 0 or not config.data  # else nothing is drawn from it
        self.world = open_world(config.world, self.generator, painted=painted)
        self.stage = stage(config, self.generator, self.world.host)
        self.network = self.stage.network.to(memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
        # It is asked in each step whether this is 0: on a GPU, that would wait for all its work.
        self.average.n_averaged = self.average.n_averaged.cpu()
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameter_groups(self.stage), lr=config.learning_rate)
        self.mixture = self._open_data() if config.data else None
        self._mixed: Iterator[Batch] | None = None
        self.step, self._began, self._stop_at = 0, time.perf_counter(), math.inf

    def _open_data(self) -> Mixture:
        config = self.config
        return Mixture(
            self.world, config.data, world_weight=config.world_weight, batch=config.batch,
            views=self._views(), seed=(config.seed, self.ranks.rank),
        )  # fmt: skip

    def _views(self) -> dict[str, Any]:
        """Sizes and shape of the views that the network takes, for World.sample."""
        crops = self.stage.model.crops
        return {
            'template_size': crops.template_size,
            'search_size': crops.search_size,
            'grid_z': crops.template_grid,
            'framing': crops.framing,
            'sound': self.stage.needs_sound_views,
        }

    def run(self, *, stop_after: float = math.inf, state: Path | None = None) -> None:
        """
        Train to the end, from the last saved state where there is one.

        stop_after: minutes from now after which the run stops, its state saved, to go on later.
        state: file to go on from where the folder holds no state of its own.
        """
        config = self.config
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume(state)
        steps = [int(step) for step in self.ranks.gather(torch.tensor(self.step))]
        if len(set(steps)) > 1:  # they would wait for each other for ever
            raise TpfError(
                f'the processes go on from the steps {", ".join(map(str, steps))}: {self.folder} '
                'is not one folder on all hosts; share it, or copy its state.pt to each of them'
            )
        self._stop_at = self._now() + 60 * stop_after
        saved_at = self._now()
        columns = 'step', *self.stage.columns, 'pairs_per_s', 'data_share', 'minutes'
        log = Log(self.folder, columns, self.step) if self.ranks.first else None
        total = None if config.minutes else config.steps
        with tqdm(
            total=total, initial=self.step, unit='step', disable=not self.ranks.first
        ) as progress:
            while not self._is_over():
                row = self.train(config.log_every)
                progress.update(self.step - progress.n)
                progress.set_postfix(dict(list(row.items())[1:]))
                if log:
                    log.write(row)
                due = config.save_seconds and self._now() - saved_at >= config.save_seconds
                if due or self._is_over() or self.step % config.save_every < config.log_every:
                    self.save()
                    saved_at = self._now()

    def _now(self) -> float:
        """Seconds of training until now, those of the run's earlier parts among them."""
        now, config = time.perf_counter() - self._began, self.config
        timed = config.minutes or config.save_seconds or self._stop_at < math.inf
        return self.ranks.agree(now) if timed else now

    def _done(self) -> float:
        """Share of the run that is over: of its steps, or of its minutes where they are set."""
        if self.config.minutes:
            return self._now() / (60 * self.config.minutes)
        return self.step / self.config.steps

    def _is_over(self) -> bool:
        return self._done() >= 1 or self._now() >= self._stop_at

    def train(self, steps: int) -> dict[str, float]:
        """Train so many steps, or to the end; the row for the log, means over these steps."""
        config, sums, start, first = self.config, [], time.perf_counter(), self.step
        sampling, check = Stopwatch(self.device), FiniteCheck(self.folder, self.device)
        while self.step < first + steps and not self._is_over():
            self.stage.begin_step(self._done())
            self.optimizer.zero_grad(set_to_none=True)
            for _ in range(config.accumulate):
                with sampling:
                    batch = self.sample()
                kind = self.device.partition(':')[0]
                with torch.autocast(kind, torch.bfloat16, enabled=config.bf16):
                    terms = self.stage.compute(batch)
                check.add(terms['loss'], batch, self.step)
                (terms['loss'] / config.accumulate).backward()
                values = [terms[name].detach().float() for name in self.stage.columns]
                sums = [torch.stack(values) + (sums[0] if sums else 0)]
            self.ranks.average_gradients(self.trained)
            nn.utils.clip_grad_norm_(self.trained, config.clip)
            rate = config.learning_rate * self._rate()
            for group in self.optimizer.param_groups:
                group['lr'] = group['scale'] * rate
            self.optimizer.step()
            self.ranks.share_buffers(self.network)
            self.average.update_parameters(self.network)
            self.step += 1
            if config.picture_every and self.step % config.picture_every == 0:
                self._draw(batch)
        check.finish()
        batches = (self.step - first) * config.accumulate
        means = (sums[0] / batches).tolist() if sums else [math.nan] * len(self.stage.columns)
        took = time.perf_counter() - start
        return {
            'step': self.step,
            **{name: round(value, 4) for name, value in zip(self.stage.columns, means)},
            'pairs_per_s': round(batches * config.batch * self.ranks.count / took, 1),
            'data_share': round(sampling.seconds() / took, 3),
            'minutes': round(self._now() / 60, 2),
        }

    def sample(self) -> Batch:
        """Return the next batch."""
        if self.mixture is None:
            return self.world.sample(self.config.batch, **self._views())
        if self._mixed is None:
            self._mixed = self.mixture.batches(self.step * self.config.accumulate)
        return next(self._mixed)

    def _rate(self) -> float:
        """Share of the learning rate: linear warm-up by steps, then cosine decay."""
        config = self.config
        if self.step < config.warmup:
            return (self.step + 1) / config.warmup
        if config.minutes:
            done = self._done()
        else:
            done = (self.step - config.warmup) / max(1, config.steps - config.warmup)
        cosine = (1 + math.cos(math.pi * min(1, done))) / 2
        return config.final_rate + (1 - config.final_rate) * cosine

    def _draw(self, batch: Batch) -> None:
        if self.ranks.first:
            path = self.folder / 'pictures' / f'{self.step:06}.jpg'
            draw_samples(self.stage.finished(self.average.module), batch, path)

    def save(self) -> None:
        """Write the state to resume from and the averaged weights."""
        generators = self.ranks.gather(self.generator.get_state())
        hosts = self.ranks.gather(self.world.host.get_state())
        seconds = self._now()
        if not self.ranks.first:
            return
        state = {
            'step': self.step,
            'seconds': seconds,
            'config': self._plain_config(),
            'model': self.network.state_dict(),
            'average': self.average.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'generator': torch.stack(generators),
            'host_generator': torch.stack(hosts),
        }
        partial = self.folder / 'state.part'
        torch.save(state, partial)
        partial.replace(self.folder / 'state.pt')  # an interruption leaves the old state whole
        save_weights(
            self.stage.finished(self.average.module),
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
        count = len(state['generator'])
        if count != self.ranks.count:
            raise TpfError(
                f'{path} is of {count} processes but {self.ranks.count} are running; '
                f'start it with torchrun --nproc-per-node {count}'
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
        # Copies: set_state crashes on a tensor that starts within a larger one.
        self.world.host.set_state(state['host_generator'][self.ranks.rank].clone())
        self.generator.set_state(state['generator'][self.ranks.rank].clone())
        self.step = state['step']
        self._began = time.perf_counter() - state['seconds']

    def _plain_config(self) -> dict[str, Any]:
        """Return what must stay the same for a run to go on, as plain values."""
        values = {'stage': self.stage.name, **asdict(self.config)}
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


def parameter_groups(stage: Stage) -> list[dict[str, Any]]:
    """Return what is not frozen; decay on matrices and kernels only, a rate for the backbone."""
    config, groups = stage.config, {}
    for name, parameter in stage.network.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = config.backbone_rate if stage.group(name) == 'backbone' else 1.0
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    return [
        {'params': parameters, 'weight_decay': decay, 'scale': scale}
        for (scale, decay), parameters in groups.items()
    ]
