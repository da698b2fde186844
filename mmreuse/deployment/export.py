"""Networks as ONNX files."""
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.statistics.passes import evaluating
from mmreuse.utils.io import atomic_path

#: Old enough for every engine, new enough for attention and hard swish.
OPSET = 14
#: Outputs may differ by so much of the largest of PyTorch's.
TOLERANCE = 1e-3


def export_onnx(model: nn.Module, inputs: Tensor | tuple[Any, ...], path: str | Path) -> Path:
    """Write a network, in evaluation mode, as ONNX with inputs of fixed shapes.

    Args:
        model: Any network that PyTorch can export; its mode and device are kept.
        inputs: What its forward takes, of the shapes that are exported.
        path: The file.

    Returns:
        Path: The file, which has passed ONNX's checks.

    Raises:
        ConfigError: The package onnx is missing.
        ArtefactError: PyTorch cannot export the network, or the file fails the checks.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigError('export needs the package onnx: pip install onnx') from error
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    with atomic_path(path) as file, evaluating(model), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that this exporter is old, and that shapes become constants
        try:
            torch.onnx.export(model, inputs, str(file), opset_version=OPSET, dynamo=False)
            onnx.checker.check_model(str(file))
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, onnx.checker.ValidationError) as error:
            raise ArtefactError(f'{type(model).__name__} cannot be exported to ONNX: {error}') from error
    return Path(path)


def check_outputs(found: Sequence[np.ndarray], model: nn.Module, inputs: tuple[Any, ...], where: str) -> None:
    """Compare what an engine computed with what PyTorch computes.

    Args:
        found: The engine's outputs.
        model: The network.
        inputs: Arguments of both.
        where: The engine's name, for the message.

    Raises:
        ArtefactError: They differ by more than a thousandth of the largest output.
    """
    with evaluating(model), torch.no_grad():
        outputs = model(*inputs)
    expected = [output.cpu().numpy() for output in (outputs if isinstance(outputs, (tuple, list)) else [outputs])]
    if [each.shape for each in found] != [each.shape for each in expected]:
        raise ArtefactError(f'{where} returns outputs of shapes {[each.shape for each in found]}, PyTorch of '
                            f'{[each.shape for each in expected]}.')
    for one, other in zip(found, expected, strict=True):
        difference, largest = float(np.abs(one - other).max()), float(np.abs(other).max())
        if not difference <= TOLERANCE * largest:
            raise ArtefactError(f'{where} computes something else than PyTorch: outputs differ by {difference:.3g}, '
                                f'the largest is {largest:.3g}.')
