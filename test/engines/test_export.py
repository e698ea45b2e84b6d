from functools import partial
import json
import shutil

from click.testing import CliRunner
import numpy as np
import pytest
import torch
from tpf_tracker_ros.bench.agreement import check_export
from tpf_tracker_ros.cli import tpf
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.engines.engine import Engine
from tpf_tracker_ros.engines.export import export_model, quantize_onnx
from tpf_tracker_ros.engines.exported import ExportedEngine
from tpf_tracker_ros.models import create_model
from tpf_tracker_ros.models.checkpoint import save_weights
from tpf_tracker_ros.models.tpf import Tpf, TpfConfig
from tpf_tracker_ros.tracking.load import load_tracker


@pytest.fixture(scope='module')
def tiny():
    torch.manual_seed(0)
    return create_model('tpf_tiny').eval()


@pytest.fixture(scope='module')
def small():
    """Every kind of layer, and little of each: exporting takes a time that grows with nodes."""
    torch.manual_seed(0)
    config = TpfConfig(
        template_size=32,
        search_size=64,
        stride=8,
        stem='conv',
        dim=96,
        depth=1,
        heads=3,
        ce_blocks=(0,),
        head_channels=16,
        pfa_channels=8,
        pfa_stride=8,
        pfa_state=2,
        pfa_directions=('right', 'up'),
    )
    model = Tpf(config).eval()
    torch.nn.init.normal_(model.pfa.out.weight, std=0.1)  # so that fusion does something
    return model


@pytest.fixture(scope='module')
def exports(small, tmp_path_factory):
    pytest.importorskip('onnxscript', reason='export to onnx needs onnxscript')
    folder = tmp_path_factory.mktemp('exports')
    for form in ('onnx', 'torchscript'):
        export_model(small, folder / form, form=form)
    export_model(small, folder / 'torchscript-int8', form='torchscript', int8=True)
    shutil.copytree(folder / 'onnx', folder / 'onnx-int8')  # exporting once more takes long
    for step in ('template', 'search'):
        quantize_onnx(folder / 'onnx-int8' / f'{step}.onnx')
    return folder


@pytest.mark.parametrize(
    ('kind', 'tolerance'),
    [('onnx', 1e-5), ('torchscript', 1e-5), ('onnx-int8', 0.02), ('torchscript-int8', 0.02)],
)
@pytest.mark.parametrize('native', [False, True])
def test_an_export_gives_the_values_of_the_plain_path(small, exports, kind, tolerance, native):
    plain, exported = Engine(small, 'cpu'), ExportedEngine(small, exports / kind, native=native)
    rng = np.random.default_rng(0)
    template, search = (rng.integers(0, 256, (2, n, n, 3), np.uint8) for n in (32, 64))
    tokens = plain.keep_template(*template)
    assert torch.allclose(exported.keep_template(*template), tokens, atol=10 * tolerance)
    box, score = plain.locate([tokens, tokens], *search)
    other_box, other_score = exported.locate([tokens, tokens], *search)
    assert other_score == pytest.approx(score, abs=tolerance)
    assert np.abs(other_box - box).max() < tolerance


def test_int8_multiplies_in_int8(exports):
    assert b'MatMulInteger' in (exports / 'onnx-int8' / 'search.onnx').read_bytes()
    assert b'MatMulInteger' not in (exports / 'onnx' / 'search.onnx').read_bytes()
    whole, quantized = (exports / f'torchscript{kind}' / 'search.pt' for kind in ('', '-int8'))
    assert quantized.stat().st_size < 0.9 * whole.stat().st_size


