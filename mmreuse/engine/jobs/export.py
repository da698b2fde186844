"""Write a network for processes that do not have mmreuse."""
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mmreuse.deployment.export_network import FORMATS
from mmreuse.deployment.export_network import export as export_network
from mmreuse.engine.jobs.job import example
from mmreuse.errors import ConfigError
from mmreuse.registry import JOBS


def _check(options: Mapping[str, Any]) -> None:
    for file in options.get('files', ('network.onnx',)):
        if Path(file).suffix not in FORMATS:
            raise ConfigError(f"files: '{file}' ends in none of {', '.join(FORMATS)}, the formats that can be written.")


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
