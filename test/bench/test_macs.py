import math

import pytest
import torch
from tpf_tracker_ros.bench.macs import count_macs
from tpf_tracker_ros.models import create_model


@pytest.fixture(scope='module')
def base():
    with torch.device('meta'):
        return create_model('tpf_base').eval()


def test_the_base_model_has_the_published_number_of_parameters(base):
    parts = (base.backbone, base.box_head)
    assert sum(p.numel() for part in parts for p in part.parameters()) == 92_518_533


def test_the_base_model_needs_the_published_multiply_adds(base):
    dim, template, search = 768, 64, 256
    linear = 0
    for i in range(12):
        linear += (template + search) * 4 * dim**2  # qkv and proj
        if i in (3, 6, 9):
            search = math.ceil(0.7 * search)
        linear += (template + search) * 8 * dim**2  # MLP, of the tokens that are left
    widths = (dim, 256, 128, 64, 32)
    head = 3 * 9 * sum(a * b for a, b in zip(widths, widths[1:])) + 32 * (1 + 2 + 2)
    convolution = 320 * dim * 3 * 16**2 + 256 * head

    @torch.inference_mode()
    def run():
        z, x = (torch.empty(1, 3, size, size, device='meta') for size in (128, 256))
        base(base.template(z)[:, None], x)

    counts = count_macs(run)
    # Of the templates the last block makes keys and values alone: nothing reads the rest.
    assert counts['linear'] == linear - template * 10 * dim**2
    assert counts['convolution'] == convolution
    assert (linear + convolution) / 1e9 == pytest.approx(21.5, abs=0.01)


def test_a_scan_runs_on_meta_tensors(base):
    with torch.inference_mode():
        image = torch.empty(1, 3, 32, 48, device='meta')
        assert base.merge(image, image).shape == image.shape
