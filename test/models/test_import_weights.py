from collections import OrderedDict
from dataclasses import replace
import math
import os
import pickle
import sys
import types

from click.testing import CliRunner
import pytest
from safetensors.torch import load_file
import torch
from tpf_tracker_ros.cli import tpf
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import create_model, registry
from tpf_tracker_ros.models.checkpoint import check_keys
from tpf_tracker_ros.models.import_weights import import_weights
from tpf_tracker_ros.models.tpf import Tpf, TpfConfig

DIM, CHANNELS = 48, 32  # of the files here; 768 and 256 in published ones


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Let tpf_base be as narrow as the files: hundreds of megabytes show nothing more."""
    config = TpfConfig(dim=DIM, heads=2, head_channels=CHANNELS, pfa_channels=8)
    entry = replace(registry.find_model('tpf_base'), build=lambda: Tpf(config))
    monkeypatch.setitem(registry._ENTRIES, 'tpf_base', entry)


def layout(dim, channels):
    """Names and shapes of published checkpoints; of dim 768 and 256 channels in ViT-B/256."""
    shapes = {}
    tokens = {'cls_token': 1, 'pos_embed': 197, 'pos_embed_z': 64, 'pos_embed_x': 256}
    for name, count in tokens.items():
        shapes[f'backbone.{name}'] = (1, count, dim)
    shapes['backbone.patch_embed.proj.weight'] = (dim, 3, 16, 16)
    shapes['backbone.patch_embed.proj.bias'] = (dim,)
    for i in range(12):
        block = f'backbone.blocks.{i}'
        for norm in ('norm1', 'norm2'):
            shapes[f'{block}.{norm}.weight'] = shapes[f'{block}.{norm}.bias'] = (dim,)
        for layer, fan_out, fan_in in (
            ('attn.qkv', 3 * dim, dim),
            ('attn.proj', dim, dim),
            ('mlp.fc1', 4 * dim, dim),
            ('mlp.fc2', dim, 4 * dim),
        ):
            shapes[f'{block}.{layer}.weight'] = (fan_out, fan_in)
            shapes[f'{block}.{layer}.bias'] = (fan_out,)
    shapes['backbone.norm.weight'] = shapes['backbone.norm.bias'] = (dim,)
    widths = (dim, *(channels // 2**i for i in range(4)))
    for branch, outputs in (('ctr', 1), ('offset', 2), ('size', 2)):
        for i in range(1, 5):
            layer = f'box_head.conv{i}_{branch}'
            shapes[f'{layer}.0.weight'] = (widths[i], widths[i - 1], 3, 3)
            for name in ('0.bias', '1.weight', '1.bias', '1.running_mean', '1.running_var'):
                shapes[f'{layer}.{name}'] = (widths[i],)
            shapes[f'{layer}.1.num_batches_tracked'] = ()
        shapes[f'box_head.conv5_{branch}.weight'] = (outputs, widths[-1], 1, 1)
        shapes[f'box_head.conv5_{branch}.bias'] = (outputs,)
    return shapes


@pytest.fixture(scope='module')
def published():
    torch.manual_seed(1)
    shapes = layout(DIM, CHANNELS)
    weights = OrderedDict((key, torch.randn(shape)) for key, shape in shapes.items())
    for key in weights:
        if key.endswith('num_batches_tracked'):
            weights[key] = torch.tensor(7)
    return weights


@pytest.fixture
def container(published, monkeypatch):
    """Return a whole training checkpoint; its author's classes are gone again when it is read."""

    def make(weights=published):
        admin = types.ModuleType('lib.train.admin')
        for name in ('Settings', 'StatValue', 'AverageMeter'):
            setattr(admin, name, type(name, (), {'__module__': 'lib.train.admin'}))
        for module in ('lib', 'lib.train'):
            monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        monkeypatch.setitem(sys.modules, 'lib.train.admin', admin)
        settings, meter = admin.Settings(), admin.AverageMeter()
        settings.device, settings.path = torch.device('cpu'), {'save_dir': '.'}
        meter.history, meter.last = [1.5, admin.StatValue()], torch.tensor(3.0)
        trained = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(trained.parameters())
        trained(torch.ones(3)).sum().backward()
        optimizer.step()
        return {
            'epoch': 300,
            'actor_type': 'OSTrackActor',
            'net_type': 'OSTrack',
            'net': weights,
            'net_info': None,
            'constructor': None,
            'optimizer': optimizer.state_dict(),
            'stats': OrderedDict(train={'Loss/total': meter}),
            'settings': settings,
        }

    def save(path, weights=published, **options):
        torch.save(make(weights), path, **options)
        for module in ('lib', 'lib.train', 'lib.train.admin'):
            monkeypatch.delitem(sys.modules, module)
        return path

    return save


def test_the_layout_is_the_published_one():
    shapes = layout(768, 256)
    assert len(shapes) == 242
    parameters = [key for key in shapes if 'running_' not in key and 'num_batches' not in key]
    assert sum(math.prod(shapes[key]) for key in parameters) == 92_518_533


