from contextlib import contextmanager
import os
import subprocess
import sys

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest
from scan_reference import make_inputs, sequential_scan
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.layers import mamba_native
from tpf_tracker_ros.models.layers.mamba import DIRECTIONS, GridMamba
from tpf_tracker_ros.models.layers.scan import selective_scan

pytestmark = pytest.mark.skipif(
    not mamba_native.can_compile(), reason='there is no C compiler; pip install ziglang brings one'
)


@contextmanager
def threads_from(small):
    """Three threads, for more than `small` numbers of the state."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mamba_native, 'SMALL', small)
        torch.set_num_threads(3)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 300),
    dim=st.integers(1, 40),
    state=st.integers(1, 20),
    decay=st.sampled_from([0.01, 1.0, 30.0, 1000.0, 1e6]),
    small=st.sampled_from([0, mamba_native.SMALL]),
    seed=st.integers(0, 99),
)
@example(1, 1, 1, 1, 1.0, 0, 0)
def test_values_are_those_of_the_sequential_scan(batch, length, dim, state, decay, small, seed):
    inputs = make_inputs(batch, length, dim, state, decay=decay, seed=seed)
    expected = sequential_scan(*inputs)
    with threads_from(small):
        found = selective_scan(*inputs, backend='native')
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1e-6)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 2),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    dim=st.integers(1, 40),
    state=st.integers(1, 18),
    reach=st.integers(1, 5),
    directions=st.lists(st.sampled_from(DIRECTIONS), min_size=1, unique=True),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    small=st.sampled_from([0, mamba_native.SMALL]),
)
@example(1, 1, 1, 1, 1, 1, ['up'], 1.0, 0)
@example(2, 9, 7, 33, 16, 4, list(DIRECTIONS), 1.0, 0)
def test_the_mixer_in_c_is_the_one_in_pytorch(
    batch, height, width, dim, state, reach, directions, scale, small
):
    torch.manual_seed(0)
    mixer = GridMamba(dim, d_state=state, d_conv=reach, expand=1, directions=tuple(directions))
    grid = torch.randn(batch, height, width, dim) * scale
    expected = mixer(grid)  # gradients are asked for: in PyTorch
    assert expected.requires_grad
    with threads_from(small), torch.no_grad():
        found = mixer(grid)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_weights_of_any_alignment_are_taken():
    mixer = GridMamba(16, d_state=4).requires_grad_(False)
    grid = torch.randn(1, 5, 5, 16)
    expected = mixer(grid)
    for weight in mixer.parameters():
        memory = torch.empty(weight.numel() + 1)[1:]  # 4 bytes off what vectors like
        weight.data = memory.copy_(weight.flatten()).view_as(weight)
    assert torch.equal(mixer(grid), expected)


def test_it_is_what_runs_where_no_gradient_is_needed_and_in_float32():
    inputs = make_inputs(2, 90, 20, 16)
    native = selective_scan(*inputs, backend='native')
    chunked = selective_scan(*inputs, backend='chunked')
    assert not torch.equal(native, chunked)  # so that the comparisons below tell them apart
    assert torch.equal(selective_scan(*inputs), native)
    half = [inputs[0].bfloat16(), *inputs[1:]]
    found = selective_scan(*half)
    assert found.dtype == torch.bfloat16
    assert (found - native).abs().max() <= 1e-2 * native.abs().max()
    trained = [v.clone().requires_grad_() for v in inputs]
    assert torch.equal(selective_scan(*trained), chunked)
    wide = make_inputs(1, 3, 5000, 16)  # more states than the stack is trusted with
    assert torch.equal(selective_scan(*wide), selective_scan(*wide, backend='chunked'))
    for unfit in (trained, wide, [v.double() for v in inputs]):
        with pytest.raises(TpfError, match="use 'auto'"):
            selective_scan(*unfit, backend='native')


@pytest.mark.parametrize('broken', [0, 1, 2, 3, 4])
def test_nan_stays_nan(broken):
    inputs = make_inputs(1, 40, 3, 4)
    inputs[broken] = inputs[broken].clone()
    inputs[broken][..., -1] = torch.nan
    assert selective_scan(*inputs, backend='native').isnan().any()


def test_nan_stays_nan_in_the_mixer():
    mixer = GridMamba(8, d_state=4).requires_grad_(False)
    grid = torch.randn(1, 4, 4, 8)
    grid[0, 2, 1, 3] = torch.nan
    assert mixer(grid).isnan().any()


def test_without_a_compiler_the_chunked_form_runs(tmp_path):
    code = """
import sys, torch
sys.modules['ziglang'] = None
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.layers.scan import selective_scan
inputs = [torch.ones(1, 9, 2), torch.ones(1, 9, 2), -torch.ones(2, 3), *torch.ones(2, 1, 9, 3)]
assert torch.equal(selective_scan(*inputs), selective_scan(*inputs, backend='chunked'))
try:
    selective_scan(*inputs, backend='native')
except TpfError as error:
    print(error)
"""
    env = {**os.environ, 'CC': 'none', 'XDG_CACHE_HOME': str(tmp_path)}
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count('not installed')) == (0, 1), done.stderr
    assert done.stderr.count('fusion runs in PyTorch, slower: mamba_native must be compiled') == 1
