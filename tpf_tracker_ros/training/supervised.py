"""Plain supervised training of a TPF network on the synthetic world.

Box losses as in the OSTrack family, and a matching loss: every template token that is still
visible must find its place in the search image by the correlation of the stem's features.
"""

import csv
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import create_model
from tpf_tracker_ros.models.checkpoint import save_weights
from tpf_tracker_ros.models.head import decode
from tpf_tracker_ros.models.tpf import Tpf
from tpf_tracker_ros.tracking.engine import MEAN, STD
from tpf_tracker_ros.training.losses import (
    box_at,
    focal_loss,
    gaussian_target,
    giou_loss,
    matching_loss,
)
from tpf_tracker_ros.training.world import DYNAMIC, INITIAL, SEARCH, Batch, World, WorldConfig

CHUNK = 50  # steps between lines of the log


@dataclass(frozen=True)
class SupervisedConfig:
    """Every number of one experiment."""

    model: str = 'tpf_tiny'
    seed: int = 0
    steps: int = 5000
    batch: int = 32
    learning_rate: float = 1e-3
    warmup: int = 300  # steps of linear warm-up; cosine decay follows
    weight_decay: float = 1e-4
    clip: float = 1.0  # gradient norm
    ema: float = 0.998
    giou_weight: float = 2.0
    l1_weight: float = 5.0
    score_weight: float = 1.0
    matching_weight: float = 0.5
    dynamic_share: float = 0.6  # batches with a dynamic template beside the initial one
    save_every: int = 250  # steps between checkpoints that training can resume from
    world: WorldConfig = field(default_factory=WorldConfig)


@dataclass(frozen=True)
class Losses:
    """The terms of one batch, unweighted, and the mean IoU of the predicted boxes."""

    giou: Tensor
    l1: Tensor
    score: Tensor
    matching: Tensor
    iou: Tensor


def compute_losses(model: Tpf, batch: Batch, *, dynamic: bool) -> Losses:
    """One forward pass over a batch of the world, with or without the dynamic template."""
    views = (INITIAL, DYNAMIC, SEARCH) if dynamic else (INITIAL, SEARCH)
    *templates, search = (model.embed(fuse_view(model, batch, view)) for view in views)
    templates = torch.cat(templates, 1)
    maps = model(templates, search)
    grid = maps.score.shape[-1]
    target = gaussian_target(batch.box, grid)
    inside = target.flatten(1).amax(1) > 0
    cell = (batch.box[:, :2] * grid).floor().long().clamp(0, grid - 1)
    box = box_at(maps.size, maps.offset, cell)[inside]
    truth = batch.box[inside]
    matching = matches_of(model, templates, search, batch)
    with torch.no_grad():
        found, _ = decode(maps.score, maps.size, maps.offset)
        iou = (1 - giou_loss(found[inside], truth)).clamp(min=0).mean()
    return Losses(
        giou=giou_loss(box, truth).mean(),
        l1=(box - truth).abs().mean(),
        score=focal_loss(maps.score, target),
        matching=matching,
        iou=iou,
    )


def matches_of(model: Tpf, templates: Tensor, search: Tensor, batch: Batch) -> Tensor:
    """Matching loss of the stem's features; zero for a model without explicit correlation."""
    correlation = model.backbone.correlation
    if correlation is None:
        return search.new_zeros(())
    similarity = correlation.similarity(templates, search)  # (B, Nx, K * Nz)
    count = templates.shape[1] // batch.seen.shape[2]
    matches, seen = batch.matches[:, :count], batch.seen[:, :count]
    return matching_loss(similarity, matches.flatten(1, 2), seen.flatten(1, 2))


def fuse_view(model: Tpf, batch: Batch, view: int) -> Tensor:
    """The fused image (B, 3, S, S) of one view of a batch."""
    mean = batch.box.new_tensor(MEAN).view(3, 1, 1)
    std = batch.box.new_tensor(STD).view(3, 1, 1)
    return model.fuse((batch.rgb[view] - mean) / std, (batch.thermal[view] - mean) / std)


