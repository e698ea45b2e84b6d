"""The golden references of published networks, if they are there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tpf_tracker_ros.bench.macs import count_macs
from tpf_tracker_ros.models.layers.head import decode, hann_window


@pytest.fixture(scope='session')
def golden_folder(shared_data) -> Path:
    """Return the folder of golden references; tests that need it skip where it is absent."""
    folder = shared_data.parent / 'golden'
    if not folder.is_dir():
        pytest.skip(f'no golden references at {folder}')
    return folder


@pytest.fixture(scope='session')
def golden(golden_folder):
    """Give a function (file, prefix): the first sample of each array under that prefix."""

    def read(file, prefix):
        arrays = np.load(golden_folder / file)
        found = {}
        for name in arrays.files:
            if name.startswith(prefix):
                value = arrays[name]
                first = value[:, :1] if 'block_taps' in name else value[:1]
                found[name.removeprefix(prefix)] = torch.from_numpy(first)
        return found

    return read


@pytest.fixture(scope='session')
def assert_maps():
    """Give a function (maps, golden): all that a head's maps lead to, to the stated tolerances."""

    def check(maps, expected):
        torch.testing.assert_close(maps.score, expected['score'], rtol=0, atol=2e-5)
        torch.testing.assert_close(maps.size, expected['size'], rtol=0, atol=2e-5)
        torch.testing.assert_close(maps.offset, expected['offset'], rtol=0, atol=1e-4)
        box, confidence = decode(maps.score * hann_window(16), maps.size, maps.offset)
        torch.testing.assert_close(box, expected['box_windowed'], rtol=0, atol=2e-5)
        torch.testing.assert_close(confidence, expected['confidence'], rtol=0, atol=2e-5)

    return check


@pytest.fixture(scope='session')
def key_table(golden_folder):
    """Give a function (file): shapes by key of a published layout."""

    def read(file):
        rows = [line.split(',') for line in (golden_folder / file).read_text().splitlines()[1:]]
        return {
            key: tuple(int(n) for n in shape.split('x') if n != 'scalar') for key, shape, _ in rows
        }

    return read


@pytest.fixture(scope='session')
def count_gmacs():
    """Give a function (network): GMACs of a step as papers count them, by thop's rules."""

    @torch.inference_mode()
    def count(network):
        normalised = []
        for layer in network.modules():
            if isinstance(layer, (torch.nn.LayerNorm, torch.nn.BatchNorm2d)):
                layer.register_forward_hook(lambda *args: normalised.append(args[2].numel()))
        with torch.device('meta'):
            z, x = torch.zeros(1, 3, 128, 128), torch.zeros(1, 3, 256, 256)
        # With taps the last block computes the templates, too, as the published code does.
        counts = count_macs(
            lambda: network.box_head(
                network.features(network.embed(z, z), network.embed(x, x), taps=[])
            )
        )
        return (counts['linear'] + counts['convolution'] + 4 * sum(normalised)) / 1e9

    return count
