"""Imported OSTrack weights give OSTrack's numbers; see the golden references' README."""

import cv2
from formula import fill, normal, uniform
import numpy as np
import pytest
import torch
from tpf_tracker_ros.core.boxes import centre, clip_box
from tpf_tracker_ros.core.crops import Window
from tpf_tracker_ros.models.layers.vit import Elimination, set_keep
from tpf_tracker_ros.models.tpf import Tpf, TpfConfig


@pytest.fixture(scope='module')
def ostrack(golden_folder):
    with torch.device('meta'):
        network = Tpf(TpfConfig())
    torch.nn.init.zeros_(fill(network).template_type)  # as an import leaves it
    return network


def crops():
    sizes = {'template': 128, 'search': 256}
    return (normal(f'input.{name}_rgb', (2, 3, size, size))[:1] for name, size in sizes.items())


@pytest.mark.parametrize('templates', [1, 2])
@torch.inference_mode()
def test_maps_boxes_and_kept_tokens_are_the_published_ones(
    ostrack, golden, assert_maps, templates
):
    """Two equal templates are one: they share its attention."""
    expected, kept = golden('ostrack.npz', 'ce_'), []
    set_keep(ostrack, 0.7)
    hooks = [
        layer.register_forward_hook(lambda *given: kept.append(given[2][1]))
        for layer in ostrack.modules()
        if isinstance(layer, Elimination)
    ]
    template, search = crops()
    stack = torch.stack([ostrack.template(template)] * templates, 1)
    assert_maps(ostrack.search(stack, search), expected)
    for hook in hooks:
        hook.remove()
    for block, found in zip((3, 6, 9), kept, strict=True):
        assert set(found[0].tolist()) == set(expected[f'kept_block{block}'][0].tolist())


@torch.inference_mode()
def test_without_elimination_too(ostrack, golden, assert_maps):
    set_keep(ostrack, 1)
    template, search = crops()
    stack = ostrack.template(template)[:, None]
    assert_maps(ostrack.search(stack, search), golden('ostrack.npz', 'noce_'))
    tokens = ostrack.features(stack, search)[0][:, :8].flatten(2).mT
    expected = golden('ostrack.npz', 'noce_tokens')['']
    torch.testing.assert_close(tokens, expected[:, 64:], rtol=0, atol=3e-4)
    norms = [m for m in ostrack.backbone.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert norms and all(norm.eps == 1e-6 for norm in norms)


def golden_image():
    base = (uniform('crop.image', (30, 40, 3)).numpy() * 256).astype(np.uint8)
    base = cv2.resize(base, (640, 480), interpolation=cv2.INTER_CUBIC)
    noise = (uniform('crop.noise', (480, 640, 3)).numpy() * 64).astype(np.uint8)
    return cv2.addWeighted(base, 0.8, noise, 0.8, 0)


def test_crops_and_boxes_mapped_back_are_the_published_ones(golden_folder):
    image, saved = golden_image(), np.load(golden_folder / 'crops.npz')
    compared = 0
    for i, box in enumerate(saved['boxes']):
        for view, factor, size in (('template', 2, 128), ('search', 4, 256)):
            window = Window.around(box, factor)
            assert [window.x, window.y, window.width] == saved[f'{view}_window'][i].tolist()
            if window.x + window.width >= 640 or window.y + window.height >= 480:
                continue  # there the published crop blanks a row or column of the image
            found = window.take(image, size, area=False)[::16, ::16].astype(int)
            assert np.abs(found - saved[f'{view}_{i}']).max() <= 1
            compared += 1
        window = Window.around(box, 4)
        # The published mapping takes its boxes as x, y, w, h.
        found = window.to_image(saved['map_relative'][i], middle=centre(box))
        np.testing.assert_allclose(found, saved['map_public'][i], atol=1e-3)
        clipped = clip_box(saved['map_public'][i], (640, 480))
        np.testing.assert_allclose(clipped, saved['map_public_clipped'][i], atol=1e-3)
    assert compared >= 10
