"""
Runs a network on its device: uint8 crops in, relative box and score out.

What it does is cut into modules, normalisation and decoding included, so that the eager path, an
export and a captured CUDA graph are the same computation.
"""

import copy

import numpy as np
import torch
from torch import nn, Tensor
from tpf_tracker_ros.models.layers.head import decode, hann_window
from tpf_tracker_ros.models.network import Normalization, TrackingNetwork


class Normalize(nn.Module):
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in the network's normalised space."""

    def __init__(self, how: Normalization) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (how.mean, how.std))
        # Buffers: a constant made on the way would be a copy from the host in a CUDA graph.
        self.register_buffer('scale', 1 / (255 * std))
        self.register_buffer('shift', -mean / std)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images."""
        # Contiguous: what follows runs along rows, several times faster than along channels.
        planes = images.permute(0, 3, 1, 2).contiguous()
        return torch.addcmul(self.shift, planes.to(self.scale.dtype), self.scale)

    def undo(self, image: Tensor) -> Tensor:
        """One normalised image (3, H, W) as uint8 (H, W, 3)."""
        scaled = (image - self.shift) / self.scale
        return scaled.round_().clamp_(0, 255).byte().permute(1, 2, 0)


class MergeStep(nn.Module):
    """Crops, uint8 (1, S, S, 3) each, to what the network sees of the pair (1, C, S, S)."""

    def __init__(self, network: TrackingNetwork) -> None:
        super().__init__()
        self.network = network
        self.normalize = Normalize(network.normalization)

    def forward(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Merge."""
        return self.network.merge(self.normalize(rgb), self.normalize(thermal))


class TemplateStep(nn.Module):
    """A merged template crop (1, C, T, T) to what is kept of it (1, ...)."""

    def __init__(self, network: TrackingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, merged: Tensor) -> Tensor:
        """Keep."""
        return self.network.template(merged)


class SearchStep(nn.Module):
    """Templates and the merged search crop to the box, see forward."""

    def __init__(self, network: TrackingNetwork) -> None:
        super().__init__()
        self.network = network
        self.register_buffer('window', hann_window(network.crops.search_grid))

    def forward(self, templates: Tensor, merged: Tensor) -> tuple[Tensor, Tensor]:
        """
        Box (1, 4) as cx, cy, w, h relative to the crop, and confidence (1,).

        templates: (1, K, ...) as the network keeps them; merged: the search crop (1, C, S, S).
        """
        maps = self.network.search(templates, merged)
        response = maps.score * self.window
        # In float32: half precision would round an offset to an eighth of a pixel.
        box, confidence = decode(response, maps.size.float(), maps.offset.float())
        if maps.confidence is not None:
            best = response.flatten(1).argmax(1, keepdim=True)
            confidence = maps.confidence.flatten(1).gather(1, best)[:, 0]
        return box, confidence


def example_crops(network: TrackingNetwork, device: str = 'cpu') -> dict[str, tuple[Tensor, ...]]:
    """Return crops as a camera pair would give them, of a 'template' and a 'search'."""
    sizes = {'template': network.crops.template_size, 'search': network.crops.search_size}
    # Two tensors each: one given twice would become one input of a trace.
    return {
        view: tuple(torch.zeros(2, 1, size, size, 3, dtype=torch.uint8, device=device))
        for view, size in sizes.items()
    }


@torch.no_grad()
def traceable_steps(network: TrackingNetwork) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """Return the steps after merging, with inputs of the shapes that they take on a CPU."""
    merge, template = MergeStep(network), TemplateStep(network)
    crops = {view: merge(*pair) for view, pair in example_crops(network).items()}
    templates = torch.stack([template(crops['template'])] * network.max_templates, 1)
    return {
        'template': (template, (crops['template'],)),
        'search': (SearchStep(network), (templates, crops['search'])),
    }


class Engine:
    """
    A network's three uses: keep a template, locate the target, fuse a whole frame.

    The network is copied: the caller's stays where, and in which mode, it is.
    """

    def __init__(self, network: TrackingNetwork, device: str) -> None:
        # Channels last: what comes from tokens lies so, and convolutions need not turn it round.
        network = copy.deepcopy(network).to(device, memory_format=torch.channels_last).eval()
        self.network = network
        self.device = device
        self.crops = network.crops
        self.max_templates, self.fuses = network.max_templates, network.fuses
        self._normalize = Normalize(network.normalization).to(device)
        self._merge = MergeStep(network).to(device)
        self._template = TemplateStep(network).to(device)
        self._search = SearchStep(network).to(device)

    @torch.inference_mode()
    def keep_template(self, rgb: np.ndarray, thermal: np.ndarray) -> Tensor:
        """Return what the network keeps (1, ...) of a template crop: two uint8 (T, T, 3)."""
        return self._whole_template(as_batch(rgb), as_batch(thermal))

    @torch.inference_mode()
    def locate(
        self, templates: list[Tensor], rgb: np.ndarray, thermal: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """
        Return the box (4,) as cx, cy, w, h relative to the search crop, and its confidence.

        templates: max_templates that were kept, the initial one first; rgb, thermal: uint8
        (S, S, 3).
        """
        crop = as_batch(rgb), as_batch(thermal)
        box, score = self._whole_search(torch.stack(templates, 1), *crop)
        found = torch.cat([box[0], score.float()]).cpu().numpy()  # one wait for the device
        return found[:4], float(found[4])

    @torch.inference_mode()
    def fuse(self, rgb: np.ndarray, thermal: np.ndarray) -> np.ndarray | None:
        """Return the fused image, uint8 (H, W, 3) RGB; None from a network that fuses none."""
        if not self.fuses:
            return None
        pair = [
            self._normalize(each.to(self.device)) for each in (as_batch(rgb), as_batch(thermal))
        ]
        return self._normalize.undo(self.network.merge(*pair)[0]).cpu().numpy()

    def _whole_template(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """All of a template's step on the device, from uint8 crops on."""
        return self._template(self._merge(rgb.to(self.device), thermal.to(self.device)))

    def _whole_search(
        self, templates: Tensor, rgb: Tensor, thermal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """All of a search step on the device: templates and uint8 crops to box and confidence."""
        merged = self._merge(rgb.to(self.device), thermal.to(self.device))
        return self._search(templates, merged)


def as_batch(image: np.ndarray) -> Tensor:
    """Give an image (H, W, C) as a tensor (1, H, W, C) on the host."""
    # Images taken from messages are read-only views, which torch warns of.
    return torch.from_numpy(np.require(image, requirements='W'))[None]
