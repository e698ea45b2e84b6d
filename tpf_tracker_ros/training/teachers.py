"""
Teachers of CMD: networks of which three paths can be seen, RGB, thermal and fused.

A CKD network as it is trained has all three: a teacher with a head of its own for each modality,
and the students' common head. A network that fuses pixels walks them one after the other: it is
given one camera twice, or both.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn, Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import create_model
from tpf_tracker_ros.models.checkpoint import load_model
from tpf_tracker_ros.models.ckd import Ckd, CkdWithTeachers
from tpf_tracker_ros.models.layers.vit import set_keep
from tpf_tracker_ros.models.network import Maps, TrackingNetwork
from tpf_tracker_ros.models.tpf import Tpf

PATHS = 'rgb', 'thermal', 'fused'


class Lesson(NamedTuple):
    """What a teacher makes of a batch; features and maps as in PATHS."""

    taps: list[tuple[Tensor, Tensor]]  # tokens (B, Nz + Nx, D) after each block, RGB and thermal
    features: tuple[Tensor, Tensor, Tensor]  # what the heads see, (B, C, G, G)
    maps: tuple[Maps, Maps, Maps]


class Teacher(nn.Module):
    """
    A frozen network that gives lessons.

    network: the plain one, whose crops and normalisation count. depth: blocks; dim: channels of
    a token; widths: channels of the features of PATHS.
    """

    def __init__(self, network: TrackingNetwork, blocks: nn.ModuleList, widths: list[int]) -> None:
        super().__init__()
        self.network, self.depth, self.widths = network, len(blocks), dict(zip(PATHS, widths))
        self.dim = network.config.dim

    def forward(self, template: tuple[Tensor, Tensor], search: tuple[Tensor, Tensor]) -> Lesson:
        """Teach normalised crops (B, 3, S, S), RGB and thermal."""
        raise NotImplementedError


class FusingTeacher(Teacher):
    """A TPF network: one stream that sees either camera twice, or both."""

    def __init__(self, network: Tpf) -> None:
        super().__init__(network, network.backbone.blocks, [network.config.dim] * 3)

    def forward(self, template: tuple[Tensor, Tensor], search: tuple[Tensor, Tensor]) -> Lesson:
        """Walk the three paths as one batch."""
        network, taps = self.network, []
        z, x = (network.merge(*_walks(*crops)) for crops in (template, search))
        features, _ = network.features(network.template(z)[:, None], x, taps=taps)
        heads = network.box_head(features)
        maps = tuple(Maps(*parts) for parts in zip(*(part.chunk(3) for part in heads)))
        return Lesson([tuple(tap.chunk(3)[:2]) for tap in taps], features.chunk(3), maps)


class CkdTeacher(Teacher):
    """A CKD network as it is trained, nothing hidden."""

    def __init__(self, plain: Ckd, network: CkdWithTeachers) -> None:
        dim = plain.config.dim
        super().__init__(plain, plain.rgb_branch.blocks, [dim, dim, 2 * dim])
        self.streams = network

    def forward(self, template: tuple[Tensor, Tensor], search: tuple[Tensor, Tensor]) -> Lesson:
        """Show the teachers' heads on their own streams, and the students' taps."""
        taught = self.streams.learn(template, search)
        fused, *own = zip(taught.features, taught.maps)
        features, maps = zip(*own, fused)
        return Lesson(taught.student_taps, features, maps)


def load_teacher(name: str, checkpoint: str) -> Teacher:
    """
    Return a frozen teacher.

    name: of a model that fuses pixels, with a .safetensors checkpoint ('': the packaged one); or
    of a CKD model, with the state.pt of a `tpf train ckd` run, which holds all four streams.
    Raises TpfError on another model and on a file that does not fit.
    """
    plain = create_model(name)
    if isinstance(plain, Ckd):
        teacher = CkdTeacher(plain, _streams(plain, checkpoint))
    elif isinstance(plain, Tpf):
        teacher = FusingTeacher(load_model(name, Path(checkpoint) if checkpoint else None))
    else:
        raise TpfError(f'{name!r} cannot teach: it must be a TPF or a CKD model, such as tpf_tiny')
    return set_keep(teacher, 1).eval().requires_grad_(False)


def _streams(plain: Ckd, checkpoint: str) -> CkdWithTeachers:
    network = CkdWithTeachers(plain.config)
    path = Path(checkpoint)
    if not checkpoint or not path.is_file():
        raise TpfError(
            f'teacher_checkpoint {checkpoint!r}: give the state.pt of a tpf train ckd run'
        )
    try:
        network.load_state_dict(torch.load(path, map_location='cpu', weights_only=True)['model'])
    except Exception as error:  # torch raises many, for a pickle that is none, too
        reason = ' '.join(str(error).split())[:200]
        raise TpfError(
            f'teacher_checkpoint {path} is no state.pt of tpf train ckd ({reason})'
        ) from None
    return network


def _walks(rgb: Tensor, thermal: Tensor) -> tuple[Tensor, Tensor]:
    """Both inputs of the three paths, as one batch (3 B, 3, S, S) each."""
    return torch.cat([rgb, thermal, rgb]), torch.cat([rgb, thermal, thermal])