class SupervisedTraining:
    """One run in a folder: log.csv, state.pt to resume from, and the averaged weights."""

    def __init__(self, config: SupervisedConfig, folder: Path, *, device: str = 'cpu') -> None:
        self.config, self.folder, self.device = config, folder, device
        torch.manual_seed(config.seed)
        self.model = create_model(config.model).to(device)
        self.average = AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(self.model, config.weight_decay), lr=config.learning_rate
        )
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.world = World(config.world, self.generator)
        self.step = 0

    def _rate(self, step: int) -> float:
        """Share of the learning rate at a step: linear warm-up, then cosine decay to 1 %."""
        if step < self.config.warmup:
            return (step + 1) / self.config.warmup
        done = (step - self.config.warmup) / max(1, self.config.steps - self.config.warmup)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * min(1, done))) / 2

    def run(self) -> None:
        """Train to the end, from the last saved state where there is one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        with open(self.folder / 'log.csv', 'a', newline='') as file:
            log = csv.writer(file)
            if self.step == 0:
                log.writerow(
                    [
                        'step',
                        'loss',
                        'giou',
                        'l1',
                        'score',
                        'matching',
                        'iou',
                        'pairs_per_s',
                        'data_share',
                    ]
                )
            progress = tqdm(total=self.config.steps, initial=self.step, unit='step')
            while self.step < self.config.steps:
                row = self._train_chunk(min(CHUNK, self.config.steps - self.step))
                progress.update(self.step - progress.n)
                progress.set_postfix(loss=row[1], iou=row[6], pairs_s=row[7], data=row[8])
                log.writerow(row)
                file.flush()
                if self.step % self.config.save_every < CHUNK or self.step == self.config.steps:
                    self._save()
            progress.close()

    def _train_chunk(self, steps: int) -> list:
        config, sums, data_time, start = self.config, 0, 0.0, time.perf_counter()
        settings = self.model.config
        for _ in range(steps):
            began = time.perf_counter()
            batch = self.world.sample(
                config.batch,
                template_size=settings.template_size,
                search_size=settings.search_size,
                grid_z=settings.template_size // settings.stride,
            )
            data_time += time.perf_counter() - began
            dynamic = torch.rand((), generator=self.generator, device=self.device)
            terms = compute_losses(self.model, batch, dynamic=bool(dynamic < config.dynamic_share))
            loss = (
                config.giou_weight * terms.giou
                + config.l1_weight * terms.l1
                + config.score_weight * terms.score
                + config.matching_weight * terms.matching
            )
            if not torch.isfinite(loss):
                torch.save(asdict(batch), self.folder / 'nan_batch.pt')
                raise TpfError(
                    f'loss is not finite at step {self.step}; the batch is in '
                    f'{self.folder / "nan_batch.pt"}; lower learning_rate or clip'
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
            for group in self.optimizer.param_groups:
                group['lr'] = config.learning_rate * self._rate(self.step)
            self.optimizer.step()
            self.average.update_parameters(self.model)
            self.step += 1
            with torch.no_grad():
                sums = sums + torch.stack(
                    [loss, terms.giou, terms.l1, terms.score, terms.matching, terms.iou]
                )
        took = time.perf_counter() - start
        means = [round(value, 4) for value in (sums / steps).tolist()]
        return [
            self.step,
            *means,
            round(steps * config.batch / took, 1),
            round(data_time / took, 3),
        ]

    def _save(self) -> None:
        state = {
            'step': self.step,
            'model': self.model.state_dict(),
            'average': self.average.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'generator': self.generator.get_state(),
        }
        partial = self.folder / 'state.part'
        torch.save(state, partial)
        partial.replace(self.folder / 'state.pt')  # an interruption leaves the old state whole
        save_weights(
            self.average.module,
            self.folder / f'{self.config.model}.safetensors',
            metadata={'steps': str(self.step), 'seed': str(self.config.seed)},
        )

    def _resume(self) -> None:
        path = self.folder / 'state.pt'
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state['model'])
        self.average.load_state_dict(state['average'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.generator.set_state(state['generator'].cpu())
        self.step = state['step']


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay on matrices and kernels only."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    free = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {'params': decayed, 'weight_decay': weight_decay},
        {'params': free, 'weight_decay': 0.0},
    ]
