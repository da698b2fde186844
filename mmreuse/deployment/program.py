"""Networks as programs of ``torch.export``, which a process with PyTorch alone loads and runs."""
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.deployment.export import check_outputs, output_arrays
from mmreuse.errors import ArtefactError
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.modes import evaluating


def export_program(model: nn.Module, inputs: Tensor | tuple[Any, ...], path: str | Path, *,
                   dynamic_batch: bool = True) -> Path:
    """Write a network, in evaluation mode, as a program: ``torch.export.load(path).module()`` is the network.

    The file is read again and compared with the network before it gets its name.

    Args:
        model: Any network that PyTorch can export; its mode is kept.
        inputs: What its forward takes, of the shapes that are exported.
        path: The file, by custom with the ending ``.pt2``.
        dynamic_batch: Whether the program takes any number of samples, axis 0 of all inputs.

    Returns:
        Path: The file.

    Raises:
        ArtefactError: PyTorch cannot export the network, or the program computes something else.
    """
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    # torch.export takes a batch of one for a size that never changes.
    pair = tuple(torch.cat([each, each])[:max(2, len(each))] if isinstance(each, Tensor) else each for each in inputs)
    shapes, batch = torch.export.ShapesCollection(), torch.export.Dim('batch', min=1)
    for each in pair:
        if isinstance(each, Tensor) and dynamic_batch:
            shapes[each] = {0: batch}
    with atomic_path(path) as file, evaluating(model), torch.no_grad():
        logging.getLogger('torch.export').setLevel(logging.ERROR)
        try:
            program = torch.export.export(model, pair, dynamic_shapes=shapes) if dynamic_batch else \
                torch.export.export(model, inputs)
            with open(file, 'wb') as stream:
                torch.export.save(program, stream)
        except Exception as error:  # its errors have no base of their own
            cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ArtefactError(f'{type(model).__name__} cannot be exported as a program: {cause} If its code fixes '
                                'the number of samples, export it with dynamic_batch=False.') from error
        with open(file, 'rb') as stream:
            again = torch.export.load(stream).module()
        check_outputs(output_arrays(again(*inputs)), model, inputs, 'the program')
    return Path(path)
