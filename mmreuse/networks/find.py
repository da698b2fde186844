"""Find networks by name: files below a folder, and what libraries build."""
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from torch import nn

from mmreuse.networks.bases import create
from mmreuse.networks.network_file import is_network_file
from mmreuse.networks.references import Reference, open_network
from mmreuse.registry import BASES
from mmreuse.utils.files.io import PathLike


def list_models(pattern: str = '*', folder: PathLike | None = None) -> list[str]:
    """Name the networks that :func:`get_model` gives.

    ::

        list_models('timm:resnet1*')                 # of a library
        list_models(folder='work_dirs')              # network files

    Args:
        pattern: Of names, with wildcards; behind a library's name and a colon only that library is asked.
        folder: Where to look for network files, also in folders below it; None for networks of libraries.

    Returns:
        list[str]: Ascending.
    """
    if folder is not None:
        files = (str(path) for path in sorted(Path(folder).rglob('*.safetensors')) if is_network_file(path))
        return [file for file in files if fnmatch(file, pattern)]
    return sorted(name for name in _names(pattern.partition(':')[0]) if fnmatch(name, pattern))


def _names(wanted: str) -> Iterator[str]:
    for library in [wanted] if wanted in BASES.module_dict else list(BASES.module_dict):
        yield from (f'{library}:{name}' for name in BASES.module_dict[library]().names())


def get_model(name: Reference, **options: Any) -> nn.Module:
    """Return a network by name.

    ::

        get_model('work_dirs/merged/network.safetensors')          # with its weights
        get_model('timm:resnet18', num_classes=10)                 # with random ones

    Args:
        name: A reference of :func:`~mmreuse.networks.open_network`, or what :func:`~mmreuse.networks.create` takes.
        **options: Of the latter.

    Returns:
        nn.Module: In evaluation mode.

    Raises:
        ArtefactError: There is no such network, or its file is damaged.
        ConfigError: The name is of neither kind.
    """
    named = isinstance(name, str) and ':' in name and not Path(name).exists()
    return create(name, **options).eval() if named else open_network(name)
