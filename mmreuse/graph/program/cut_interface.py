"""Feature spaces in the tensors that cross a cut."""
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from mmreuse.errors import TraceError
from mmreuse.graph.program.emit import GraphModule
from mmreuse.graph.spaces.derive import Axis, FeatureSpace, derive_spaces
from mmreuse.graph.traced_model import TracedModel
from mmreuse.graph.tracing import follow, hold


@dataclass(frozen=True, eq=False)
class CrossingTensor:
    """Positions of the features of spaces in one tensor."""
    dims: tuple[int, ...]  # axes that hold them, ascending; () where the tensor carries none
    extents: tuple[int, ...]  # lengths of these axes
    members: dict[str, Tensor]  # by space: (product of extents,) the member at each place, or -1


class _Probed(nn.Module):
    """Parts of a network one after another, with a module wherever a tensor crosses."""

    def __init__(self, parts: Sequence[GraphModule]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.probes = nn.ModuleList(nn.ModuleList(nn.Identity() for _ in range(part.returned)) for part in parts[:-1])

    def forward(self, *values: Tensor) -> Tensor:
        for part, probes in zip(self.parts, self.probes, strict=False):
            values = tuple(probe(value) for probe, value in zip(probes, part(*values), strict=True))
        return self.parts[-1](*values)


def carried(graph: TracedModel, parts: Sequence[GraphModule]) -> list[tuple[CrossingTensor, ...]]:
    """Return what crosses the cuts of a traced network.

    The parts are traced once more, one after another; that yields the spaces of the graph, and sees the tensors that
    no module of the network gives out.

    Args:
        graph: The traced network.
        parts: What :func:`~mmreuse.graph.program.cut.cut_across` made of it.

    Returns:
        list[tuple[CrossingTensor, ...]]: For each cut, what each of its tensors carries.

    Raises:
        TraceError: The parts do not have the spaces of the network.
    """
    tracer = follow(_Probed(parts), graph.inputs)
    hold(tracer, graph.held, key_of=_name_in_whole)
    derived = derive_spaces(tracer)
    names = _same_spaces(derived.spaces, graph)
    found = {}
    for seen in tracer.seen:
        if seen.side == 'output' and seen.module.startswith('probes.'):
            dims, members = derived.members(seen.ids)
            found[seen.module] = CrossingTensor(tuple(dims), tuple(seen.shape[dim] for dim in dims),
                                         {names[name]: index for name, index in members.items()})
    nothing = CrossingTensor((), (), {})
    return [tuple(found.get(f'probes.{cut}.{number}', nothing) for number in range(part.returned))
            for cut, part in enumerate(parts[:-1])]


def _name_in_whole(key: str) -> str:
    return key.split('.', 2)[2]


def _same_spaces(spaces: dict[str, FeatureSpace], graph: TracedModel) -> dict[str, str]:
    """Name in the graph of each space of its parts: both were found in the same order of execution."""
    pairs = list(zip(spaces.values(), graph.spaces.values(), strict=False))
    if len(spaces) != len(graph.spaces) or not all(_same_axes(first, second) for first, second in pairs):
        raise TraceError(f'{type(graph.model).__name__}, cut in parts, does not show the feature spaces of the whole; '
                         'cut at another module.')
    return {first.name: second.name for first, second in pairs}


def _same_axes(part: FeatureSpace, whole: FeatureSpace) -> bool:
    def places(axes: tuple[Axis, ...]) -> list[tuple]:
        return [(axis.dim, axis.role, axis.index.tolist()) for axis in axes]

    keys = [_name_in_whole(axis.tensor) for axis in part.axes]
    return (part.size == whole.size and keys == [axis.tensor for axis in whole.axes]
            and places(part.axes) == places(whole.axes))
