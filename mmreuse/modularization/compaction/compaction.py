"""From a network with zeros to a smaller one that computes the same."""
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import SpaceError
from mmreuse.graph import (
    FeatureSpace,
    Select,
    TracedModel,
    as_double,
    copy_model,
    random_like,
    repaired,
    run_in_double,
    transform,
)
from mmreuse.modularization.compaction.constant_layers import is_constant, replace_layers
from mmreuse.modularization.compaction.constants import as_double_network, fold_constants
from mmreuse.networks import Edit, record_change
from mmreuse.registry import EDITS


@EDITS.register_module(name='compact')
class CompactEdit(Edit):
    """Removal of what zeros left without effect."""
    verb = 'compacted'


#: Largest difference between a network and what it was compacted to, relative to the largest output.
TOLERANCE = 1e-5


def compact(model: nn.Module, inputs: Tensor | tuple[Any, ...]) -> nn.Module:
    """Remove what weights that are zero have left without effect.

    1. What does not depend on the input goes into biases, see
       :func:`~mmreuse.modularization.compaction.constants.fold_constants`.
    2. Channels, neurons and heads that nothing reads any more are dead, and so is, step by step, what only they read.
    3. The dead are removed. A feature space loses a member only as a whole: in a residual stream, where no branch
       reads it; of attention, heads, where the code reads their number off its layers.
    4. Layers whose weights are all zero become their biases.

    Nothing is approximated, and that is checked in float64 on every use.

    Args:
        model: A network with plain weights, such as a masked one whose masks were multiplied in. Left as it is.
        inputs: What it runs on, e.g. images (B, 3, 224, 224): their shape counts, and the result is checked on them
            and on random values.

    Returns:
        nn.Module: An ordinary network with the same module names, which :func:`mmreuse.networks.save` keeps.

    Raises:
        TraceError: The network cannot be traced.
        SpaceError: The result differs by more than 1e-5 of the largest output.
    """
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    folded = fold_constants(model, inputs)
    graph = repaired(folded, inputs)
    free = shrinkable(graph, [name for name, dead in find_dead(graph, graph.spaces).items() if dead.any()])
    small = remove(graph, find_dead(graph, free))
    replace_layers(small, [name for name, layer in small.named_modules() if is_constant(layer)])
    for values in (inputs, random_like(inputs)):
        error = difference(model, small, values)
        if not error <= TOLERANCE:
            raise SpaceError(f'{type(model).__name__}: the compacted network differs from the original by {error:.1e} '
                             f'of the largest output, more than {TOLERANCE:.0e} ({", ".join(free)} lost members). '
                             'Please report the architecture; keep the masked network until then.')
    return record_change(small, 'compact', model, inputs=inputs)


def find_dead(graph: TracedModel, names: Iterable[str]) -> dict[str, Tensor]:
    """Return the members of feature spaces that no parameter reads, or only such parameters as write the dead.

    Args:
        graph: The traced network.
        names: Of the spaces that may lose members. Members of blocks go with their block only.

    Returns:
        dict[str, Tensor]: (size,) of bool, by space.
    """
    alive = {key: tensor.detach().cpu() != 0 for key, tensor in graph.model.state_dict(keep_vars=True).items()}
    spaces = [graph.spaces[name] for name in names if graph.spaces[name].blocks is None]
    inner = {space.name: [each for each in graph.spaces.values() if each.block_space == space.name]
             for space in spaces}
    spaces = [space for space in spaces if any(each.readers() for each in (space, *inner[space.name]))]
    dead = {space.name: torch.zeros(space.size, dtype=torch.bool) for space in spaces}
    changed = True
    while changed:
        changed = False
        for space in reversed(spaces):
            read = _read(space, alive)
            for each in inner[space.name]:
                if each.readers():
                    read[each.blocks[_read(each, alive)]] = True
            if bool((~read & ~dead[space.name]).any()):
                changed, dead[space.name] = True, ~read
                _silence(space, ~read, alive)
                for each in inner[space.name]:
                    _silence(each, ~read[each.blocks], alive)
    return dead


def _read(space: FeatureSpace, alive: dict[str, Tensor]) -> Tensor:
    """Return the members that a weight other than zero reads, (size,)."""
    read = torch.zeros(space.size + 1, dtype=torch.bool)
    for axis in space.axes:
        if axis.role == 'read':
            found = alive[axis.tensor]
            read[axis.members(found.shape).expand(found.shape)[found]] = True
    return read[:-1]  # the last stands for places of other spaces, -1


def _silence(space: FeatureSpace, dead: Tensor, alive: dict[str, Tensor]) -> None:
    """Note as zero what writes some members."""
    dead = torch.cat([dead, torch.zeros(1, dtype=torch.bool)])
    for axis in space.axes:
        if axis.role == 'write':
            alive[axis.tensor] = alive[axis.tensor] & ~dead[axis.members(alive[axis.tensor].shape)]


def shrinkable(graph: TracedModel, names: Iterable[str]) -> list[str]:
    """Return those of some feature spaces that can lose members nobody reads, found by trying.

    Others do not: code that fixes a width, norms that divide by a mean over channels.
    """
    def works(some: list[str]) -> bool:
        try:
            small = remove(graph, find_dead(graph, some))
        except SpaceError:
            return False
        return difference(graph.model, small, random_like(graph.inputs)) <= TOLERANCE / 1e4

    def search(some: list[str]) -> list[str]:
        if not some or works(some):
            return some
        half = len(some) // 2
        return search(some[:half]) + search(some[half:]) if half else []

    return search(list(names))


def remove(graph: TracedModel, dead: dict[str, Tensor]) -> nn.Module:
    """Take dead members out; of a space in which all are, one stays, and nothing is written to it.

    Args:
        graph: The traced network.
        dead: (size,) of bool, by space.

    Returns:
        nn.Module: Smaller.

    Raises:
        SpaceError: The network's code fixes a width.
    """
    silent = copy_model(graph.model)
    state = silent.state_dict()
    alive = {key: torch.ones(tensor.shape, dtype=torch.bool) for key, tensor in state.items()}
    for name, members in dead.items():
        _silence(graph.spaces[name], members, alive)
    for key, kept in alive.items():
        if not kept.all():
            state[key].mul_(kept.to(state[key].device))
    maps = {}
    for name, members in dead.items():
        kept = (~members).nonzero().flatten()
        if len(kept) < len(members):
            maps[name] = Select(kept if len(kept) else torch.zeros(1, dtype=torch.long))
    return transform(replace(graph, model=silent), maps)


def difference(first: nn.Module, second: nn.Module, inputs: tuple[Any, ...]) -> float:
    """Return the largest difference of two networks' outputs in float64, relative to the first one's largest output."""
    values = as_double(tuple(each.cpu() if isinstance(each, Tensor) else each for each in inputs))
    one, two = (run_in_double(as_double_network(model), values) for model in (first, second))
    error, scale = float((one - two).abs().max()), float(one.abs().max())
    return error / scale if error else 0.
