import os
import subprocess
import sys

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest
from scan_reference import make_inputs, sequential_scan
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models import scan_native
from tpf_tracker_ros.models.scan import selective_scan

pytestmark = pytest.mark.skipif(
    not scan_native.can_compile(), reason='there is no C compiler; pip install ziglang brings one'
)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 300),
    dim=st.integers(1, 40),
    state=st.integers(1, 20),
    decay=st.sampled_from([0.01, 1.0, 30.0, 1000.0, 1e6]),
    small=st.sampled_from([0, scan_native.SMALL]),
    reverse=st.booleans(),
    seed=st.integers(0, 99),
)
@example(1, 1, 1, 1, 1.0, 0, True, 0)
def test_values_are_those_of_the_sequential_scan(
    batch, length, dim, state, decay, small, reverse, seed
):
    inputs = make_inputs(batch, length, dim, state, decay=decay, seed=seed)
    u, delta, a, b, c, d = inputs
    if reverse:
        u, delta, b, c = (v.flip(1) for v in (u, delta, b, c))
    expected = sequential_scan(u, delta, a, b, c, d)
    expected = expected.flip(1) if reverse else expected
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_native, 'SMALL', small)  # 0: several threads
        torch.set_num_threads(3)
        found = selective_scan(*inputs, reverse=reverse, backend='native')
    torch.set_num_threads(threads)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1e-6)


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
    for unfit in (trained, [v.double() for v in inputs]):
        with pytest.raises(TpfError, match="use 'auto'"):
            selective_scan(*unfit, backend='native')


@pytest.mark.parametrize('broken', [0, 1, 2, 3, 4])
def test_nan_stays_nan(broken):
    inputs = make_inputs(1, 40, 3, 4)
    inputs[broken] = inputs[broken].clone()
    inputs[broken][..., -1] = torch.nan
    assert selective_scan(*inputs, backend='native').isnan().any()


def test_without_a_compiler_the_chunked_form_runs(tmp_path):
    code = """
import sys, torch
sys.modules['ziglang'] = None
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.scan import selective_scan
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
