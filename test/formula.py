"""Weights and inputs of the golden references: they follow from their names, in numpy alone."""

import zlib

import numpy as np
import torch


def normal(key, shape):
    """Return standard normal numbers that only the name decides."""
    values = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    return torch.from_numpy(np.asarray(values, np.float32))


def uniform(key, shape):
    """Return uniform numbers in 0..1 that only the name decides."""
    values = np.random.default_rng(zlib.crc32(key.encode())).random(shape)
    return torch.from_numpy(np.asarray(values, np.float32))


def weight(key, shape):
    """Return the weight of this name in the references."""
    if key.endswith('num_batches_tracked'):
        return torch.zeros(shape, dtype=torch.int64)
    n = normal(key, tuple(shape))
    if key.endswith('running_var'):
        return 1 + 0.1 * n.abs()
    if key.endswith('running_mean') or 'pos_embed' in key or key.endswith('cls_token'):
        return 0.1 * n
    if key.endswith('bias'):
        return 0.02 * n
    if len(shape) == 1:
        return 1 + 0.1 * n
    return float(np.float32(1.5 / np.sqrt(np.prod(shape[1:])))) * n


def fill(model):
    """Give a model, which may be on meta, the references' weights; returns it in eval mode."""
    weights = {key: weight(key, value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(weights, assign=True)
    return model.eval()


def crops(batch=2):
    """Return template RGB, template thermal, search RGB, search thermal, normalised."""
    sizes = {'template': 128, 'search': 256}
    return [
        normal(f'input.{image}_{modality}', (2, 3, size, size))[:batch]
        for image, size in sizes.items()
        for modality in ('rgb', 'tir')
    ]


def small_crops():
    """Return crops like those above of networks that take 32 and 64 px."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, size, size, generator=generator) for size in (32, 32, 64, 64)]


def find(network, images, templates=1):
    """Return the maps of a network for crops like those above, its template given so often."""
    z_rgb, z_thermal, *search = images
    kept = network.template(network.merge(z_rgb, z_thermal))
    return network.search(torch.stack([kept] * templates, 1), network.merge(*search))
