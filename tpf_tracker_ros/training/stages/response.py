"""
Response distillation: an adapter learns to keep a frozen tracker's own answer on sound images.

The tracker teaches itself. It looks at the pair as sound cameras would see it, by three paths:
RGB, thermal, and the mean of both; of these the answer counts that finds the target most surely.
Behind the adapter the same tracker then looks at what cameras that fail, fade or change have
left, and should answer alike: score map, box and features. A label of ours, such as a narrow
peak, is nothing that a frozen tracker can be taught to give; but where its answer is high away
from the target it is a distractor's, and is not asked for.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
import torch.nn.functional as F
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.layers.head import decode
from tpf_tracker_ros.models.nano import TpfNano
from tpf_tracker_ros.models.network import Maps
from tpf_tracker_ros.training.losses.centre import box_at, giou_loss
from tpf_tracker_ros.training.losses.tracking import merge_view
from tpf_tracker_ros.training.samples.world import Batch, INITIAL, SEARCH, Views
from tpf_tracker_ros.training.stage import register_stage
from tpf_tracker_ros.training.stages.supervised import Supervised, SupervisedConfig

PATHS = 3


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
    least_overlap: float = 0.5  # GIoU of the teacher's box with the truth; less is no lesson


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
        """Return the network, all but its adapter frozen."""
        if not isinstance(self.model, TpfNano):
            raise TpfError(
                f'model {self.config.model!r} has no frozen tracker behind its adapter; '
                'stage response needs tpf_nano'
            )
        return super().build()

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """Return how far the answers are apart where the teacher's is right."""
        config = self.config
        lesson, right = self.teach(batch)
        answer = self.answer(*(merge_view(self.model, batch, view) for view in (INITIAL, SEARCH)))
        wanted = (lesson.maps.score * self.cells_of(batch.box)).clamp(1e-4, 1 - 1e-4)
        cell = _best_cell(wanted)
        boxes = [box_at(each.maps.size, each.maps.offset, cell) for each in (answer, lesson)]
        terms = {
            'response': _mean(divergence(answer.maps.score, wanted), right),
            'box': _mean(giou_loss(*boxes), right),
            'feature': _mean(1 - _cosine(answer.features, lesson.features), right),
        }
        loss = sum(getattr(config, f'{name}_weight') * term for name, term in terms.items())
        with torch.no_grad():
            found, _ = decode(answer.maps.score, answer.maps.size, answer.maps.offset)
            iou = _mean((1 - giou_loss(found, batch.box)).clamp(min=0), right)
        taught = right.float().mean()
        return self.with_fusion({'loss': loss, **terms, 'iou': iou, 'taught': taught}, batch)

    @torch.no_grad()
    def teach(self, batch: Batch) -> tuple[Answer, Tensor]:
        """Return the surest path's answer and whether it is right (B,)."""
        sound = batch.sound_views
        answer = self.answer(*(self._paths(sound, view) for view in (INITIAL, SEARCH)))
        found, score = decode(answer.maps.score, answer.maps.size, answer.maps.offset)
        overlap = 1 - giou_loss(found, batch.box.repeat(PATHS, 1))
        path = (overlap * score).unflatten(0, (PATHS, -1)).argmax(0)
        chosen = path * len(path) + torch.arange(len(path), device=path.device)
        maps = Maps(*(each[chosen] for each in answer.maps[:3]))
        return Answer(answer.features[chosen], maps), overlap[chosen] > self.config.least_overlap

    def _paths(self, views: Views, view: int) -> Tensor:
        """Give all paths' images (3 B, 3, S, S), normalised."""
        rgb, thermal = views.rgb[view], views.thermal[view]
        return self.model.normalization.apply(torch.cat([rgb, thermal, (rgb + thermal) / 2]))

    def answer(self, template: Tensor, search: Tensor) -> Answer:
        """Ask the frozen tracker about fused crops (B, 3, S, S)."""
        z, x = self.model.features(template), self.model.features(search)
        features = torch.cat([z.flatten(2), x.flatten(2)], 2).mT
        return Answer(features, self.model.answer(z[:, None], x))

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
