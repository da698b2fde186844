"""Note on a network where it comes from, what was done to it, and what its outputs mean."""
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, DataError
from mmreuse.networks.resize import difference
from mmreuse.utils.files.io import state_hash

#: Attribute of a network that holds its record; it is no parameter, and ``copy.deepcopy`` takes it along.
_ATTRIBUTE = '_mmreuse_record'
#: The same for its modules, see :func:`mmreuse.networks.with_modules`.
MODULES = '_mmreuse_modules'


@dataclass(frozen=True)
class Record:
    """Metadata of a network file; everything in it is JSON.

    Attributes:
        structure: A tree. A leaf is a base, ``dict(base=LIBRARY, name=NAME, options={})``; a node is an edit of one or
            several networks, ``dict(edit=NAME, of=[...], **settings)``. Networks that were edited have ``weights``, the
            hash that their tensors had then.
        inputs: Shape and type of each argument of forward, ``[[1, 3, 224, 224], 'float32']``; empty where unknown.
        classes: Names or ids of the outputs, in their order; one list for each output of a network with several.
        preprocessing: How images become inputs, such as the config of a data preprocessor.
        metrics: Measured values by name.
    """
    structure: Mapping[str, Any]
    inputs: Sequence[Sequence[Any]] = ()
    classes: Sequence[Any] = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class HoldsNetwork(Protocol):
    """A model of a run that is about another network, which is what one keeps of it."""

    def plain_network(self) -> nn.Module:
        """Return that network, with its record."""


def plain_network(model: nn.Module) -> nn.Module:
    """Return the network that a model of a run is about: of most, the model itself."""
    return model.plain_network() if isinstance(model, HoldsNetwork) else model


def record_of(network: nn.Module) -> Record:
    """Return what is known of a network: its record, or what its library says of it.

    Args:
        network: Any. If nothing is known of it, the base of the structure is None and its name that of the class.
    """
    known = vars(network).get(_ATTRIBUTE)
    if known is not None:
        return known
    from mmreuse.networks.bases import recognise
    base = recognise(network) or dict(base=None, name=f'{type(network).__module__}:{type(network).__qualname__}')
    inputs = base.pop('inputs', ())
    return Record(base, inputs)


def structure_of(network: nn.Module) -> dict[str, Any]:
    """Return the tree of bases and edits that leads to a network."""
    return dict(record_of(network).structure)


def lineage(structure: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Go from the last edit of a network to the first, along what was changed."""
    while 'edit' in structure:
        yield structure
        structure = structure['of'][0]


def set_record(network: nn.Module, record: Record) -> nn.Module:
    """Put a record on a network and return the network."""
    vars(network)[_ATTRIBUTE] = record
    return network


def record_edit(network: nn.Module, edit: str, sources: Sequence[nn.Module], *,
                inputs: Tensor | Sequence[Any] | None = None, **settings: Any) -> nn.Module:
    """Note on a network that it was made of others.

    Args:
        network: The result.
        edit: Name of an :class:`~mmreuse.networks.edits.Edit`.
        sources: What it was made of, or the network itself where it was changed in place; the first one lends
            preprocessing, and inputs if none are given.
        inputs: Arguments of the network's forward.
        **settings: What the edit needs to rebuild the structure, and what a reader wants to know. JSON values.

    Returns:
        nn.Module: The network; modules that it had are of what it was, and gone.
    """
    records = [record_of(source) for source in sources]
    origins = [dict(record.structure) if source is network else dict(record.structure, weights=_hash(source))
               for source, record in zip(sources, records, strict=True)]
    structure = dict(edit=edit, of=origins, **settings)
    known = shapes_of(inputs) if inputs is not None else records[0].inputs
    vars(network).pop(MODULES, None)
    return set_record(network, replace(records[0], structure=structure, inputs=known, metrics={}))


def record_change(network: nn.Module, edit: str, source: nn.Module, *, inputs: Tensor | Sequence[Any] | None = None,
                  **settings: Any) -> nn.Module:
    """Note on a network that it is another one with other sizes, see :func:`record_edit`.

    What cannot be said in plain values does not stop the job that made the network, but it cannot be saved then.
    """
    try:
        sizes = dict(sizes=difference(source, network))
    except ArtefactError as error:
        sizes = dict(problem=str(error))
    return record_edit(network, edit, [source], inputs=inputs, **settings, **sizes)


def _hash(network: nn.Module) -> str | None:
    """Hash of a network's tensors; None where its state holds something else."""
    try:
        return state_hash(network)
    except DataError:
        return None


def zeros_of(shapes: Sequence[Sequence[Any]], network: nn.Module) -> tuple[Tensor, ...]:
    """Return zeros of the shapes that :func:`shapes_of` has noted, numbers in the precision of a network."""
    floating = next((tensor.dtype for tensor in network.parameters() if tensor.is_floating_point()), torch.float32)
    kinds = [getattr(torch, kind) for _, kind in shapes]
    return tuple(torch.zeros(shape, dtype=floating if kind.is_floating_point else kind)
                 for (shape, _), kind in zip(shapes, kinds, strict=True))


def shapes_of(inputs: Tensor | Sequence[Any]) -> list[list[Any]]:
    """Return shape and type of arguments; empty if one of them is no tensor."""
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not all(isinstance(value, Tensor) for value in inputs):
        return []
    return [[[1, *value.shape[1:]], str(value.dtype).removeprefix('torch.')] for value in inputs]
