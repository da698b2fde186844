"""Tell the history of a network."""
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mmreuse.errors import ArtefactError
from mmreuse.networks.content.modules import Packed, find_module, kept_modules, split_name
from mmreuse.networks.content.tensors import record_in
from mmreuse.networks.edits import find_edit
from mmreuse.networks.network_file import read_all
from mmreuse.networks.record import Record, record_of
from mmreuse.utils.files.io import PathLike


def describe(network: nn.Module | PathLike) -> str:
    """Tell where a network comes from, what was done to it, and what its outputs mean.

    Args:
        network: A network, or its file, of which nothing is built.

    Returns:
        str: A sentence for the history and a line for each other thing that is known.

    Raises:
        ArtefactError: The file is missing, damaged or no network.
    """
    try:
        return '\n'.join(_of_network(network) if isinstance(network, nn.Module) else _of_file(network))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        name = type(network).__name__ if isinstance(network, nn.Module) else network
        raise ArtefactError(f'{name}: its record is damaged ({type(error).__name__}: {error}). Save the network again.'
                            ) from error


def _of_network(network: nn.Module) -> list[str]:
    numbers = sum(parameter.numel() for parameter in network.parameters())
    return [*_lines(record_of(network), numbers), *_modules(kept_modules(network), 'modules_of(network)')]


def _of_file(path: PathLike) -> list[str]:
    file, name = split_name(path)
    tensors, about, modules = read_all(file)
    size = f'{file.stat().st_size / 1e6:.2f} MB'
    if name is not None:
        module = find_module(modules, name, file)
        return [f'{Path(path).name} ({module.bytes / 1e6:.2f} of {size})', *_of_module(module)]
    numbers = sum(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point())
    delta = about.get('delta', {})
    numbers += sum(map(math.prod, delta.get('masks', {}).values()))
    lines = [f'{file.name} ({size})', *_lines(record_in(about), numbers), *_modules(modules, f'{file.name}#NAME')]
    return [*lines, f"only what differs from the network with the hash {delta['base']}"] if delta else lines


def _modules(modules: Mapping[str, Packed], opened: str) -> list[str]:
    """List modules, each in the words that are told of it alone."""
    if not modules:
        return []
    return ['', f'{len(modules)} modules, opened by {opened}:', *(
        f'  {name} ({each.bytes / 1e6:.2f} MB): ' + '; '.join(
            line for line in _of_module(each)[1:] if not line.startswith('inputs ')) for name, each in modules.items())]


def _of_module(module: Packed) -> list[str]:
    about = module.about
    macs = [] if about['macs'] is None else [f"{about['macs'] / 1e6:.2f} M MACs"]
    first, size, *others = _lines(record_in(about), about['parameters'])
    return [first, size, *macs, *others]


def _lines(record: Record, parameters: int) -> list[str]:
    return [history(record.structure), f'{parameters / 1e6:.3f} M parameters', *_meaning(record)]


def _meaning(record: Record) -> list[str]:
    lines = []
    if record.inputs:
        lines.append('inputs ' + ', '.join(' x '.join(map(str, shape)) for shape, _ in record.inputs))
    if record.classes:
        lines.append('classes ' + ', '.join(map(str, record.classes)))
    if record.metrics:
        lines.append(', '.join(f'{key} {value:.4g}' if isinstance(value, int | float) else f'{key} {value}'
                               for key, value in record.metrics.items()))
    return lines


def history(structure: Mapping[str, Any]) -> str:
    """Tell a tree of bases and edits in one sentence."""
    if 'base' in structure:
        library = structure['base']
        return f"{structure['name']} of {library}" if library else f"{structure['name']} (own code)"
    phrase = find_edit(structure['edit']).phrase(structure)
    first, *others = [history(each) for each in structure['of']]
    return f'{first}, {phrase}' if not others else f"({first}) with ({'), ('.join(others)}), {phrase}"
