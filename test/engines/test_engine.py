import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from tpf_tracker_ros.bench.agreement import agreement
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.engines.choose import choose_device, fastest_engine
from tpf_tracker_ros.engines.cuda_graph import CudaGraphEngine, halve
from tpf_tracker_ros.engines.engine import (
    Engine,
    example_crops,
    MergeStep,
    Normalize,
    SearchStep,
    TemplateStep,
)
from tpf_tracker_ros.engines.frozen import FrozenEngine
from tpf_tracker_ros.models import create_model, list_models
from tpf_tracker_ros.models.checkpoint import load_model
from tpf_tracker_ros.models.network import Normalization


class OffDevice(TorchDispatchMode):
    """Notes each operation that touches a tensor which is not on the device."""

    def __init__(self, device):
        super().__init__()
        self.device, self.found = device, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_flatten((args, kwargs, result))[0]:
            if isinstance(value, torch.Tensor) and value.device.type != self.device:
                self.found.append(str(func))
        return result


@pytest.mark.parametrize('name', list_models())
def test_a_step_never_touches_the_host(name):
    """A copy from the host, or a wait for a value, would break the capture of a CUDA graph."""
    with torch.device('meta'):
        model = create_model(name).eval()
        merge, template, search = MergeStep(model), TemplateStep(model), SearchStep(model)
    crops = example_crops(model, 'meta')
    with torch.inference_mode(), OffDevice('meta') as watch:
        kept = template(merge(*crops['template']))
        box, score = search(torch.stack([kept] * model.max_templates, 1), merge(*crops['search']))
    assert (box.shape, score.shape) == ((1, 4), (1,))
    assert watch.found == []


def test_images_are_normalised_and_restored():
    image = torch.randint(0, 256, (1, 5, 4, 3), dtype=torch.uint8)
    how = Normalization()
    found = Normalize(how)(image)[0].permute(1, 2, 0)
    expected = (image[0] / 255 - torch.tensor(how.mean)) / torch.tensor(how.std)
    assert torch.allclose(found, expected, atol=1e-5)
    planes = image.permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(how.apply(planes)[0].permute(1, 2, 0), expected)
    torch.testing.assert_close(how.undo(how.apply(planes)), planes)
    assert torch.equal(Normalize(how).undo(found.permute(2, 0, 1)), image[0])


def test_an_untrained_adapter_fuses_to_the_average():
    rgb, thermal = (
        np.random.default_rng(i).integers(0, 256, (30, 50, 3), np.uint8) for i in (0, 1)
    )
    fused = Engine(create_model('tpf_tiny'), 'cpu').fuse(rgb, thermal)
    assert np.abs(fused - (rgb / 2.0 + thermal / 2.0)).max() <= 1


@pytest.mark.parametrize('make', [lambda model: Engine(model, 'cpu'), FrozenEngine])
def test_an_engine_leaves_the_callers_network_and_threads_as_they_are(make):
    model, threads = create_model('tpf_tiny').train(), torch.get_num_threads()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    engine = make(model)
    engine.keep_template(*np.zeros((2, 64, 64, 3), np.uint8))
    assert model.training and engine.network is not model
    assert torch.get_num_threads() == threads
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) and value.is_contiguous()


def test_an_absent_device_is_named():
    with pytest.raises(TpfError, match="'nonsense' cannot be used"):
        choose_device('nonsense')


def test_a_frozen_engine_gives_the_values_of_the_plain_one():
    torch.manual_seed(0)
    model = create_model('tpf_tiny').eval()
    for layer in model.modules():  # as training leaves them: freezing must fold them in
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    plain, frozen = Engine(model, 'cpu'), fastest_engine(model, 'cpu')
    assert isinstance(frozen, FrozenEngine)
    rng = np.random.default_rng(0)
    template, search = (rng.integers(0, 256, (2, n, n, 3), np.uint8) for n in (64, 128))
    tokens = plain.keep_template(*template)
    assert torch.allclose(frozen.keep_template(*template), tokens, atol=1e-4)
    box, score = plain.locate([tokens, tokens], *search)
    other_box, other_score = frozen.locate([tokens, tokens], *search)
    assert other_score == pytest.approx(score, abs=1e-5)
    assert np.abs(other_box - box).max() < 1e-5


@pytest.mark.skipif(torch.cuda.is_available(), reason='a CUDA graph can be captured here')
def test_without_a_cuda_graph_the_plain_engine_runs(caplog):
    engine = fastest_engine(create_model('tpf_tiny'), 'meta')
    assert type(engine) is Engine
    assert 'no CUDA graph can be captured on meta (' in caplog.text


class HalfEngine(Engine):
    """Steps in half precision, as a CUDA graph takes them, on the CPU."""

    def __init__(self, model, dtype):
        super().__init__(model, 'cpu')
        halve(self.network, dtype)
        self._merge.normalize.to(dtype)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_same_boxes(dtype):
    model = load_model('tpf_tiny')
    assert agreement(model, HalfEngine(model, dtype), WorldSequence(0, frames=24)) >= 0.99


@pytest.mark.parametrize('name', list_models())
def test_every_network_runs_in_half_precision(name):
    with torch.device('meta'):
        size = sum(p.numel() for p in create_model(name).parameters())
    if size > 3e7:
        pytest.skip('long on a CPU; its layers are those of the small models')
    model = create_model(name)
    rng = np.random.default_rng(0)
    plain, half = Engine(model, 'cpu'), HalfEngine(model, torch.float16)
    sizes = model.crops.template_size, model.crops.search_size
    template, search = (rng.integers(0, 256, (2, n, n, 3), np.uint8) for n in sizes)
    scores = []
    for engine in (plain, half):
        kept = engine.keep_template(*template)
        scores.append(engine.locate([kept] * model.max_templates, *search)[1])
    assert scores[1] == pytest.approx(scores[0], abs=0.02, rel=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='a CUDA graph needs an NVIDIA GPU')
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_cuda_graphs_agree_with_the_plain_engine(dtype):
    model = load_model('tpf_tiny')
    assert isinstance(fastest_engine(model, 'cuda'), CudaGraphEngine)
    overlap = agreement(model, CudaGraphEngine(model, 'cuda', dtype), WorldSequence(0, frames=150))
    assert overlap >= 0.99
