"""
Exports of a network that run without its Python code: `tpf export`.

An export is a folder: the steps of the engine (merge a template or a search crop, keep the
template, search for it) as ONNX or TorchScript, the weights they were made of, and
export.json. It is given wherever a checkpoint is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import copy
import json
import logging
import math
from pathlib import Path
import warnings

import torch
from torch import nn, Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import write_file, writing
from tpf_tracker_ros.engines.engine import example_crops, MergeStep, traceable_steps
from tpf_tracker_ros.engines.exported import SUFFIXES
from tpf_tracker_ros.engines.frozen import freeze
from tpf_tracker_ros.models.checkpoint import save_weights
from tpf_tracker_ros.models.network import TrackingNetwork

# Smaller products gain nothing from int8, and those of the fusion cost the most precision.
LEAST_WEIGHTS = 96 * 96


def export_model(network: TrackingNetwork, out: Path, *, form: str, int8: bool = False) -> None:
    """
    Write the export folder of a network whose weights are loaded, for its max_templates.

    form: 'onnx' or 'torchscript'. int8: quantize the weights of matrix products, and their
    inputs as they come (dynamic quantization). Raises TpfError when there are none, a package is
    missing or the folder cannot be written.
    """
    if int8 and not has_large_products(network):
        raise TpfError(
            f'{network.name} has no matrix product that int8 makes faster; export it without int8'
        )
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    network = copy.deepcopy(network).cpu().eval()
    merge = {
        f'merge_{view}': (MergeStep(network), crops)
        for view, crops in example_crops(network).items()
    }
    write = _write_onnx if form == 'onnx' else _write_torchscript
    with torch.no_grad(), writing(out), _quiet():
        for step, (module, inputs) in {**merge, **traceable_steps(network)}.items():
            write(module.eval(), inputs, out / f'{step}{SUFFIXES[form]}', int8)
    save_weights(network, out / 'weights.safetensors')
    info = {
        'model': network.name,
        'format': form,
        'int8': int8,
        'templates': network.max_templates,
    }
    write_file(out / 'export.json', json.dumps(info, indent=2).encode() + b'\n')


def has_large_products(network: nn.Module) -> bool:
    """Whether there is anything that is worth int8."""
    return any(_is_large_product(layer) for layer in network.modules())


def _is_large_product(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) and layer.weight.numel() >= LEAST_WEIGHTS


def quantize_onnx(path: Path) -> None:
    """
    Quantize the large matrix products of an ONNX file, dynamically, to int8.

    Convolutions stay as they are: they lose speed in int8.
    """
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    model = onnx.load(path)
    large = {w.name for w in model.graph.initializer if math.prod(w.dims) >= LEAST_WEIGHTS}
    products = [
        node.name
        for node in model.graph.node
        if node.op_type in ('MatMul', 'Gemm') and large.intersection(node.input)
    ]
    if products:  # none would mean all to the quantizer
        # The exporter notes the shapes of weights, too; the quantizer turns those of a Gemm.
        del model.graph.value_info[:]
        with _quiet():
            quantize_dynamic(model, path, nodes_to_quantize=products, per_channel=True)


def _write_onnx(step: nn.Module, inputs: tuple[Tensor, ...], path: Path, int8: bool) -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise TpfError(f'export to onnx needs {error.name}; pip install {error.name}') from None
    torch.onnx.export(step, inputs, str(path), dynamo=True, external_data=False, verbose=False)
    if int8:
        quantize_onnx(path)


def _write_torchscript(
    step: nn.Module, inputs: tuple[Tensor, ...], path: Path, int8: bool
) -> None:
    if int8:
        products = {name for name, each in step.named_modules() if _is_large_product(each)}
        step = torch.ao.quantization.quantize_dynamic(step, products)
    torch.jit.save(freeze(step, inputs), str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' advice to those who write networks away from those who use them."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
