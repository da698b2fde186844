"""The span of a network that is merged, with what crosses its ends."""
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import SpaceError
from mmreuse.graph import Axis, CrossingTensor, TracedModel, carried, cut_across
from mmreuse.merging.matching.coupled_spaces import shared_spaces
from mmreuse.merging.partial.stops import last_place_before, one_sample


@dataclass(frozen=True, eq=False)
class MergeSpan:
    """A network in front of, inside and behind the span that is merged; its parts share the model's modules."""
    front: nn.Module | None  # None: the span begins with the input
    trunk: nn.Module
    tail: nn.Module | None  # None: it ends with the output
    entering: tuple[CrossingTensor, ...]  # by tensor that crosses from front to trunk
    leaving: tuple[CrossingTensor, ...]  # by tensor that crosses from trunk to tail
    spaces: list[str]  # that need a matching, in the order of the graph


def merge_spans(graphs: Sequence[TracedModel], start: str | None = None, stop: str | None = None) -> list[MergeSpan]:
    """Cut networks around the span that is merged.

    Args:
        graphs: The traced networks.
        start: Module behind which the span begins; None or '' for the input.
        stop: Module behind which it ends; '' for the input (nothing is merged), None for the output.

    Raises:
        SpaceError: A name is unknown, nothing lies between the two, nothing behind ``stop``, or the spans are not
            of one structure.
        TraceError: A network cannot be recorded.
    """
    first = _stretch_of(graphs[0], start, stop)
    spans = [first]
    for graph in graphs[1:]:
        known = first if _same_places(graph, graphs[0]) else None
        spans.append(_stretch_of(graph, start, stop, known))
    _check_alike(graphs, spans)
    return spans


def _stretch_of(graph: TracedModel, start: str | None, stop: str | None, known: MergeSpan | None = None) -> MergeSpan:
    """Cut one network; where features stand in what crosses is taken from a network with the same spaces."""
    if not start and stop is None:
        return MergeSpan(None, graph.model, None, (), (), list(graph.spaces))
    parts = cut_span(graph.model, one_sample(graph), start, stop)
    front, trunk, tail = parts
    if known is not None:
        return replace(known, front=front, trunk=trunk, tail=tail)
    crossing = carried(graph, [part for part in parts if part is not None])
    entering = crossing[0] if front is not None else ()
    leaving = crossing[-1] if tail is not None else ()
    return MergeSpan(front, trunk, tail, entering, leaving, _spaces_of(graph, trunk, entering))


def cut_span(model: nn.Module, inputs: tuple[Any, ...], start: str | None,
                stop: str | None) -> tuple[nn.Module | None, nn.Module, nn.Module | None]:
    """Part a model into what is in front of, inside and behind a span; all of it where there are no ends."""
    at = [name for name in (start or None, stop) if name is not None]
    parts: list[nn.Module | None] = list(cut_across(model, at, inputs)) if at else [model]
    parts = parts if start else [None, *parts]
    return tuple(parts if stop is not None else [*parts, None])


def spaces_between(graph: TracedModel, start: str | None = None, stop: str | None = None) -> list[str]:
    """Return the names of the spaces that need a matching if the network is merged from ``start`` to ``stop``.

    These are the spaces that layers of the span write, read or accompany, those that cross ``start``, and those
    whose members are their blocks.
    """
    return _stretch_of(graph, start, stop).spaces


def _same_places(first: TracedModel, second: TracedModel) -> bool:
    """Return whether members of the same spaces stand at the same places of the same tensors."""
    def places(graph: TracedModel) -> list[tuple]:
        return [(name, axis.tensor, axis.dim, axis.role, axis.index.tolist())
                for name, space in graph.spaces.items() for axis in space.axes]

    return places(first) == places(second)


def _spaces_of(graph: TracedModel, trunk: nn.Module, entering: Sequence[CrossingTensor]) -> list[str]:
    state = tensors_of(graph.model, remove_duplicate=False)
    held = {id(tensor) for tensor in tensors_of(trunk).values()}
    found = {name for item in entering for name in item.members}
    found |= {name for name, space in graph.spaces.items()
              if any(id(state[axis.tensor]) in held for axis in space.axes)}
    for name in list(found):
        while (name := graph.spaces[name].block_space) is not None:
            found.add(name)
    return [name for name in graph.spaces if name in found]


def tensors_of(module: nn.Module, remove_duplicate: bool = True) -> dict[str, Tensor]:
    """Return parameters and buffers by name, those that a state dict leaves out included."""
    return {**dict(module.named_buffers(remove_duplicate=remove_duplicate)),
            **dict(module.named_parameters(remove_duplicate=remove_duplicate))}


def _check_alike(graphs: Sequence[TracedModel], spans: Sequence[MergeSpan]) -> None:
    """Raise :class:`SpaceError` unless the spans are of one structure, up to the sizes of their spaces."""
    first = spans[0]
    shared_spaces(graphs, first.spaces)
    axes: dict[str, list[Axis]] = defaultdict(list)
    for name in first.spaces:
        for axis in graphs[0].spaces[name].axes:
            axes[axis.tensor].append(axis)
    expected = tensors_of(first.trunk)
    constants = expected.keys() - tensors_of(graphs[0].model, remove_duplicate=False).keys()
    for number, other in enumerate(spans[1:], 1):
        given = tensors_of(other.trunk)
        alone = sorted(expected.keys() ^ given.keys())
        if alone:
            raise SpaceError(f"only one of the models 0 and {number} has '{alone[0]}' in what is merged. Merge models "
                             'of one architecture, or up to a `stop` before they differ.')
        for key, tensor in expected.items():
            if not _same_shape(tensor.shape, given[key].shape, axes[key]):
                place = last_place_before(graphs[0], key)
                remedy = f"for example stop='{place}'" if place else "stop='' (nothing is merged)"
                raise SpaceError(f"'{key}' has shape {tuple(tensor.shape)} in model 0 and {tuple(given[key].shape)} in "
                                 f'model {number}, and no feature space makes up for that. Give a `stop` before it, so '
                                 f'that each model keeps its own: {remedy}.')
        for key in constants:
            if not torch.equal(expected[key], given[key].to(expected[key])):
                raise SpaceError(f"model {number} computes with a constant '{key}' that is no parameter and differs "
                                 "from model 0's. Cut outside the module that keeps it.")


def _same_shape(first: torch.Size, second: torch.Size, axes: Sequence[Axis]) -> bool:
    """Compare sizes along the axes that no space moves; a space that lies over several axes may move all of them."""
    if len(first) != len(second) or any(axis.shape is not None for axis in axes):
        return len(first) == len(second)
    free = {axis.dim for axis in axes}
    return all(first[dim] == second[dim] for dim in range(len(first)) if dim not in free)
