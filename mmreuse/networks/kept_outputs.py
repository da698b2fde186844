"""Which outputs of the layers of an earlier network a changed one still has, as its record says."""
from collections.abc import Mapping
from typing import Any

from torch import nn

from mmreuse.errors import ArtefactError
from mmreuse.networks.edits import find_edit
from mmreuse.networks.record import lineage, structure_of
from mmreuse.utils.files.io import state_hash

#: Of tensors whose first axis is the outputs of a layer: what stands behind the layer's name for them.
_ENDINGS = {'weight': '', 'in_proj_weight': '.in_proj'}


def layer_of(tensor: str) -> str | None:
    """Return the layer whose outputs the first axis of a tensor is, by the tensor's name; None where it is no such.

    Queries, keys and values of ``nn.MultiheadAttention`` are outputs of a layer ``in_proj``.
    """
    path, _, name = tensor.rpartition('.')
    return path + _ENDINGS[name] if name in _ENDINGS else None


def kept_outputs(network: nn.Module, source: nn.Module) -> dict[str, list[int]] | None:
    """Return which outputs of an earlier network's layers a network has, in their order.

    Edits that take channels away note ``outputs``, by layer; those of several edits compose.

    Args:
        network: Changed by jobs, in this process or another.
        source: What it was at some time, with the weights of then.

    Returns:
        dict: Numbers of the source's outputs, by layer that has lost some. A layer that has lost some without a note
        (its file is of an earlier version, say) is not in it. None: the record does not lead to the source.

    Raises:
        ArtefactError: The record is damaged.
    """
    path, wanted = [], state_hash(source)
    for node in lineage(structure_of(network)):
        if not find_edit(node['edit']).keeps_layers:
            return None
        path.append(node)
        if node['of'][0].get('weights') == wanted:
            try:
                found = _composed(path)
                _check(found, network, source)
            except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
                raise ArtefactError(f'{type(network).__name__}: what its record says of kept channels is damaged '
                                    f'({type(error).__name__}: {error}). Make the network again.') from error
            return found
    return None


def _composed(path: list[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Follow outputs through edits, of which the last comes first."""
    found, lost = {}, set()
    for node in reversed(path):
        if 'outputs' not in node:
            lost |= _resized(node.get('sizes') or {})
        for layer, own in node.get('outputs', {}).items():
            before = found.get(layer)
            found[layer] = list(own) if before is None else [before[number] for number in own]
    return {layer: own for layer, own in found.items() if layer not in lost}


def _resized(sizes: Mapping[str, Any]) -> set[str | None]:
    """Name the layers that have other weights, of whose outputs one does not know what became of them."""
    return {*map(layer_of, sizes.get('shapes', {})), *sizes.get('layers', {})}


def _check(outputs: Mapping[str, list[int]], network: nn.Module, source: nn.Module) -> None:
    """Raise :class:`ValueError` unless the layers of a network have outputs of its source."""
    widths, own = ({layer_of(name): len(tensor) for name, tensor in each.named_parameters(remove_duplicate=False)
                    if tensor.dim()} for each in (source, network))
    for layer, kept in outputs.items():
        if not all(type(number) is int and 0 <= number < widths[layer] for number in kept):
            raise ValueError(f"'{layer}' has no such outputs as {kept[:3]}")
        if own.get(layer, len(kept)) != len(kept):
            raise ValueError(f"'{layer}' has {own[layer]} outputs, not {len(kept)}")
