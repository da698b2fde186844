"""Networks as ONNX files."""
import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError, DataError
from mmreuse.graph import tensors_in
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.modes import evaluating, plain_attention

logger = logging.getLogger(__name__)

#: Old enough for every engine, new enough for attention and hard swish.
OPSET = 14
#: Outputs may differ by so much of the largest of PyTorch's, in single precision or better.
TOLERANCE = 1e-3
#: In lower precision, by as many of its roundings.
_ROUNDINGS = 16


def export_onnx(model: nn.Module, inputs: Tensor | tuple[Any, ...], path: str | Path, *, dynamic_batch: bool = True,
                input_names: Sequence[str] | None = None) -> Path:
    """Write a network, in evaluation mode, as ONNX.

    Outputs are called ``output``, or ``output_0``, ``output_1``, ...

    Args:
        model: Any network that PyTorch can export; its mode and device are kept.
        inputs: What its forward takes, of the shapes that are exported.
        path: The file.
        dynamic_batch: Whether the file takes any number of samples, axis 0 of all inputs and outputs. It is run at
            another number then, if onnxruntime is there, and compared with PyTorch.
        input_names: In order; by default ``input``, or ``input_0``, ``input_1``, ...

    Returns:
        Path: The file, which has passed ONNX's checks.

    Raises:
        ConfigError: The package onnx is missing, names do not fit the inputs, or the inputs have no batch in common.
        DataError: The network returns no tensor.
        ArtefactError: PyTorch cannot export the network, the file fails the checks, or it computes something else at
            another batch size.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigError('export needs the package onnx: pip install onnx') from error
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    given = list(tensors_in(inputs))
    names = _numbered('input', len(given)) if input_names is None else list(input_names)
    if len(set(names)) < len(names) or len(names) != len(given):
        raise ConfigError(f'input_names={names}: {len(given)} different names are needed, one for each input.')
    if dynamic_batch and len({len(each) if each.dim() else None for each in given} - {None}) != 1:
        raise ConfigError(f'the inputs have the shapes {[tuple(each.shape) for each in given]}, with no batch in '
                          'common as axis 0. Export them with dynamic_batch=False.')
    with (atomic_path(path) as file, evaluating(model), torch.no_grad(), plain_attention(),
          warnings.catch_warnings()):
        warnings.simplefilter('ignore')  # that this exporter is old, and that shapes become constants
        outputs = _tensors(model(*inputs))
        ends = _numbered('output', len(outputs))
        axes = {name: {0: 'batch'} for name, each in zip(names + ends, given + outputs, strict=True) if each.dim()}
        try:
            torch.onnx.export(_Flat(model), inputs, str(file), opset_version=OPSET, dynamo=False, input_names=names,
                              output_names=ends, dynamic_axes=axes if dynamic_batch else None)
            _keep_inputs(file, dict(zip(names, given, strict=True)))
            onnx.checker.check_model(str(file))
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, onnx.checker.ValidationError) as error:
            raise ArtefactError(f'{type(model).__name__} cannot be exported to ONNX: {error}') from error
        if dynamic_batch:
            _check_batch(file, model, inputs, names)
    return Path(path)


def _keep_inputs(file: Path, inputs: Mapping[str, Tensor]) -> None:
    """Put back inputs that the exporter has left out since no output depends on them, as of a constant network."""
    import onnx

    made = onnx.load(str(file))
    known = {each.name: each for each in made.graph.input}
    if list(known) == list(inputs):
        return
    described = [known.get(name) or onnx.helper.make_tensor_value_info(
        name, onnx.helper.np_dtype_to_tensor_dtype(each.cpu().numpy().dtype), each.shape)
        for name, each in inputs.items()]
    del made.graph.input[:]
    made.graph.input.extend(described)
    onnx.save(made, str(file))


class _Flat(nn.Module):
    """A network that returns its tensors as a tuple, whatever they come in; with its parameters' own names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._parameters, self._buffers, self._modules = model._parameters, model._buffers, model._modules
        self.training = False
        object.__setattr__(self, 'model', model)

    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        return tuple(_tensors(self.model(*inputs)))


def _check_batch(file: Path, model: nn.Module, inputs: tuple[Any, ...], names: Sequence[str]) -> None:
    """Run a file at one sample more than it was made with."""
    larger = tuple(torch.cat([each, each[:1]]) if isinstance(each, Tensor) and each.dim() else each for each in inputs)
    try:
        runtime = import_module('onnxruntime')
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        feed = {name: each.cpu().numpy() for name, each in zip(names, tensors_in(larger), strict=True)}
        session = runtime.InferenceSession(str(file), options, ['CPUExecutionProvider'])
    # It is missing, or has no kernels for such numbers; its errors have no base of their own.
    except Exception as error:
        logger.warning('The file was not run at another batch size (%s).', error)
        return
    taken = {each.name for each in session.get_inputs()}
    try:
        found = session.run(None, {name: each for name, each in feed.items() if name in taken})
        check_outputs(found, model, larger, 'the file at another batch size')
    except Exception as error:
        raise ArtefactError(f'{type(model).__name__} cannot be exported for batches of any size: {error} If its code '
                            'fixes the size, export it with dynamic_batch=False.') from error


def check_outputs(found: Sequence[np.ndarray], model: nn.Module, inputs: tuple[Any, ...], where: str) -> None:
    """Compare what an engine computed with what PyTorch computes.

    Args:
        found: The engine's outputs.
        model: The network.
        inputs: Arguments of both.
        where: The engine's name, for the message.

    Raises:
        ArtefactError: They differ by more than a thousandth of the largest output, or, where the network computes in
            half precision, by more than 16 of its roundings.
    """
    with evaluating(model), torch.no_grad():
        expected = output_arrays(model(*inputs))
    if [each.shape for each in found] != [each.shape for each in expected]:
        raise ArtefactError(f'{where} returns outputs of shapes {[each.shape for each in found]}, PyTorch of '
                            f'{[each.shape for each in expected]}.')
    precisions = [torch.finfo(each.dtype).eps for each in model.parameters() if each.is_floating_point()]
    tolerance = max([TOLERANCE, *(_ROUNDINGS * eps for eps in precisions)])
    for one, other in zip(found, expected, strict=True):
        difference = float(np.abs(one.astype(np.float64) - other).max(initial=0))
        largest = float(np.abs(other).max(initial=0))
        if not difference <= tolerance * largest:
            raise ArtefactError(f'{where} computes something else than PyTorch: outputs differ by {difference:.3g}, '
                                f'the largest is {largest:.3g}.')


def output_arrays(outputs: Any) -> list[np.ndarray]:
    """Every tensor of a network's outputs as an array, in order; bfloat16, which NumPy lacks, as float32.

    Raises:
        DataError: There is none.
    """
    arrays = [tensor.detach().cpu() for tensor in _tensors(outputs)]
    return [(each.float() if each.dtype is torch.bfloat16 else each).numpy() for each in arrays]


def _tensors(outputs: Any) -> list[Tensor]:
    found = list(tensors_in(outputs))
    if not found:
        raise DataError(f'the network returns a {type(outputs).__name__} without tensors in lists, tuples or dicts. '
                        'Wrap it in a module that returns its tensors.')
    return found


def _numbered(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f'{name}_{number}' for number in range(count)]
