"""
CMD (CVPR 2023): one shallow stream learns from a teacher of two modalities.

KNOWN of the paper: SCFD transfers what modalities have in common and what is specific from the
teacher's streams to the student's one; MPSD teaches the simple fusion by several paths and a
selection among them. Ours, as its text was not at hand: the losses (losses/features.py,
docs/models.md), their weights, the response loss, and that the teacher sees the pair as sound
cameras would while the student sees what is left of it.
"""  # noqa: A005

from dataclasses import dataclass, field

import torch
from torch import Generator, nn, Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.ckd import Pair
from tpf_tracker_ros.models.cmd import Cmd
from tpf_tracker_ros.models.layers.vit import set_keep
from tpf_tracker_ros.models.network import Maps, TrackingNetwork
from tpf_tracker_ros.training.elimination import keep_rate
from tpf_tracker_ros.training.losses.centre import focal_loss, gaussian_target
from tpf_tracker_ros.training.losses.features import (
    common_specific_loss,
    path_loss,
    plain_loss,
    response_loss,
    standardized,
)
from tpf_tracker_ros.training.losses.tracking import (
    keep_templates,
    losses_of,
    merge_view,
    TrackingConfig,
    weigh,
)
from tpf_tracker_ros.training.samples.world import Batch, INITIAL, SEARCH
from tpf_tracker_ros.training.stage import register_stage, RunConfig, Stage
from tpf_tracker_ros.training.teachers import Lesson, load_teacher, PATHS

LEVELS = 3  # thirds of the depth of student and teacher, after which tokens are compared


@dataclass(frozen=True)
class CmdStageConfig(TrackingConfig, RunConfig):
    """Every number of one experiment; a weight of zero leaves a term out."""

    model: str = 'cmd_tiny'
    teacher: str = 'tpf_tiny'  # a TPF or a CKD model
    teacher_checkpoint: str = ''  # '': packaged weights; for CKD the state.pt of its training
    dynamic_share: float = 0.6  # batches with a dynamic template beside the initial one
    feature_weight: float = 0.5  # of SCFD
    split_features: bool = True  # false: plain feature distillation instead
    specific_weight: float = 0.5  # of what is specific beside what is common
    path_weight: float = 0.5  # of MPSD
    paths: list[str] = field(default_factory=lambda: list(PATHS))
    select_paths: bool = True  # false: all paths alike
    temperature: float = 1.0  # of the softmax that selects
    response_weight: float = 1.0
    gamma: float = 1.0  # how much more the response loss looks at where maps are apart
    keep_from: float = 0.7  # share of the run until which nothing is eliminated
    keep_until: float = 0.85  # share of the run at which the model's keep rate is reached