def test_an_export_is_a_checkpoint_whose_boxes_are_checked(tmp_path, tiny):
    save_weights(tiny, tmp_path / 'w.safetensors')
    out = tmp_path / 'out'
    command = ['export', '--model', 'tpf_tiny', '--out', str(out)]
    command += ['--checkpoint', str(tmp_path / 'w.safetensors')]
    result = CliRunner().invoke(tpf, [*command, '--format', 'torchscript', '--frames', '6'])
    assert result.exit_code == 0, result.output
    assert 'mean IoU of 1.0000' in result.output
    result = CliRunner().invoke(tpf, [*command, '--frames', '1'])
    assert result.exit_code == 2 and '1 is not in the range' in result.output
    sequence = WorldSequence(1, frames=2, size=(320, 256))
    first, second = sequence
    tracker = load_tracker('tpf_tiny', device='cpu', checkpoint=out)
    tracker.initialize(first, sequence.ground_truth[0])
    assert tracker.track(second).box.shape == (4,)
    assert tracker.fuse(second).shape == (256, 320, 3)


def test_an_export_of_other_boxes_is_refused(tmp_path, tiny):
    export_model(tiny, tmp_path, form='torchscript')
    torch.manual_seed(1)
    save_weights(create_model('tpf_tiny'), tmp_path / 'weights.safetensors')
    with pytest.raises(TpfError, match=r'below 0\.99; do not use it'):
        check_export(tmp_path, WorldSequence(0, frames=4))


def test_broken_exports_are_named(tmp_path, small, tiny, exports):
    with pytest.raises(TpfError, match='no export folder'):
        ExportedEngine(small, tmp_path)
    for form, suffix in (('onnx', 'onnx'), ('torchscript', 'pt')):
        broken = tmp_path / form
        broken.mkdir()
        (broken / 'export.json').write_text(json.dumps({'format': form}))
        with pytest.raises(TpfError, match='is damaged'):
            ExportedEngine(small, broken)
        whole = (exports / form / f'merge_template.{suffix}').read_bytes()
        (broken / f'merge_template.{suffix}').write_bytes(whole[: len(whole) // 2])
        with pytest.raises(TpfError, match='is damaged') as error:
            ExportedEngine(small, broken)
        assert '\n' not in str(error.value)
    save_weights(tiny, tmp_path / 'onnx' / 'weights.safetensors')
    info = {'format': 'onnx', 'templates': 2}
    (tmp_path / 'onnx' / 'export.json').write_text(json.dumps(info))
    with pytest.raises(TpfError, match='takes 2 templates, these settings use 1; export again'):
        load_tracker('tpf_tiny', device='cpu', checkpoint=tmp_path / 'onnx', policy='published')
    with pytest.raises(TpfError, match='runs on cpu'):
        load_tracker('tpf_tiny', device='meta', checkpoint=tmp_path / 'onnx')


def test_a_network_without_large_products_is_not_quantized(tmp_path):
    with pytest.raises(TpfError, match='toy has no matrix product that int8 makes faster'):
        export_model(create_model('toy'), tmp_path, form='onnx', int8=True)


def test_products_of_single_vectors_are_quantized(tmp_path):
    """As in tpf_nano: the quantizer turns their weights, whose shapes the exporter has noted."""
    onnx = pytest.importorskip('onnx', reason='quantizing needs onnx and onnxruntime')
    onnxruntime = pytest.importorskip('onnxruntime')
    tensor = partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    weight = np.random.default_rng(0).normal(size=(192, 96)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node('Gemm', ['x', 'w'], ['y'], name='product', transB=1),
        ],
        'step',
        [tensor('x', shape=(8, 96))],
        [tensor('y', shape=(8, 192))],
        [onnx.numpy_helper.from_array(weight, 'w')],
        value_info=[tensor('w', shape=(192, 96))],
    )
    path, x = tmp_path / 'step.onnx', np.ones((8, 96), np.float32)
    opset = [onnx.helper.make_opsetid('', 18)]
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=opset), path)
    quantize_onnx(path)
    (y,) = onnxruntime.InferenceSession(path).run(None, {'x': x})
    np.testing.assert_allclose(y, x @ weight.T, atol=0.3)
