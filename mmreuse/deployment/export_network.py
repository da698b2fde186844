"""Hand networks over to processes without mmreuse."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmreuse.deployment.export import export_onnx
from mmreuse.deployment.program import export_program
from mmreuse.errors import ConfigError
from mmreuse.networks import load, record_of
from mmreuse.networks.record import zeros_of

#: How each format is written, by the ending of its files.
FORMATS = {'.onnx': export_onnx, '.pt2': export_program}


def export(network: nn.Module | str | Path, path: str | Path, inputs: Tensor | Sequence[Any] | None = None,
           **options: Any) -> Path:
    """Write a network for processes that do not have mmreuse.

    ::

        export(small, 'small.onnx')             # for ONNX Runtime, OpenVINO, ...
        export('small.safetensors', 'small.pt2')  # torch.export.load('small.pt2').module()(images)

    Args:
        network: A network, or its file.
        path: Ending in ``.onnx`` or ``.pt2``. The file is compared with the network before it gets its name.
        inputs: What the network's forward takes; None where a job of mmreuse, or its library, has noted that.
        **options: Of :func:`mmreuse.deployment.export_onnx` or :func:`mmreuse.deployment.program.export_program`.

    Returns:
        Path: The file.

    Raises:
        ConfigError: The ending is another, or it is not known what the network takes.
        ArtefactError: The network's file is damaged, or PyTorch cannot export the network.
    """
    write = FORMATS.get(Path(path).suffix)
    if write is None:
        raise ConfigError(f'{path}: ends in none of {", ".join(FORMATS)}, the formats that can be written. '
                          'Name it so.')
    if not isinstance(network, nn.Module):
        network = load(network)
    if inputs is None:
        inputs = zeros_of(record_of(network).inputs, network)
        if not inputs:
            raise ConfigError(f'{path}: it is not known what {type(network).__name__} takes. Give `inputs`, such as '
                              'torch.zeros(1, 3, 224, 224).')
    return write(network, inputs if isinstance(inputs, Tensor) else tuple(inputs), path, **options)
