"""Tell the history of a network."""
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mmreuse.errors import ArtefactError
from mmreuse.networks.edits import find_edit
from mmreuse.networks.network_file import read, record_in
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
    return _lines(record_of(network), sum(parameter.numel() for parameter in network.parameters()))


def _of_file(path: PathLike) -> list[str]:
    tensors, about = read(path)
    numbers = sum(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point())
    delta = about.get('delta', {})
    numbers += sum(map(math.prod, delta.get('masks', {}).values()))
    lines = [f'{Path(path).name} ({Path(path).stat().st_size / 1e6:.2f} MB)', *_lines(record_in(about), numbers)]
    return [*lines, f"only what differs from the network with the hash {delta['base']}"] if delta else lines


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
