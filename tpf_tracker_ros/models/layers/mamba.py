"""
The Mamba mixer (arXiv 2312.00752), over a sequence and over a grid in several directions.

The mixer is the inner part of the reference code's block. The grid is read in several orders as
in VMamba (arXiv 2401.10166); unlike there, all directions share one set of weights, so that they
run as one batch and the adapter stays small.
"""

import math

import torch
from torch import nn, Tensor
from torch.nn import functional as F
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.layers.mamba_native import can_compile, native_mix
from tpf_tracker_ros.models.layers.scan import can_be_native, selective_scan

DIRECTIONS = ('right', 'left', 'down', 'up')


class MambaMixer(nn.Module):
    """
    Mix tokens (B, L, d_model) -> (B, L, d_model), each from those before it.

    backend: an attribute, that of selective_scan.
    """

    def __init__(
        self, d_model: int, *, d_state: int = 16, d_conv: int = 4, expand: int = 2
    ) -> None:
        super().__init__()
        inner = expand * d_model
        self.rank = math.ceil(d_model / 16)
        self.d_state = d_state
        self.backend = 'auto'
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, d_conv, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.a_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(inner, 1))
        self.d = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        # Steps start log-uniform in 0.001 .. 0.1: the bias is the inverse softplus of them.
        dt = torch.exp(torch.empty(inner).uniform_(math.log(1e-3), math.log(1e-1)))
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens x (B, L, d_model) in the order they lie in."""
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        return self.out_proj(self.mix(u) * F.silu(gate))

    def mix(self, u: Tensor) -> Tensor:
        """Causal convolution and selective scan of (B, L, inner), before the gate."""
        u = F.silu(self._convolve(u))
        dt, b, c = self.x_proj(u).split([self.rank, self.d_state, self.d_state], dim=-1)
        delta = F.softplus(self.dt_proj(dt))
        return selective_scan(u, delta, -torch.exp(self.a_log), b, c, self.d, backend=self.backend)

    def _convolve(self, u: Tensor) -> Tensor:
        """
        Convolve each channel of (B, L, inner) with its past by shifted sums.

        The same as self.conv, whose kernel for a few channels is slow and wants them first.
        """
        length, past = u.shape[1], self.conv.kernel_size[0] - 1
        u = F.pad(u, (0, 0, past, 0))
        taps = self.conv.weight[:, 0].unbind(1)
        return self.conv.bias + sum(u.narrow(1, i, length) * tap for i, tap in enumerate(taps))


class GridMamba(MambaMixer):
    """
    Mix a grid (B, H, W, d_model) -> the same shape, the mean over the directions.

    directions: any of 'right', 'left' (along rows, then down or up), 'down', 'up' (along columns).
    """

    def __init__(
        self, d_model: int, *, directions: tuple[str, ...] = DIRECTIONS, **mixer: int
    ) -> None:
        super().__init__(d_model, **mixer)
        if not directions or not set(directions) <= set(DIRECTIONS):
            raise TpfError(f'scan directions {directions} are unknown; use any of {DIRECTIONS}')
        self.directions = directions

    def forward(self, x: Tensor) -> Tensor:
        """Mix the grid x (B, H, W, d_model)."""
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        mixed = self._mix_native(u) if self._is_native(u) else self._mix_grid(u)
        return self.out_proj(mixed * F.silu(gate))

    def _mix_grid(self, u: Tensor) -> Tensor:
        """Mix the grid u (B, H, W, inner)."""
        orders = [order_grid(u, direction) for direction in self.directions]
        mixed = self.mix(torch.cat(orders)).chunk(len(orders))
        grids = [
            restore_grid(tokens, direction, u.shape[1], u.shape[2])
            for tokens, direction in zip(mixed, self.directions)
        ]
        return sum(grids) / len(grids)

    def _is_native(self, u: Tensor) -> bool:
        wanted = self.backend in ('auto', 'native') and u.dtype == torch.float32
        return wanted and can_be_native(self.a_log, u, *self.parameters()) and can_compile()

    def _mix_native(self, u: Tensor) -> Tensor:
        ways = [(way in ('down', 'up'), way in ('left', 'up')) for way in self.directions]
        each = native_mix(
            u,
            ways,
            taps=self.conv.weight,
            bias=self.conv.bias,
            project=self.x_proj.weight,
            widen=self.dt_proj.weight,
            delta_bias=self.dt_proj.bias,
            a=-torch.exp(self.a_log),
            d=self.d,
        )
        return each.mean(0)


def order_grid(grid: Tensor, direction: str) -> Tensor:
    """Tokens (B, H W, C) of a grid (B, H, W, C) in the order that this direction visits them."""
    if direction in ('down', 'up'):
        grid = grid.transpose(1, 2)
    tokens = grid.flatten(1, 2)
    return tokens.flip(1) if direction in ('left', 'up') else tokens


def restore_grid(tokens: Tensor, direction: str, height: int, width: int) -> Tensor:
    """Get the grid (B, H, W, C) whose order_grid this way are these tokens (B, H W, C)."""
    if direction in ('left', 'up'):
        tokens = tokens.flip(1)
    if direction in ('down', 'up'):
        return tokens.unflatten(1, (width, height)).transpose(1, 2)
    return tokens.unflatten(1, (height, width))
