"""
Image-fusion experts that the adapter is first taught by (MAD), each of another kind.

An expert fuses luminance; the colour of the RGB image is carried over. A further built-in one is
a function under a decorator; neural ones come from a user's ONNX or TorchScript file. All take
any image size and batch, and run on the device of their input.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
import torch.nn.functional as F
from tpf_tracker_ros.core.errors import TpfError

Fuse = Callable[[Tensor, Tensor], Tensor]

LEVELS = 4  # of the Laplacian pyramid, at most
WIDE = 8  # px; beyond it two matrix products are faster than a pooling, whose time grows with it

_EXPERTS: dict[str, Fuse] = {}


def register_expert(fuse: Fuse) -> Fuse:
    """Enter a function that fuses luminance images (B, 1, H, W) in 0..1: visible, infrared."""
    _EXPERTS[fuse.__name__] = fuse
    return fuse


def list_experts() -> dict[str, str]:
    """Names of the built-in experts and a line on each."""
    return {name: (fuse.__doc__ or '').splitlines()[0] for name, fuse in _EXPERTS.items()}


def load_expert(name: str) -> Fuse:
    """
    Return an expert: rgb, thermal (B, 3, H, W) in 0..1 to the fused image (B, 3, H, W) in 0..1.

    name: a built-in one's, or the path of an .onnx or TorchScript (.pt, .ts) file whose network
    maps two luminance images (B, 1, H, W) in 0..1, visible and infrared, to a fused one.
    Raises TpfError on an unknown name and on a file that is missing or cannot be read.
    """
    if name in _EXPERTS:
        return in_colour(_EXPERTS[name])
    path = Path(name)
    if path.suffix not in ('.onnx', '.pt', '.ts'):
        raise TpfError(
            f'unknown expert {name!r}; choose one of {", ".join(_EXPERTS)}, or give the path of '
            'an .onnx or TorchScript (.pt, .ts) file'
        )
    if not path.is_file():
        raise TpfError(f'expert {path} does not exist')
    try:
        network = _onnx(path) if path.suffix == '.onnx' else _torchscript(path)
    except ModuleNotFoundError as error:
        raise TpfError(f'{path} needs {error.name}; pip install {error.name}') from None
    except Exception as error:  # both runtimes raise classes of their own
        reason = str(error).strip().splitlines()[0]
        raise TpfError(f'expert {path} cannot be read: {reason}') from None
    return in_colour(_checked(network, path))


def luminance(image: Tensor) -> Tensor:
    """Luminance (B, 1, H, W) of RGB images (B, 3, H, W), BT.601."""
    red, green, blue = image.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def in_colour(fuse: Fuse) -> Fuse:
    """Return the same fusion on (B, 3, H, W): the RGB image's colour on the fused luminance."""

    @torch.no_grad()
    def fuse_colour(rgb: Tensor, thermal: Tensor) -> Tensor:
        # Never in half precision: the training's would blur what an expert teaches.
        with torch.autocast(rgb.device.type, enabled=False):
            visible = luminance(rgb)
            return (rgb + fuse(visible, luminance(thermal)) - visible).clamp(0, 1)

    return fuse_colour


@register_expert
def laplacian(visible: Tensor, infrared: Tensor) -> Tensor:
    """
    Laplacian pyramid: at each scale the stronger detail, the mean of what remains.

    Burt and Adelson 1983; the choice by absolute value, as usual in fusion.
    """
    levels = max(0, min(LEVELS, min(visible.shape[-2:]).bit_length() - 2))
    *details_v, base_v = laplacian_pyramid(visible, levels)
    *details_t, base_t = laplacian_pyramid(infrared, levels)
    stronger = [torch.where(v.abs() >= t.abs(), v, t) for v, t in zip(details_v, details_t)]
    return from_pyramid([*stronger, (base_v + base_t) / 2])


