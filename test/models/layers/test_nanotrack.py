"""NanoTrack v3's network as we wrote it, against its published ONNX files."""

import numpy as np
import pytest
import torch
from tpf_tracker_ros.models.layers.nanotrack import NanoBackbone, NanoHead
from tpf_tracker_ros.models.pickled import open_pickled


def published(folder) -> dict[str, torch.Tensor]:
    with open_pickled(folder / 'nanotrackv3.pth') as saved:
        return {key: value.load() for key, value in saved['state_dict'].items()}


def part(weights, prefix: str) -> dict[str, torch.Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)
    }


def test_backbone_and_head_are_the_published_graphs(shared_data):
    ort = pytest.importorskip('onnxruntime')
    folder = shared_data / 'nanotrack'
    weights = published(folder)
    backbone, head = NanoBackbone().eval(), NanoHead().eval()
    backbone.load_state_dict(part(weights, 'backbone.'))
    head.load_state_dict(part(weights, 'ban_head.'))
    session = {
        name: ort.InferenceSession(folder / f'v3_{name}.onnx') for name in ('backbone', 'head')
    }
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (1, 3, 255, 255)).astype(np.float32)
    template = rng.normal(size=(1, 96, 8, 8)).astype(np.float32)
    (features,) = session['backbone'].run(None, {'input': image})
    logits, sides = session['head'].run(None, {'input1': template, 'input2': features})
    with torch.no_grad():
        ours = backbone(torch.from_numpy(image))
        maps = head(torch.from_numpy(template), torch.from_numpy(features))
    for found, expected in ((ours, features), (maps[0], logits), (maps[1], sides)):
        assert found.shape == expected.shape
        assert np.abs(found.numpy() - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_several_templates_of_a_batch_do_not_mix():
    torch.manual_seed(0)
    head = NanoHead().eval()
    templates, search = torch.randn(2, 96, 8, 8), torch.randn(2, 96, 16, 16)
    with torch.no_grad():
        together = head(templates, search)
        alone = [head(templates[i : i + 1], search[i : i + 1]) for i in range(2)]  # noqa: E203
    for k in range(2):
        torch.testing.assert_close(together[k], torch.cat([each[k] for each in alone]))
