"""Whole blocks that a network can do without."""
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import InfeasibleError
from mmreuse.graph import TracedModel, copy_model
from mmreuse.utils.hooks import forward_hooks
from mmreuse.utils.modes import evaluating


@torch.no_grad()
def removable_blocks(network: nn.Module, inputs: tuple) -> list[str]:
    """Return the names of blocks that hand on what they get, changed: an identity can stand in their place.

    They have siblings of their own type, layers inside, and are called once, with one tensor, for one of its shape.

    Args:
        network: To be run.
        inputs: What it runs on.
    """
    candidates = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Sequential | nn.ModuleList):
            kinds = Counter(type(child) for child in module.children())
            candidates |= {child: f'{name}.{own}'.lstrip('.') for own, child in module.named_children()
                           if kinds[type(child)] > 1 and any(True for _ in child.children())}
    calls, fitting = Counter(), set()

    def note(module: nn.Module, args: tuple, output: Any) -> None:
        calls[module] += 1
        if len(args) == 1 and all(isinstance(each, Tensor) for each in (*args, output)) and \
                args[0].shape == output.shape:
            fitting.add(module)

    with evaluating(network), forward_hooks(dict.fromkeys(candidates, note)):
        network(*inputs)
    return [name for module, name in candidates.items() if module in fitting and calls[module] == 1]


def least_changing(changed: Mapping[str, Tensor], weights: Tensor, count: int) -> list[str]:
    """Return the blocks that change their input least on the images of a problem, relative to their output.

    Args:
        changed: By block, see :class:`~mmreuse.modularization.structured.moments.Profile`.
        weights: Share of each class in the problem.
        count: How many blocks.

    Raises:
        InfeasibleError: There are not so many.
    """
    if count > len(changed):
        raise InfeasibleError(f'blocks={count}: only {len(changed)} blocks of the network can go '
                              f'({", ".join(changed) or "none hands on a tensor of the shape that it gets"}).')
    shares = {name: float(weights @ each[:, 0] / (weights @ each[:, 1]).clamp(min=1e-300))
              for name, each in changed.items()}
    return sorted(shares, key=shares.get)[:count]


def without_blocks(graph: TracedModel, blocks: Sequence[str]) -> TracedModel:
    """Return the graph of a copy in which blocks are identities; spaces inside of them are gone.

    What a block adds to a stream goes; what is in the stream stays as it was, and so do the spaces.
    """
    if not blocks:
        return graph
    model = copy_model(graph.model)
    for name in blocks:
        path, _, own = name.rpartition('.')
        model.get_submodule(path)._modules[own] = nn.Identity()
    keys = model.state_dict().keys()
    spaces = {}
    for name, space in graph.spaces.items():
        axes = tuple(axis for axis in space.axes if axis.tensor in keys)
        taps = tuple(tap for tap in space.taps if not f'{tap.module}.'.startswith(tuple(f'{each}.' for each in blocks)))
        if axes:
            spaces[name] = replace(space, axes=axes, taps=taps)
    return replace(graph, model=model, spaces=spaces)