@register_expert
def guided(visible: Tensor, infrared: Tensor) -> Tensor:
    """
    Guided-filter fusion: decisions by local contrast, drawn to the edges of the images.

    Li, Kang and Hu, IEEE TIP 2013, with its radii and eps for base and detail; ours: radii
    shrink with small images.
    """
    images = (visible, infrared)
    saliency = [_blur(_laplace(image).abs(), 5, 5.0) for image in images]
    first = (saliency[0] > saliency[1]).float() + (saliency[0] == saliency[1]).float() / 2
    reach = max(1, min(visible.shape[-2:]) // 6)
    fused = 0.0
    bases = [box_mean(image, min(15, reach)) for image in images]
    details = [image - base for image, base in zip(images, bases)]
    for layers, radius, eps in ((bases, 45, 0.3), (details, 7, 1e-6)):
        weights = [
            guided_filter(image, decision, min(radius, reach), eps).clamp(0, 1)
            for image, decision in zip(images, (first, 1 - first))
        ]
        fused = fused + _weighted(layers, weights)
    return fused


@register_expert
def saliency(visible: Tensor, infrared: Tensor) -> Tensor:
    """
    Two-scale saliency: details weighted by |mean - median|, the mean of the bases.

    Bavirisetti and Dhuli, Infrared Physics and Technology 2016.
    """
    images = (visible, infrared)
    reach = max(1, min(17, min(visible.shape[-2:]) // 6))
    bases = [box_mean(image, reach) for image in images]
    details = [image - base for image, base in zip(images, bases)]
    return (bases[0] + bases[1]) / 2 + _weighted(details, saliency_weights(visible, infrared))


def saliency_weights(visible: Tensor, infrared: Tensor) -> list[Tensor]:
    """Each image's share of the saliency at each pixel; they sum to one."""
    found = []
    for image in (visible, infrared):
        patches = F.unfold(_pad(image, 1), 3)  # (B, 9, H * W)
        median = patches.median(1, keepdim=True).values.unflatten(2, image.shape[-2:])
        found.append((box_mean(image, 1) - median).abs() + 1e-6)
    total = found[0] + found[1]
    return [each / total for each in found]


def laplacian_pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """Details from fine to coarse, then the base; their from_pyramid is the image."""
    layers = []
    for _ in range(levels):
        smaller = _blur(image, 2, 1.0)[..., ::2, ::2]
        layers.append(image - _grow(smaller, image))
        image = smaller
    return [*layers, image]


def from_pyramid(layers: list[Tensor]) -> Tensor:
    """Return the image of a Laplacian pyramid."""
    *details, image = layers
    for detail in reversed(details):
        image = _grow(image, detail) + detail
    return image


def guided_filter(guide: Tensor, image: Tensor, radius: int, eps: float) -> Tensor:
    """He, Sun and Tang 2010: the image smoothed, but not across the guide's edges."""
    mean_g, mean_i = box_mean(guide, radius), box_mean(image, radius)
    variance = (box_mean(guide * guide, radius) - mean_g**2).clamp(min=0)
    slope = (box_mean(guide * image, radius) - mean_g * mean_i) / (variance + eps + 1e-12)
    offset = mean_i - slope * mean_g
    return box_mean(slope, radius) * guide + box_mean(offset, radius)


def box_mean(image: Tensor, radius: int) -> Tensor:
    """Mean over a square of side 2 radius + 1; at the border, over what lies inside."""
    if radius > WIDE:
        down, across = (_band(side, radius, image) for side in image.shape[-2:])
        return down @ image @ across.mT
    side = 2 * radius + 1
    rows = F.avg_pool2d(image, (1, side), 1, (0, radius), count_include_pad=False)
    return F.avg_pool2d(rows, (side, 1), 1, (radius, 0), count_include_pad=False)


def _band(size: int, radius: int, like: Tensor) -> Tensor:
    """Matrix (size, size) that takes the mean over all that is at most radius away."""
    at = torch.arange(size, device=like.device)
    near = ((at[:, None] - at).abs() <= radius).to(like.dtype)
    return near / near.sum(1, keepdim=True)


def _weighted(layers: list[Tensor], weights: list[Tensor]) -> Tensor:
    total = (weights[0] + weights[1]).clamp(min=1e-6)
    return layers[1] + weights[0] / total * (layers[0] - layers[1])


def _grow(small: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(small, like.shape[-2:], mode='bilinear', align_corners=False)


def _pad(image: Tensor, reach: int) -> Tensor:
    return F.pad(image, (reach,) * 4, mode='replicate')


def _blur(image: Tensor, reach: int, sigma: float) -> Tensor:
    line = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-(line**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    return F.conv2d(F.conv2d(_pad(image, reach), kernel), kernel.transpose(2, 3))


def _laplace(image: Tensor) -> Tensor:
    wide = _pad(image, 1)
    across = wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]
    return across + wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] - 4 * image


def _torchscript(path: Path) -> Fuse:
    network = torch.jit.load(path, map_location='cpu').eval()
    return lambda visible, infrared: network.to(visible.device)(visible, infrared)


def _onnx(path: Path) -> Fuse:
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    session = onnxruntime.InferenceSession(str(path), providers=providers)
    inputs = session.get_inputs()
    names = [each.name for each in inputs]
    one_by_one = inputs[0].shape[0] == 1  # exported without a batch axis of its own

    def fuse(visible: Tensor, infrared: Tensor) -> Tensor:
        pairs = [(visible, infrared)]
        if one_by_one:
            pairs = list(zip(visible.split(1), infrared.split(1)))
        fused = [
            session.run(None, {name: image.cpu().numpy() for name, image in zip(names, pair)})[0]
            for pair in pairs
        ]
        return torch.cat([torch.from_numpy(image) for image in fused]).to(visible.device)

    return fuse


def _checked(network: Fuse, path: Path) -> Fuse:
    """Return the same; what does not map two luminance images to one is a TpfError."""

    def fuse(visible: Tensor, infrared: Tensor) -> Tensor:
        shape = tuple(visible.shape)
        try:
            fused = network(visible, infrared)
        except Exception as error:  # both runtimes raise classes of their own
            reason = str(error).strip().splitlines()[-1]
            raise TpfError(f'expert {path} failed on two images {shape}: {reason}') from None
        if not isinstance(fused, Tensor) or tuple(fused.shape) != shape:
            found = tuple(fused.shape) if isinstance(fused, Tensor) else type(fused).__name__
            raise TpfError(
                f'expert {path} gives {found} for two images {shape}; it must give one image of '
                'the same shape; wrap it so before exporting'
            )
        return fused.clamp(0, 1)

    return fuse
