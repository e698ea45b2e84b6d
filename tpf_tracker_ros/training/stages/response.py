"""
Response distillation: an adapter learns to keep a frozen tracker's own answer on sound images.

The tracker teaches itself. It looks at each camera alone, as it would be if sound; where its box
is right its answer is a lesson: score map, box and features. Behind the adapter the same tracker
then looks at what cameras that fail or fade have left, and should answer like the nearest lesson:
which camera it follows is free, so that the adapter chooses. Asked for one lesson, such as the
better one or that on the mean of both, it ends at plain averaging, right in no camera's way.

A label of ours, such as a narrow peak, is nothing that a frozen tracker can be taught to give; but
where its answer is high away from the target it is a distractor's, and is not asked for.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn, Tensor
import torch.nn.functional as F
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.layers.head import decode
from tpf_tracker_ros.models.nano import TpfNano
from tpf_tracker_ros.models.network import Maps
from tpf_tracker_ros.training.losses.centre import box_at, giou_loss
from tpf_tracker_ros.training.losses.tracking import merge_view
from tpf_tracker_ros.training.samples.world import Batch, INITIAL, SEARCH
from tpf_tracker_ros.training.stage import register_stage
from tpf_tracker_ros.training.stages.supervised import Supervised, SupervisedConfig


class Answer(NamedTuple):
    """What a frozen tracker sees and says: features (B, N, D) of both crops, and its maps."""

    features: Tensor
    maps: Maps


@dataclass(frozen=True)
class ResponseConfig(SupervisedConfig):
    """Every number of one experiment; a weight of zero leaves a term out."""

    model: str = 'tpf_nano'
    response_weight: float = 1.0
    box_weight: float = 1.0
    feature_weight: float = 1.0
    least_overlap: float = 0.5  # GIoU of a lesson's box with the truth; less is none


@register_stage(
    'response',
    config=ResponseConfig,
    experiment='tpf_nano_response',
    examples=('tpf train response --out runs/tpf_nano_response',),
)
class Response(Supervised):
    """Train the adapter of tpf_nano by its tracker's own answers on sound images."""

    columns = ('loss', 'response', 'box', 'feature', 'iou', 'taught', 'fusion')
    needs_sound_views = True
    config: ResponseConfig

    def build(self) -> TpfNano:
        """Return the network, all but its adapter frozen; a fresh one gives the RGB image."""
        if not isinstance(self.model, TpfNano):
            raise TpfError(
                f'model {self.config.model!r} has no frozen tracker behind its adapter; '
                'stage response needs tpf_nano'
            )
        if self.config.init_adapter == 'fresh':
            # What the tracker was trained on: the adapter learns when to leave it.
            nn.init.constant_(self.model.pfa.out.bias, 0.5)
        return super().build()

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """Return how far the answer is from the nearest lesson, where there is one."""
        config = self.config
        answer = self.answer(*(merge_view(self.model, batch, view) for view in (INITIAL, SEARCH)))
        lessons, right = self.teach(batch)
        there = self.cells_of(batch.box)
        costs = [self._apart(answer, lesson, there) for lesson in lessons]
        each = {name: torch.stack([cost[name] for cost in costs]) for name in costs[0]}  # (P, B)
        total = sum(getattr(config, f'{name}_weight') * term for name, term in each.items())
        nearest = total.masked_fill(~right, torch.inf).argmin(0, keepdim=True)
        known = right.any(0)
        terms = {name: _mean(term.gather(0, nearest)[0], known) for name, term in each.items()}
        loss = _mean(total.gather(0, nearest)[0], known)
        with torch.no_grad():
            found, _ = decode(answer.maps.score, answer.maps.size, answer.maps.offset)
            iou = _mean((1 - giou_loss(found, batch.box)).clamp(min=0), known)
        taught = known.float().mean()
        return self.with_fusion({'loss': loss, **terms, 'iou': iou, 'taught': taught}, batch)

    @torch.no_grad()
    def teach(self, batch: Batch) -> tuple[list[Answer], Tensor]:
        """Return the answers on RGB and on thermal alone, and whether each is right (2, B)."""
        sound = batch.sound_views
        normalize = self.model.normalization.apply
        lessons, right = [], []
        for camera in (sound.rgb, sound.thermal):
            lesson = self.answer(normalize(camera[INITIAL]), normalize(camera[SEARCH]))
            found, _ = decode(lesson.maps.score, lesson.maps.size, lesson.maps.offset)
            lessons.append(lesson)
            right.append(1 - giou_loss(found, batch.box) > self.config.least_overlap)
        return lessons, torch.stack(right)

    def _apart(self, answer: Answer, lesson: Answer, there: Tensor) -> dict[str, Tensor]:
        """Distances (B,) of the answer from a lesson, whose scores count where the target is."""
        wanted = (lesson.maps.score * there).clamp(1e-4, 1 - 1e-4)
        cell = _best_cell(wanted)
        boxes = [box_at(each.maps.size, each.maps.offset, cell) for each in (answer, lesson)]
        return {
            'response': divergence(answer.maps.score, wanted),
            'box': giou_loss(*boxes),
            'feature': 1 - _cosine(answer.features, lesson.features),
        }

    def answer(self, template: Tensor, search: Tensor) -> Answer:
        """Ask the frozen tracker about fused crops (B, 3, S, S)."""
        z, x = self.model.features(template), self.model.features(search)
        features = torch.cat([z.flatten(2), x.flatten(2)], 2).mT
        return Answer(features, self.model.answer(z[:, None], self.for_head(z, x)))

    def for_head(self, z: Tensor, x: Tensor) -> Tensor:
        """Of search features (B, D, G, G), beside the template's, what the head is shown: all."""
        return x

    def cells_of(self, box: Tensor) -> Tensor:
        """Cells (B, 1, G, G) in or beside the true boxes (B, 4): 1, all others 0."""
        grid = self.model.crops.search_grid
        line = torch.arange(grid, device=box.device)
        at = (torch.stack(torch.meshgrid(line, line, indexing='xy')) + self.model.point) / grid
        beyond = (at - box[:, :2, None, None]).abs() - box[:, 2:, None, None] / 2
        return (beyond.amax(1, keepdim=True) < 1 / grid).float()


def divergence(score: Tensor, wanted: Tensor) -> Tensor:
    """How far score maps (B, 1, G, G) are from wanted ones: KL (B,), by the target's mass."""
    score = score.clamp(1e-4, 1 - 1e-4)
    apart = wanted * (wanted / score).log() + (1 - wanted) * ((1 - wanted) / (1 - score)).log()
    return apart.flatten(1).sum(1) / (1 + wanted.flatten(1).sum(1))


def _best_cell(score: Tensor) -> Tensor:
    """Cells (B, 2) x, y of the largest scores (B, 1, G, G)."""
    best, grid = score.flatten(1).argmax(1), score.shape[-1]
    return torch.stack([best % grid, best // grid], 1)


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    """Mean cosine (B,) of features (B, N, D), each less its mean over all tokens."""
    one, other = (each - other.mean((0, 1), keepdim=True) for each in (one, other))
    return F.cosine_similarity(one, other, dim=-1).mean(1)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of values (B,) over the chosen ones, 0 where there are none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
