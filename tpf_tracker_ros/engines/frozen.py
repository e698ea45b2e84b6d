"""
The engine for CPUs: what follows merging is traced once and frozen.

Freezing folds the batch normalisations into their convolutions, and no Python runs between the
layers, which for the small model take some microseconds each. Merging stays as it is: a trace
could not hold its compiled code.
"""

import warnings

import torch
from torch import nn, Tensor
from tpf_tracker_ros.engines.engine import Engine, traceable_steps
from tpf_tracker_ros.models.network import TrackingNetwork

WARM_UP = 3  # calls in which TorchScript settles how to run a step


class FrozenEngine(Engine):
    """An Engine on a CPU whose steps after merging are frozen; takes half a second to make."""

    def __init__(self, network: TrackingNetwork) -> None:
        super().__init__(network, 'cpu')
        steps = {name: freeze(*traced) for name, traced in traceable_steps(self.network).items()}
        self._template, self._search = steps['template'], steps['search']


def freeze(step: nn.Module, inputs: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    """Trace a step on inputs like these, freeze and warm it up."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # TorchScript's advice is for those who write networks
        frozen = torch.jit.freeze(torch.jit.trace(step.eval(), inputs, check_trace=False))
        for _ in range(WARM_UP):
            frozen(*inputs)
    return frozen
