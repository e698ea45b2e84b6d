"""The engine that runs an export folder of `tpf export` (see export.py)."""

import json
from pathlib import Path

import torch
from torch import Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.engines.engine import Engine
from tpf_tracker_ros.models.layers.mamba_native import can_compile
from tpf_tracker_ros.models.network import TrackingNetwork

STEPS = ('merge_template', 'merge_search', 'template', 'search')
SUFFIXES = {'onnx': '.onnx', 'torchscript': '.pt'}


def read_info(folder: Path) -> dict:
    """Return what export.json of an export folder says. Raises TpfError when there is none."""
    try:
        info = json.loads((folder / 'export.json').read_text())
        if info['format'] in SUFFIXES:
            return info
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise TpfError(f'{folder} is no export folder; make one with: tpf export --out {folder}')


class ExportedEngine(Engine):
    """
    An Engine whose steps come from an export folder; whole frames fuse in torch.

    native: merge crops by our compiled code, too, where there is a compiler: no export can hold
    it. Raises TpfError when a file is missing or damaged, or its runtime is not installed.
    """

    def __init__(self, network: TrackingNetwork, folder: Path, *, native: bool = True) -> None:
        super().__init__(network, 'cpu')
        info = read_info(folder)
        form, templates = info['format'], info.get('templates', self.max_templates)
        if templates != self.max_templates:
            raise TpfError(
                f'export {folder} takes {templates} templates, these settings use '
                f'{self.max_templates}; export again with the same --set'
            )
        load = OnnxStep if form == 'onnx' else torch.jit.load
        try:
            steps = {name: load(folder / f'{name}{SUFFIXES[form]}') for name in STEPS}
        except ModuleNotFoundError as error:
            raise TpfError(f'{folder} needs {error.name}; pip install {error.name}') from None
        except Exception as error:  # both runtimes raise classes of their own
            reason = str(error).strip().splitlines()[0]
            raise TpfError(f'export {folder} is damaged ({reason}); export again') from None
        self._template, self._search = steps['template'], steps['search']
        if not (native and can_compile()):
            by_size = {
                self.crops.template_size: steps['merge_template'],
                self.crops.search_size: steps['merge_search'],
            }
            self._merge = lambda rgb, thermal: by_size[rgb.shape[1]](rgb, thermal)


class OnnxStep:
    """One step in ONNX Runtime: CPU tensors in, tensors out."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Waiting threads sleep: a tracker shares its cores with cameras and drivers.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=['CPUExecutionProvider']
        )
        self._inputs = [given.name for given in self._session.get_inputs()]

    def __call__(self, *tensors: Tensor) -> Tensor | list[Tensor]:
        """Return the step's output, or outputs, as the module that was exported gives them."""
        feed = {name: tensor.numpy() for name, tensor in zip(self._inputs, tensors)}
        outputs = [torch.from_numpy(array) for array in self._session.run(None, feed)]
        return outputs if len(outputs) > 1 else outputs[0]
