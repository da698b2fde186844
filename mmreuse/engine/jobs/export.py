"""Write networks for processes that do not have mmreuse, in float32 and in integers of 8 bits."""
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mmreuse.deployment import quantize as quantize_network
from mmreuse.deployment.export_network import FORMATS
from mmreuse.deployment.export_network import export as export_network
from mmreuse.deployment.quantization import check_engines
from mmreuse.engine.jobs.job import example
from mmreuse.errors import ConfigError
from mmreuse.registry import JOBS


def _check(options: Mapping[str, Any]) -> None:
    for file in options.get('files', ('network.onnx',)):
        if Path(file).suffix not in FORMATS:
            raise ConfigError(f"files: '{file}' ends in none of {', '.join(FORMATS)}, the formats that can be written. "
                              'Name it so.')


@JOBS.register_module(needs=('images', 'folder'), check=_check,
                      equal_cost='it computes what the network before computes')
def export(networks: Sequence[nn.Module], *, images: Iterable, folder: Path,
           files: Sequence[str] = ('network.onnx',)) -> nn.Module:
    """Write files of a network, each compared with it, and hand the network on.

    Args:
        networks: The network.
        images: Say what it takes.
        folder: Where they go.
        files: Names that end in ``.onnx`` or ``.pt2``.
    """
    for file in files:
        export_network(networks[0], Path(folder, file), example(networks, images))
    return networks[0]


_INT8_ENGINES = ('onnxruntime', 'openvino')


def _check_int8(options: Mapping[str, Any]) -> None:
    if Path(options.get('file', 'network_int8.onnx')).suffix != '.onnx':
        raise ConfigError(f"file = '{options['file']}' does not end in .onnx, the format of int8 networks.")
    check_engines(options.get('engines', _INT8_ENGINES))


@JOBS.register_module(needs=('images', 'folder'), check=_check_int8, equal_cost='nothing is chosen')
def quantize(networks: Sequence[nn.Module], *, images: Iterable, folder: Path, file: str = 'network_int8.onnx',
             samples: int | None = None, correct: bool = True,
             engines: Sequence[str] = _INT8_ENGINES, slower: bool = False) -> nn.Module:
    """Write an int8 file of a network, see :func:`mmreuse.deployment.quantize`.

    Args:
        networks: The network.
        images: To calibrate on.
        folder: Where the file goes.
        file: Its name, which ends in ``.onnx``.
        samples: How many images; None for all.
        correct: Solve for biases.
        engines: On which it is compared with float32.
        slower: Write it even if nothing is gained.

    Returns:
        nn.Module: The network with rounded weights and corrected biases, in float32.
    """
    rounded, result = quantize_network(networks[0], Path(folder, file), images, samples=samples, correct=correct,
                                       engines=engines, slower=slower)
    print(result)
    return rounded
