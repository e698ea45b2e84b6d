"""
What a run trains and on which losses: a stage, and the registry of stages.

A stage is a class under a decorator; the command line makes `tpf train NAME` of it, and the tests
walk the registry. The trainer knows neither networks nor losses.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from torch import Generator, nn, Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.datasets import check_second
from tpf_tracker_ros.models import create_model
from tpf_tracker_ros.models.checkpoint import load_weights, read_weights
from tpf_tracker_ros.models.network import TrackingNetwork
from tpf_tracker_ros.training.config import at_least
from tpf_tracker_ros.training.samples.disk import DataConfig
from tpf_tracker_ros.training.samples.world import Batch, WorldConfig

EXPERIMENTS = Path(__file__).parent / 'experiments'


@dataclass(frozen=True)
class RunConfig:
    """The numbers that every stage has."""

    model: str = 'tpf_tiny'
    init_weights: str = ''  # .safetensors to start from, such as the stage's before; '': fresh
    init_adapter: str = ''  # .safetensors for the adapter alone; 'fresh': as it is before training
    seed: int = 0
    steps: int = 5000
    minutes: float = 0.0  # train so long, all parts of the run together, instead of `steps`
    batch: int = 32  # samples, of each process
    accumulate: int = 1  # batches a step
    bf16: bool = False  # mixed precision
    learning_rate: float = 1e-3
    backbone_rate: float = 1.0  # of the learning rate; 0.1 for a pretrained ViT-B
    warmup: int = 300  # steps of linear warm-up; cosine decay follows, over `steps` or `minutes`
    final_rate: float = 0.01  # of the learning rate, at the end; 1: no decay
    weight_decay: float = 1e-4  # of matrices and kernels
    clip: float = 1.0  # gradient norm
    ema: float = 0.998
    log_every: int = 50  # steps between lines of the log
    save_every: int = 250  # steps between checkpoints that training can resume from
    save_seconds: float = 0.0  # and after so much time; 0: by steps alone
    picture_every: int = 0  # steps between pictures of samples; 0: none
    world: WorldConfig = field(default_factory=WorldConfig)
    world_weight: float = 1.0  # share of the world's samples beside the weights in `data`
    data: list[DataConfig] = field(default_factory=list)  # datasets on disk, none by default

    def __post_init__(self) -> None:
        """Raise TpfError on a number that no run can have."""
        at_least(self, steps=1, batch=1, accumulate=1, log_every=1, save_every=1)
        for name in ('learning_rate', 'clip'):
            if not getattr(self, name) > 0:
                raise TpfError(f'{name} is {getattr(self, name)}; it must be above 0')
        if not 0 <= self.ema < 1:
            raise TpfError(f'ema is {self.ema}; it must be at least 0 and below 1')


class Stage:
    """
    A network and its objective.

    A stage overrides `columns` and `compute`; `build` and `finished` where it trains more than
    the network that it hands on; `begin_step` where something follows the course of the run.
    """

    columns: tuple[str, ...] = ()  # what `compute` returns and the log shows; 'loss' comes first
    name = ''  # in the registry, which sets it
    needs_sound_views = False  # whether batches must hold them

    def __init__(self, config: RunConfig, generator: Generator, host: Generator) -> None:
        """Draw from generator, on the device; from host, what decides on shapes."""
        self.config, self.generator, self.host = config, generator, host
        self.model: TrackingNetwork = create_model(config.model)
        self._check_cameras()
        self.initialize()
        self.network = self.build()
        for name, parameter in self.network.named_parameters():
            if self.group(name) == 'frozen':
                parameter.requires_grad_(False)
        keep_frozen_statistics(self.network)
        self.network.to(generator.device)

    def _check_cameras(self) -> None:
        """Raise TpfError where the samples' second camera is not the one that the model takes."""
        config, wanted = self.config, self.model.second
        for source in config.data:
            check_second(source.dataset, config.model, wanted)
        if wanted != 'thermal' and (config.world_weight > 0 or not config.data):
            raise TpfError(
                f'the synthetic world pairs RGB with thermal, but {config.model} takes {wanted}; '
                f'set world_weight = 0 and name a [[data]] table of RGB and {wanted}'
            )

    def initialize(self) -> None:
        """Load into self.model what the configuration says."""
        config, model = self.config, self.model

        def of_adapter(key: str) -> bool:
            return model.group(key) == 'adapter'

        def of_the_rest(key: str) -> bool:
            return not (config.init_adapter and of_adapter(key))

        if config.init_weights:
            load_weights(model, Path(config.init_weights), part=of_the_rest)
        if config.init_adapter not in ('', 'fresh'):
            load_weights(model, Path(config.init_adapter), part=of_adapter)

    def load_or_part(self, accepted: set[str]) -> None:
        """Load init_weights: all of a file of this model, of another's these keys alone."""
        if not self.config.init_weights:
            return
        path = Path(self.config.init_weights)
        own = read_weights(path)[1] == self.model.name
        load_weights(self.model, path, part=None if own else accepted.__contains__)

    def build(self) -> nn.Module:
        """Make what is trained: self.model or a module around it. Freeze here what stays fixed."""
        return self.model

    def group(self, name: str) -> str:
        """Tell the group of a parameter of self.network, see TrackingNetwork.group."""
        return self.model.group(name.removeprefix('model.'))

    def begin_step(self, done: float) -> None:
        """Set what follows the course of the run, of which this share is over."""

    def compute(self, batch: Batch) -> dict[str, Tensor]:
        """'loss' to minimise and further terms to log."""
        raise NotImplementedError

    def finished(self, network: nn.Module) -> TrackingNetwork:
        """Return the plain network that a trained (or averaged) one comes down to."""
        return network


def keep_frozen_statistics(network: nn.Module) -> None:
    """Put batch normalisation whose weights are frozen into evaluation mode."""
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.train(any(p.requires_grad for p in layer.parameters()))


StageClass = TypeVar('StageClass', bound=type[Stage])


@dataclass(frozen=True)
class StageEntry:
    """
    One registered stage.

    experiment: its default file in EXPERIMENTS, without .toml; examples: command lines; options:
    keys of its configuration that are options of its command, too, with their help.
    """

    stage: type[Stage]
    config: type[RunConfig]
    experiment: str
    examples: tuple[str, ...]
    options: Mapping[str, str]


_STAGES: dict[str, StageEntry] = {}


def register_stage(
    name: str,
    *,
    config: type[RunConfig],
    experiment: str,
    examples: tuple[str, ...],
    options: Mapping[str, str] | None = None,
) -> Callable[[StageClass], StageClass]:
    """Enter a stage; its docstring is its command's help. Raises TpfError on a name twice."""

    def enter(stage: StageClass) -> StageClass:
        if name in _STAGES:
            other = _STAGES[name].stage.__module__
            raise TpfError(f'stage {name!r} is registered by {other} already; choose another name')
        stage.name = name
        _STAGES[name] = StageEntry(stage, config, experiment, examples, dict(options or {}))
        return stage

    return enter


def list_stages() -> dict[str, StageEntry]:
    """All stages by name."""
    return dict(_STAGES)