@register_stage(
    'cmd',
    config=CmdStageConfig,
    experiment='cmd_tiny',
    examples=(
        'tpf train cmd --out runs/cmd_tiny',
        'tpf train cmd --config small.toml --teacher ckd_base '
        '--teacher-checkpoint runs/ckd/state.pt --out runs/cmd_small',
    ),
    options={
        'teacher': 'Model that teaches, a TPF or a CKD one. [as in the file]',
        'teacher_checkpoint': 'Its weights. [as in the file, or the packaged ones]',
    },
)
class CmdStage(Stage):
    """Train a small student of one stream by the features, paths and maps of a teacher."""

    columns = ('loss', 'giou', 'l1', 'score', 'matching', 'iou', 'features', 'paths', 'response')
    needs_sound_views = True
    config: CmdStageConfig
    model: Cmd

    def __init__(self, config: CmdStageConfig, generator: Generator, host: Generator) -> None:
        unknown = [path for path in config.paths if path not in PATHS]
        if unknown or not config.paths:
            raise TpfError(f'paths is {config.paths}; choose some of {", ".join(PATHS)}')
        self.teacher = load_teacher(config.teacher, config.teacher_checkpoint)
        self.teacher.to(generator.device)
        super().__init__(config, generator, host)

    def initialize(self) -> None:
        """Load all weights, or those of a TPF network of the same size: all but the fusion."""
        own = ('fusion.', 'modality')
        self.load_or_part({key for key in self.model.state_dict() if not key.startswith(own)})

    def build(self) -> nn.Module:
        """Return the student, and what brings its features to the teacher's width."""
        if not isinstance(self.model, Cmd):
            raise TpfError(f'model {self.config.model!r} is no CMD network; try cmd_tiny')
        crops, other = self.model.crops, self.teacher.network.crops
        if crops != other:
            raise TpfError(
                f'teacher {self.config.teacher!r} sees other crops than {self.config.model!r}'
            )
        dim = self.model.config.dim
        levels = [nn.Linear(dim, self.teacher.dim) for _ in range(LEVELS)]
        paths = {path: nn.Conv2d(dim, self.teacher.widths[path], 1) for path in self.config.paths}
        for layer in (*levels, *paths.values()):
            start_as_identity(layer)
        parts = {
            'model': self.model,
            'levels': nn.ModuleList(levels),
            'paths': nn.ModuleDict(paths),
        }
        return nn.ModuleDict(parts)

    def group(self, name: str) -> str:
        """Tell the group of a parameter; what is only there for the training is like a head."""
        return super().group(name) if name.startswith('model.') else 'head'

    def finished(self, network: nn.Module) -> TrackingNetwork:
        """Return the student alone."""
        return network['model']

    def begin_step(self, done: float) -> None:
        """Lower the share of the search tokens that is kept."""
        config, least = self.config, self.model.config.ce_keep
        self._keep = keep_rate(done, config.keep_from, config.keep_until, least)
        set_keep(self.model, self._keep)

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """Return tracking losses and what is distilled."""
        config, model = self.config, self.model
        dynamic = float(torch.rand((), generator=self.host)) < config.dynamic_share
        templates = keep_templates(model, batch, dynamic=dynamic).flatten(1, 2)
        search = model.embed(*merge_view(model, batch, SEARCH).chunk(2, 1))
        taps: list[Pair] = []
        features = model.features(templates, search, taps=taps)
        similarity = model.similarity(templates, search)
        maps = Maps(*model.box_head(features), similarity=similarity)
        lesson = self.teach(batch)
        terms = weigh(losses_of(maps, batch, published=config.published_labels), config)
        distilled = {
            'features': self.feature_loss(taps, lesson, batch.sound),
            'paths': self.path_loss(features, lesson, batch.box),
            'response': self.response_loss(maps, lesson.maps[-1]),
        }
        loss = (
            terms['loss']
            + config.feature_weight * distilled['features']
            + config.path_weight * distilled['paths']
            + config.response_weight * distilled['response']
        )
        return {**terms, **distilled, 'loss': loss}

    @torch.no_grad()
    def teach(self, batch: Batch) -> Lesson:
        """Let the teacher look at the pair as sound cameras would see it."""
        normalize = self.teacher.network.normalization.apply
        sound = batch if batch.sound_views is None else batch.sound_views
        return self.teacher(
            *(
                (normalize(sound.rgb[view]), normalize(sound.thermal[view]))
                for view in (INITIAL, SEARCH)
            )
        )

    def feature_loss(self, taps: list[Pair], lesson: Lesson, sound: Tensor) -> Tensor:
        """
        SCFD over the levels; what is specific is learned only where no camera fails.

        Nothing once tokens are eliminated: they are the teacher's no more.
        """
        config, losses = self.config, []
        if taps[-1][0].shape[1] < lesson.taps[-1][0].shape[1]:
            return sound.new_zeros((), dtype=torch.float32)
        initial = slice(None, self.model.crops.template_grid**2)
        search = slice(-(self.model.crops.search_grid**2), None)
        for level, bring in enumerate(self.network['levels'], 1):
            own = taps[round(len(taps) * level / LEVELS) - 1]
            taught = lesson.taps[round(len(lesson.taps) * level / LEVELS) - 1]
            # A dynamic template is the student's alone.
            student = tuple(
                standardized(bring(torch.cat([x[:, initial], x[:, search]], 1))) for x in own
            )
            teacher = tuple(standardized(x) for x in taught)
            losses.append(
                common_specific_loss(
                    student, teacher, (sound, sound), specific_weight=config.specific_weight
                )
                if config.split_features
                else plain_loss(student, teacher)
            )
        return torch.stack(losses).mean()

    def path_loss(self, features: Tensor, lesson: Lesson, box: Tensor) -> Tensor:
        """MPSD: the fused features (B, D, G, G) learn from the paths that find the target."""
        config = self.config
        chosen = [PATHS.index(path) for path in config.paths]
        scores = [lesson.maps[index].score.float() for index in chosen]
        heat = gaussian_target(box, scores[0].shape[-1], published=config.published_labels)
        cost = torch.stack([torch.vmap(focal_loss)(score, heat) for score in scores], 1)
        share = torch.softmax(-cost / config.temperature, 1)
        if not config.select_paths:
            share = torch.full_like(share, 1 / share.shape[1])
        seen = sum(w[:, None, None, None] * s for w, s in zip(share.unbind(1), scores))
        place = 0.1 + 0.9 * torch.maximum(heat, seen)
        students = [self.network['paths'][path](features) for path in config.paths]
        return path_loss(students, [lesson.features[index] for index in chosen], share, place)

    def response_loss(self, maps: Maps, taught: Maps) -> Tensor:
        """Scores everywhere, size and offset where the teacher sees the target."""
        loss = response_loss(maps.score.float(), taught.score.float(), gamma=self.config.gamma)
        best = taught.score.flatten(1).argmax(1)[:, None, None].expand(-1, 2, 1)
        for one, other in ((maps.size, taught.size), (maps.offset, taught.offset)):
            apart = (one.float() - other.float()).abs().flatten(2)
            loss = loss + apart.gather(2, best).mean()
        return loss


@torch.no_grad()
def start_as_identity(layer: nn.Linear | nn.Conv2d) -> None:
    """
    Pass features on unchanged where the teacher's are as wide.

    A student that starts from its teacher's weights knows these features: behind a random layer
    they would look unrelated, and the distillation would first unlearn them.
    """
    if layer.weight.shape[0] == layer.weight.shape[1]:
        layer.weight.copy_(torch.eye(len(layer.weight)).view_as(layer.weight))
        layer.bias.zero_()
