"""On a machine without a GPU the kernels run in Triton's interpreter, if Triton is there."""

import os

import pytest
import torch
from tpf_tracker_ros.models.layers.scan import selective_scan

if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'
pytest.importorskip('triton', reason='the kernels need Triton, which GPU builds of torch bring')

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.mark.parametrize('shape', [(1, 1, 3, 2), (2, 19, 5, 3), (1, 70, 40, 4)])
def test_the_kernels_give_the_chunked_form(shape):
    batch, length, dim, state = shape
    torch.manual_seed(0)
    u, b, c = (torch.randn(batch, length, n) for n in (dim, state, state))
    delta, a, d = torch.rand(batch, length, dim), -8 * torch.rand(dim, state), torch.randn(dim)
    inputs = [v.to(DEVICE).requires_grad_() for v in (u, delta, a, b, c, d)]
    plain = selective_scan(*inputs, backend='chunked')
    found = selective_scan(*inputs, backend='triton')
    assert torch.allclose(found, plain, rtol=1e-4, atol=1e-4)
    grads = zip(*(torch.autograd.grad(y.square().sum(), inputs) for y in (found, plain)))
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-3) for one, other in grads)
