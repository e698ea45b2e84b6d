"""Files in the layouts of CKD and SDSTrack, as small networks of the same names."""

from dataclasses import replace
import os

import pytest
from safetensors.torch import load_file
from test_ckd import SMALL as SMALL_CKD
from test_sdstrack import SMALL as SMALL_SDSTRACK
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import ckd, registry, sdstrack
from tpf_tracker_ros.models.import_weights import import_weights


@pytest.fixture(autouse=True)
def models(monkeypatch):
    """Register small networks for the time of a test."""
    monkeypatch.setattr(registry, '_ENTRIES', dict(registry._ENTRIES))

    def small_ckd():
        """Take the rules of ckd_base."""
        return ckd.Ckd(SMALL_CKD)

    def small_sdstrack():
        """Take the rules of sdstrack."""
        return sdstrack.SdsTrack(SMALL_SDSTRACK)

    registry.register_model(published=ckd.PUBLISHED)(small_ckd)
    registry.register_model(published=sdstrack.PUBLISHED)(small_sdstrack)


@pytest.fixture(scope='module')
def files():
    torch.manual_seed(1)
    networks = {
        'ckd': ckd.Ckd(SMALL_CKD),
        'ckd_train': ckd.CkdWithTeachers(SMALL_CKD),
        'sdstrack': sdstrack.SdsTrack(SMALL_SDSTRACK),
    }
    return {name: network.state_dict() for name, network in networks.items()}


class Settings:
    """Stands for what the authors' training pickles beside the weights."""

    def __init__(self):
        self.device, self.description = torch.device('cpu'), 'stage 2'


@pytest.mark.parametrize('wrap', ['net', 'state_dict', 'model', None])
@pytest.mark.parametrize(
    'layout, model, left_out',
    [('ckd', 'small_ckd', 0), ('ckd_train', 'small_ckd', 292), ('sdstrack', 'small_sdstrack', 4)],
)
def test_every_container_gives_the_same_weights(files, tmp_path, wrap, layout, model, left_out):
    weights = files[layout]
    if wrap == 'state_dict':
        weights = {f'module.{key}': value for key, value in weights.items()}
    saved = weights if wrap is None else {'epoch': 25, wrap: weights, 'settings': Settings()}
    torch.save(saved, tmp_path / 'published.pth.tar')
    told = import_weights(tmp_path / 'published.pth.tar', model, tmp_path / 'out')
    written = load_file(tmp_path / 'out')
    kept = {k: v for k, v in written.items() if k in files[layout] and 'pos_embed' not in k}
    assert kept and all(torch.equal(files[layout][key], value) for key, value in kept.items())
    assert f'as {model}' in told and len(told.splitlines()) == 1
    assert (f'{left_out} that tracking does not use were left out' in told) == (left_out > 0)


def test_the_rules_take_the_published_layouts_to_the_last_name(key_table):
    training, inference = key_table('ckd_train_keys.csv'), key_table('ckd_keys.csv')
    assert {k for k in training if not ckd.PUBLISHED.unused(k)} == set(inference)
    published = key_table('sdstrack_keys.csv')
    assert len([key for key in published if not sdstrack.PUBLISHED.ours(key)]) == 4


def test_the_file_of_another_model_is_one_line(files, tmp_path):
    for layout, model in (('sdstrack', 'small_ckd'), ('ckd', 'small_sdstrack')):
        torch.save({'net': files[layout]}, tmp_path / 'other.pth')
        with pytest.raises(TpfError, match=r'missing: .*; unexpected: ') as error:
            import_weights(tmp_path / 'other.pth', model, tmp_path / 'out')
        assert len(str(error.value).splitlines()) == 1 and not (tmp_path / 'out').exists()
    with torch.random.fork_rng():
        other = sdstrack.SdsTrack(replace(SMALL_SDSTRACK, dim=64))
    torch.save(other.state_dict(), tmp_path / 'wide.pth')
    with pytest.raises(TpfError, match='the model needs'):
        import_weights(tmp_path / 'wide.pth', 'small_sdstrack', tmp_path / 'out')


class Exploit:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


def test_code_beside_the_weights_is_not_run(files, tmp_path):
    marker, path = tmp_path / 'executed', tmp_path / 'malicious.pth'
    torch.save({'model': files['ckd'], 'settings': Exploit(marker)}, path)
    import_weights(path, 'small_ckd', tmp_path / 'out')
    assert not marker.exists()
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(TpfError, match='damaged or not a file'):
        import_weights(path, 'small_ckd', tmp_path / 'out')
