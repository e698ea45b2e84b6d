from importlib.util import find_spec

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest
from scan_reference import make_inputs, sequential_scan
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.layers import scan
from tpf_tracker_ros.models.layers.mamba import (
    DIRECTIONS,
    GridMamba,
    MambaMixer,
    order_grid,
    restore_grid,
)
from tpf_tracker_ros.models.layers.scan import selective_scan


def assert_close(found, expected, tolerance):
    scale = expected.abs().max().clamp_min(1e-6)
    assert ((found - expected).abs().max() / scale).item() <= tolerance


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 130),
    dim=st.integers(1, 9),
    state=st.integers(1, 8),
    decay=st.sampled_from([0.01, 1.0, 30.0, 1000.0]),
    lanes=st.sampled_from([1, 64, 1 << 17]),
    seed=st.integers(0, 99),
)
@example(batch=2, length=1, dim=3, state=2, decay=1.0, lanes=1 << 17, seed=0)
def test_values_and_gradients_are_those_of_the_sequential_scan(
    batch, length, dim, state, decay, lanes, seed
):
    inputs = make_inputs(batch, length, dim, state, decay=decay, seed=seed)
    inputs = [v.requires_grad_() for v in inputs]
    expected = sequential_scan(*inputs)
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, 'CPU_LANES', lanes)  # few lanes: many steps in few chunks
        found = selective_scan(*inputs)
        found_grads = torch.autograd.grad(found, inputs, grad)
    assert_close(found, expected, 1e-4)
    for one, other in zip(found_grads, torch.autograd.grad(expected, inputs, grad)):
        assert_close(one, other, 1e-4)


def test_gradients_are_exact_in_double_precision():
    inputs = [v.double().requires_grad_() for v in make_inputs(2, 7, 3, 2)]
    assert torch.autograd.gradcheck(selective_scan, inputs)


def test_long_sequences_with_strong_and_weak_decay_stay_accurate():
    u, delta, a, b, c, d = make_inputs(1, 5000, 4, 4)
    a[:2] *= 1000
    a[2:] *= 1e-4
    assert_close(selective_scan(u, delta, a, b, c, d), sequential_scan(u, delta, a, b, c, d), 1e-4)


def test_bfloat16_is_close_to_float32():
    half = [v.bfloat16() for v in make_inputs(2, 300, 8, 8)]
    y = selective_scan(*half)
    assert y.dtype == torch.bfloat16
    assert_close(y.float(), sequential_scan(*(v.float() for v in half)), 1e-2)


def test_autocast_leaves_the_state_in_full_precision():
    inputs = [v.requires_grad_() for v in make_inputs(2, 64, 8, 8)]
    plain = selective_scan(*inputs)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(selective_scan(*inputs), plain)


def test_values_do_not_depend_on_whether_gradients_are_asked_for():
    inputs = make_inputs()
    with torch.no_grad():
        plain = selective_scan(*inputs, backend='chunked')
    assert torch.equal(selective_scan(*(v.requires_grad_() for v in inputs)), plain)


def test_unknown_and_absent_backends_are_refused():
    inputs = make_inputs(length=2)
    with pytest.raises(TpfError, match=r"'fast' is unknown; use one of auto, mamba_ssm, triton"):
        selective_scan(*inputs, backend='fast')
    for backend in ('mamba_ssm', 'triton'):
        if find_spec(backend) is None:
            with pytest.raises(TpfError, match=f"'{backend}' is not installed"):
                selective_scan(*inputs, backend=backend)


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_a_grid_is_restored_from_its_tokens(direction):
    grid = torch.arange(2 * 3 * 5 * 2).reshape(2, 3, 5, 2)
    tokens = order_grid(grid, direction)
    assert torch.equal(restore_grid(tokens, direction, 3, 5), grid)


@pytest.mark.parametrize(
    ('direction', 'reached'),
    [('right', (2, 4)), ('left', (0, 0)), ('down', (2, 4)), ('up', (0, 0))],
)
def test_a_grid_direction_reaches_only_what_it_visits_later(direction, reached):
    torch.manual_seed(0)
    mixer = GridMamba(8, d_state=4, directions=(direction,))
    grid = torch.randn(1, 3, 5, 8, requires_grad=True)
    mixer(grid)[0, 1, 2].sum().backward()
    before = grid.grad[0].abs().sum(-1) > 0
    order = order_grid(torch.arange(15).reshape(1, 3, 5, 1), direction).flatten().tolist()
    visited = set(order[: order.index(7) + 1])
    assert {int(i) for i in before.flatten().nonzero()} == visited
    assert not before[reached]


def test_unknown_directions_are_refused():
    with pytest.raises(TpfError, match='diagonal'):
        GridMamba(8, directions=('diagonal',))


def test_the_mixer_is_causal_and_trains():
    torch.manual_seed(0)
    mixer = MambaMixer(8, d_state=4)
    x = torch.randn(2, 20, 8, requires_grad=True)
    mixer(x)[:, 10].sum().backward()
    assert (x.grad[:, 11:] == 0).all()
    assert (x.grad[:, :11].abs().sum(-1) > 0).all()
    assert all(parameter.grad.isfinite().all() for parameter in mixer.parameters())


def test_the_first_steps_of_a_fresh_mixer_lie_between_a_thousandth_and_a_tenth():
    mixer = MambaMixer(64)
    steps = torch.nn.functional.softplus(mixer.dt_proj.bias)
    assert steps.min() > 9e-4 and steps.max() < 0.11
    assert torch.allclose(-mixer.a_log.exp()[5], -torch.arange(1.0, 17.0))
