"""
Runs a TPF network on its device: uint8 crops in, relative box and score out.

What it does is cut into modules, normalisation and decoding included, so that the eager path, an
export and a captured CUDA graph are the same computation.
"""

import os

import numpy as np
import torch
from torch import nn, Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.layers.head import decode, hann_window
from tpf_tracker_ros.models.tpf import Tpf

# ImageNet's, for 8-bit RGB scaled to 0..1; thermal images are normalised alike.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def choose_device(device: str) -> str:
    """'auto' as 'cuda' or 'cpu'; TpfError on a device that torch does not have."""
    if device == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise TpfError(f'device {device!r} cannot be used ({reason}); try cpu or auto') from None
    return device


class Normalize(nn.Module):
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in the network's normalised space."""

    def __init__(self) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        # Buffers: a constant made on the way would be a copy from the host in a CUDA graph.
        self.register_buffer('scale', 1 / (255 * std))
        self.register_buffer('shift', -mean / std)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images."""
        # Contiguous: what follows runs along rows, several times faster than along channels.
        planes = images.permute(0, 3, 1, 2).contiguous()
        return torch.addcmul(self.shift, planes.float(), self.scale)

    def undo(self, image: Tensor) -> Tensor:
        """One normalised image (3, H, W) as uint8 (H, W, 3)."""
        scaled = (image - self.shift) / self.scale
        return scaled.round_().clamp_(0, 255).byte().permute(1, 2, 0)


class FuseStep(nn.Module):
    """Crops, uint8 (1, S, S, 3) each, to the fused and normalised one (1, 3, S, S)."""

    def __init__(self, model: Tpf) -> None:
        super().__init__()
        self.model = model
        self.normalize = Normalize()

    def forward(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Fused crop."""
        return self.model.fuse(self.normalize(rgb), self.normalize(thermal))


class EmbedStep(nn.Module):
    """A fused template crop (1, 3, S, S) to its tokens (1, Nz, D)."""

    def __init__(self, model: Tpf) -> None:
        super().__init__()
        self.model = model

    def forward(self, fused: Tensor) -> Tensor:
        """Tokens."""
        return self.model.embed(fused)


class LocateStep(nn.Module):
    """Template tokens and the fused search crop to the box, see forward."""

    def __init__(self, model: Tpf) -> None:
        super().__init__()
        self.model = model
        grid = model.config.search_size // model.config.stride
        self.register_buffer('window', hann_window(grid))

    def forward(self, templates: Tensor, fused: Tensor) -> tuple[Tensor, Tensor]:
        """
        Box (1, 4) as cx, cy, w, h relative to the crop, and windowed confidence (1,).

        templates: tokens (1, 2 Nz, D); fused: the search crop (1, 3, S, S).
        """
        maps = self.model(templates, self.model.embed(fused))
        # In float32: half precision would round an offset to an eighth of a pixel.
        return decode(maps.score * self.window, maps.size.float(), maps.offset.float())


def traceable_steps(model: Tpf) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """Return the steps after fusion, with inputs of the shapes that they take."""
    config = model.config
    template, search = (
        torch.zeros(1, 3, size, size) for size in (config.template_size, config.search_size)
    )
    tokens = torch.zeros(1, 2 * model.backbone.grid_z**2, config.dim)
    return {
        'embed': (EmbedStep(model), (template,)),
        'locate': (LocateStep(model), (tokens, search)),
    }


class Engine:
    """The network's three uses: embed a template, locate the target, fuse a whole frame."""

    def __init__(self, model: Tpf, device: str) -> None:
        if device == 'cpu' and 'OMP_NUM_THREADS' not in os.environ:
            # torch's threads spin while they wait for each other. On cores shared with cameras
            # and drivers that made a step a hundred times longer, so half of them stay free.
            torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
        # Channels last: what comes from tokens lies so, and convolutions need not turn it round.
        self.model = model.to(device, memory_format=torch.channels_last).eval()
        self.device = device
        self.template_size = model.config.template_size
        self.search_size = model.config.search_size
        self.framing = model.config.framing
        self._normalize = Normalize().to(device)
        self._fuse = FuseStep(self.model).to(device)
        self._embed = EmbedStep(self.model).to(device)
        self._locate = LocateStep(self.model).to(device)

    @torch.inference_mode()
    def embed_template(self, rgb: np.ndarray, thermal: np.ndarray) -> Tensor:
        """Tokens (1, Nz, D) of a template crop: two uint8 (S, S, 3)."""
        return self._template(self._upload(rgb), self._upload(thermal))

    @torch.inference_mode()
    def locate(
        self, templates: list[Tensor], rgb: np.ndarray, thermal: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """
        Return the box (4,) as cx, cy, w, h relative to the search crop, and its confidence.

        templates: tokens of the initial and the dynamic template; rgb, thermal: uint8 (S, S, 3).
        """
        crop = self._upload(rgb), self._upload(thermal)
        box, score = self._search(torch.cat(templates, 1), *crop)
        return box[0].cpu().numpy(), float(score)

    @torch.inference_mode()
    def fuse(self, rgb: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """Return the fused image, uint8 (H, W, 3) RGB."""
        pair = self._normalize(self._upload(rgb)), self._normalize(self._upload(thermal))
        return self._normalize.undo(self.model.fuse(*pair)[0]).cpu().numpy()

    def _template(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """All of a template's step on the device: uint8 crops to tokens."""
        return self._embed(self._fuse(rgb, thermal))

    def _search(self, templates: Tensor, rgb: Tensor, thermal: Tensor) -> tuple[Tensor, Tensor]:
        """All of a search step on the device: tokens and uint8 crops to box and confidence."""
        return self._locate(templates, self._fuse(rgb, thermal))

    def _upload(self, image: np.ndarray) -> Tensor:
        # Images taken from messages are read-only views, which torch warns of.
        return torch.from_numpy(np.require(image, requirements='W'))[None].to(self.device)
