"""
CKD (ACM MM 2024): two students that keep their content and come to one style.

Stage 1, `ckd`: two teachers and two students learn online, each stream from the same crops. The
students see a part of the search tokens only; each keeps the content of its teacher's tokens and
comes closer to the other student in style. Stage 2, `ckd_elimination`: with candidate elimination
on, the head alone learns on. Losses, weights and masks are those of the public code; the teachers
are left out of stage 2, where they are without effect.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn, Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.checkpoint import check_keys, read_weights
from tpf_tracker_ros.models.ckd import Ckd, CkdWithTeachers, Pair
from tpf_tracker_ros.models.layers.head import CentreHead
from tpf_tracker_ros.models.layers.vit import set_drop_path, set_keep
from tpf_tracker_ros.models.network import TrackingNetwork
from tpf_tracker_ros.training.losses.features import content_loss, style_loss
from tpf_tracker_ros.training.losses.tracking import losses_of, merge_view, weigh
from tpf_tracker_ros.training.samples.world import Batch, INITIAL, SEARCH
from tpf_tracker_ros.training.stage import register_stage, Stage
from tpf_tracker_ros.training.stages.published import PublishedRecipe
from tpf_tracker_ros.training.stages.supervised import Supervised, SupervisedConfig

STUDENTS, TEACHERS = ('rgb_branch', 'tir_branch'), ('teacher_rgb', 'teacher_tir')


@dataclass(frozen=True)
class CkdStageConfig(PublishedRecipe):
    """Every number of one experiment; the defaults are those of the public code."""

    model: str = 'ckd_base'
    learning_rate: float = 5e-5  # of the three heads
    backbone_rate: float = 0.1
    style_weight: float = 0.01
    content_weight: float = 0.1
    hidden_share: float = 0.25  # of the search tokens, from both students


@register_stage(
    'ckd',
    config=CkdStageConfig,
    experiment='ckd_lasher',
    examples=(
        'tpf train ckd --out runs/ckd --device cuda',
        'torchrun --nproc-per-node 2 -m tpf_tracker_ros.cli train ckd --out runs/ckd',
    ),
)
class CkdStage(Stage):
    """
    Stage 1 of CKD: two students learn a common style, and the content of their teachers.

    init_weights: those of a network of one stream, such as an imported OSTrack; all four streams
    and all heads start from them.
    """

    columns = (
        'loss', 'giou', 'l1', 'score', 'iou', 'teacher_rgb', 'teacher_tir', 'style', 'content',
    )  # fmt: skip
    config: CkdStageConfig
    network: CkdWithTeachers

    def initialize(self) -> None:
        """Leave that to build: the weights are of another network."""

    def build(self) -> nn.Module:
        """Return students and teachers."""
        if not isinstance(self.model, Ckd):
            raise TpfError(f'model {self.config.model!r} is no CKD network; try ckd_base')
        network = set_keep(CkdWithTeachers(self.model.config), 1)
        if self.config.init_weights:
            start_from_one_stream(network, Path(self.config.init_weights))
        set_drop_path(network, self.config.drop_path, self.generator)
        return network

    def finished(self, network: nn.Module) -> TrackingNetwork:
        """Return the students and their head."""
        state = network.state_dict()
        plain = self.model.to(self.generator.device)
        plain.load_state_dict({key: state[key] for key in plain.state_dict()})
        return plain

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """Return the tracking losses of three heads, and those between the streams."""
        config = self.config
        cells = self.model.crops.search_grid**2
        drawn = torch.rand(
            len(batch.box), cells, generator=self.generator, device=self.generator.device
        )
        taught = self.network.learn(
            *(merge_view(self.model, batch, view).chunk(2, 1) for view in (INITIAL, SEARCH)),
            visible=drawn > config.hidden_share,
        )
        fused, *teachers = (
            weigh(losses_of(maps, batch, published=config.published_labels), config)
            for maps in taught.maps
        )
        style, content = self.distill(taught.student_taps, taught.teacher_taps)
        loss = fused['loss'] + config.style_weight * style + config.content_weight * content
        return {
            **fused,
            'loss': loss + sum(terms['loss'] for terms in teachers),
            **{name: terms['loss'] for name, terms in zip(TEACHERS, teachers)},
            'style': style,
            'content': content,
        }

    @staticmethod
    def distill(students: list[Pair], teachers: list[Pair]) -> tuple[Tensor, Tensor]:
        """Return style and content losses of the tokens (B, N, D) after each block."""
        style = sum(style_loss(*pair) for pair in students)
        content = sum(
            content_loss(teacher, student)
            for each in zip(teachers, students)
            for teacher, student in zip(*each)
        )
        return style, content


@torch.no_grad()
def start_from_one_stream(network: CkdWithTeachers, path: Path) -> None:
    """
    Start all streams and heads from weights of a network with one stream (backbone, box_head).

    The fused head sees twice the channels: its first convolutions take the same weights for both
    halves, not halved. Raises TpfError on a file that does not fit.
    """
    weights, _ = read_weights(path)
    stream = _below(weights, 'backbone.')
    check_keys(network.rgb_branch.state_dict(), stream, source=str(path))
    head = _below(weights, 'box_head.')
    check_keys(network.box_head_v.state_dict(), head, source=str(path))
    for name in (*STUDENTS, *TEACHERS):
        getattr(network, name).load_state_dict(stream)
    for name in 'box_head_v', 'box_head_i':
        getattr(network, name).load_state_dict(head)
    first = {f'conv1_{name}.0.weight' for name, _ in CentreHead.branches}
    network.box_head.load_state_dict(
        {key: torch.cat([w, w], 1) if key in first else w for key, w in head.items()}
    )


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


@dataclass(frozen=True)
class CkdEliminationConfig(PublishedRecipe, SupervisedConfig):
    """Every number of one experiment; the defaults are those of the public code."""

    model: str = 'ckd_base'
    learning_rate: float = 5e-5
    dynamic_share: float = 0.0


@register_stage(
    'ckd_elimination',
    config=CkdEliminationConfig,
    experiment='ckd_elimination_lasher',
    examples=('tpf train ckd_elimination --out runs/ckd_elimination --device cuda',),
)
class CkdElimination(Supervised):
    """
    Stage 2 of CKD: the head learns on, with candidate elimination, from the weights of stage 1.

    All else stays as it is in init_weights.
    """

    def build(self) -> nn.Module:
        """Return the network, whose frozen blocks drop residuals, too."""
        set_drop_path(self.model, self.config.drop_path, self.generator)
        return super().build()

    def group(self, name: str) -> str:
        """Freeze all but the head."""
        group = super().group(name)
        return group if group == 'head' else 'frozen'