@pytest.mark.parametrize('zip_format', [True, False])
def test_a_published_checkpoint_gives_the_same_weights(container, published, tmp_path, zip_format):
    path = container(
        tmp_path / 'OSTrack_ep0300.pth.tar', _use_new_zipfile_serialization=zip_format
    )
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    out = tmp_path / 'weights.safetensors'
    result = CliRunner().invoke(tpf, ['import-weights', str(path), '--out', str(out)])
    assert result.exit_code == 0, result.output
    assert '242 weights (0.5 M numbers)' in result.output
    written = load_file(out)
    assert all(torch.equal(written[key], value) for key, value in published.items())
    with torch.device('meta'):
        check_keys(create_model('tpf_base').state_dict(), written, source='written')


def test_droptrack_grids_are_resized_and_temporal_embeddings_added(container, published, tmp_path):
    weights = OrderedDict(published)
    ramp = torch.linspace(-1, 1, 24).expand(24, 24)  # bilinear resizing keeps a ramp a ramp
    weights['backbone.pos_embed_x'] = ramp.reshape(1, 576, 1).repeat(1, 1, DIM)
    weights['backbone.pos_embed_z'] = torch.full((1, 144, DIM), 0.25)
    weights['backbone.temporal_pos_embed_x'] = torch.full((1, 1, DIM), 10.0)
    weights['backbone.temporal_pos_embed_z'] = torch.arange(float(DIM)).view(1, 1, DIM)
    path = container(tmp_path / 'DropTrack.pth.tar', weights)
    import_weights(path, 'tpf_base', tmp_path / 'w.safetensors')
    written = load_file(tmp_path / 'w.safetensors')
    grid = written['backbone.pos_embed_x'].view(16, 16, DIM) - 10
    assert torch.allclose(grid, grid[:1, :, :1].expand(16, 16, DIM), atol=1e-5)
    assert torch.allclose(grid[0].diff(dim=0), torch.tensor(2 / 23 * 1.5), atol=1e-5)
    expected = 0.25 + torch.arange(float(DIM)).expand(1, 64, DIM)
    assert torch.allclose(written['backbone.pos_embed_z'], expected)


class Exploit:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


@pytest.mark.parametrize('zip_format', [True, False])
def test_nothing_pickled_is_executed(tmp_path, zip_format):
    marker, path = tmp_path / 'executed', tmp_path / 'malicious.pth'
    saved = {'net': {'backbone.norm.bias': torch.zeros(96)}, 'settings': Exploit(marker)}
    torch.save(saved, path, _use_new_zipfile_serialization=zip_format)
    with pytest.raises(TpfError, match='missing: backbone'):
        import_weights(path, 'tpf_small', tmp_path / 'out')
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), 'the file is harmless: the test shows nothing'


def test_code_in_place_of_the_weights_is_refused(tmp_path):
    marker, path = tmp_path / 'executed', tmp_path / 'malicious.pth'
    torch.save({'net': {'backbone.norm.bias': Exploit(marker)}}, path)
    with pytest.raises(TpfError, match=r"no tensor under 'backbone.norm.bias'"):
        import_weights(path, 'tpf_small', tmp_path / 'out')
    assert not marker.exists()


@pytest.mark.parametrize('zip_format', [True, False])
@pytest.mark.parametrize('share', [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_one_clear_line(tmp_path, zip_format, share):
    path = tmp_path / 'whole.pth'
    saved = {'net': {f'key{i}': torch.randn(999) for i in range(9)}}
    torch.save(saved, path, _use_new_zipfile_serialization=zip_format)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(TpfError, match='damaged or not a file') as error:
        import_weights(path, 'tpf_small', tmp_path / 'out')
    assert '\n' not in str(error.value)


def test_flipped_bytes_of_weights_are_found(tmp_path):
    path = tmp_path / 'whole.pth'
    torch.save({'net': {'backbone.norm.bias': torch.full((96,), 1.5)}}, path)
    data = path.read_bytes()
    path.write_bytes(data.replace(torch.tensor(1.5).numpy().tobytes() * 3, b'\0' * 12, 1))
    with pytest.raises(TpfError, match='damaged'):
        import_weights(path, 'tpf_small', tmp_path / 'out')


def test_missing_unexpected_and_wrongly_shaped_weights_are_named(published, tmp_path):
    weights = OrderedDict(published)
    del weights['backbone.norm.bias']
    weights['backbone.extra'] = torch.zeros(1)
    weights['box_head.conv5_ctr.bias'] = torch.zeros(3)
    torch.save({'net': weights}, tmp_path / 'other.pth')
    with pytest.raises(TpfError) as error:
        import_weights(tmp_path / 'other.pth', 'tpf_base', tmp_path / 'out')
    assert 'missing: backbone.norm.bias' in str(error.value)
    assert 'unexpected: backbone.extra' in str(error.value)
    assert 'box_head.conv5_ctr.bias is (3,), the model needs (1,)' in str(error.value)
    assert not (tmp_path / 'out').exists()


def test_what_holds_no_weights_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(TpfError, match="looked for under 'net'"):
        import_weights(tmp_path / 'list.pth', 'tpf_base', tmp_path / 'out')
    with pytest.raises(TpfError, match='does not exist'):
        import_weights(tmp_path / 'absent.pth', 'tpf_base', tmp_path / 'out')
