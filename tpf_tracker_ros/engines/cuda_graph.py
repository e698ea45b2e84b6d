"""
The engine for NVIDIA GPUs: each step is one captured CUDA graph in half precision.

A step of the small model starts some hundreds of kernels of a few microseconds each, so that
starting them is what takes the time; a graph starts them all at once, and what can be done
before is done before: weights are stored in half precision, batch normalisations folded away.
"""

from collections.abc import Callable

import torch
from torch import nn, Tensor
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.engines.engine import Engine, example_crops
from tpf_tracker_ros.models.network import TrackingNetwork


class CudaGraphEngine(Engine):
    """
    An Engine whose two steps are replayed; whole frames fuse eagerly, they vary in size.

    Fusing in another thread is safe once this is made: both threads queue on the default stream,
    and the memory of a graph is its own. Nothing else may use the device during the captures.
    Raises TpfError where a step cannot be captured.
    """

    def __init__(
        self, network: TrackingNetwork, device: str, dtype: torch.dtype = torch.float16
    ) -> None:
        if not torch.cuda.is_available():
            raise TpfError(f'no CUDA graph can be captured on {device} (torch finds no CUDA)')
        super().__init__(network, device)
        halve(self.network, dtype)
        self._normalize.to(dtype)
        self._merge.normalize.to(dtype)
        crops = example_crops(network, device)
        try:
            with torch.inference_mode():
                kept = self._whole_template(*crops['template'])
            search = torch.stack([kept] * self.max_templates, 1), *crops['search']
            self._whole_template = GraphStep(self._whole_template, crops['template'], device)
            self._whole_search = GraphStep(self._whole_search, search, device)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise TpfError(f'no CUDA graph can be captured on {device} ({reason})') from None


def halve(network: nn.Module, dtype: torch.dtype) -> None:
    """
    Bring a network in eval mode to this dtype, in place.

    Batch normalisations are folded into the convolutions before them. No autocast: it would
    convert weights and what lies between the layers back and forth in every step.
    """
    for layers in list(network.modules()):
        for i in range(len(layers) - 1) if isinstance(layers, nn.Sequential) else ():
            if isinstance(layers[i], nn.Conv2d) and isinstance(layers[i + 1], nn.BatchNorm2d):
                layers[i] = fuse_conv_bn_eval(layers[i], layers[i + 1])
                layers[i + 1] = nn.Identity()
    network.to(dtype)


class GraphStep:
    """
    One step, captured with inputs like these and replayed on others of the same shapes.

    Raises RuntimeError where it cannot be captured or its replay gives other values.
    """

    def __init__(self, step: Callable, inputs: tuple[Tensor, ...], device: str) -> None:
        self._inputs = [value.to(device) for value in inputs]
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.device(device):
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):  # libraries choose their kernels before the capture
                for _ in range(3):
                    expected = step(*self._inputs)
            torch.cuda.current_stream(device).wait_stream(stream)
            with torch.cuda.graph(self._graph):
                self._outputs = step(*self._inputs)
            self._graph.replay()
            found = [
                values if isinstance(values, Tensor) else values[-1]
                for values in (self._outputs, expected)
            ]
            if not torch.allclose(*found, rtol=0.05, atol=0.05):
                raise RuntimeError('its replay gives other values than the step itself')

    def __call__(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        """
        Return the step's output or outputs; copies, as the next call overwrites the graph's.

        tensors: on the host, too: they go straight to where the graph reads them.
        """
        for own, given in zip(self._inputs, tensors):
            own.copy_(given, non_blocking=True)
        self._graph.replay()
        if isinstance(self._outputs, Tensor):
            return self._outputs.clone()
        return tuple(output.clone() for output in self._outputs)
