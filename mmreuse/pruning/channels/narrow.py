"""Networks of the widths that a checkpoint has."""
from collections.abc import Mapping
from typing import Any

import torch
from torch import Size, Tensor, nn

from mmreuse.errors import ArtefactError, SpaceError
from mmreuse.graph import FeatureSpace, NarrowAttention, Select, TracedModel, repaired, transform
from mmreuse.registry import LAYERS
from mmreuse.statistics import inputs_for
from mmreuse.utils.files.state_fit import check_fit

LAYERS.register_module(module=NarrowAttention)


def narrow_to(model: nn.Module, inputs: Tensor | tuple[Any, ...], state: Mapping[str, Tensor]) -> nn.Module:
    """Return a network made as narrow as a state dict says.

    Args:
        model: The dense architecture; left as it is.
        inputs: What it runs on, see :func:`mmreuse.graph.trace`.
        state: Of a network of this architecture with fewer channels or heads, as
            :func:`mmreuse.pruning.prune_channels` makes it.

    Returns:
        nn.Module: Of the same module names; its weights mean nothing before the state is loaded.

    Raises:
        ArtefactError: The state is of another architecture; names a tensor.
        TraceError: The network cannot be traced.
    """
    graph = repaired(model, inputs_for(model, inputs))
    shapes = {key: tensor.shape for key, tensor in state.items()}
    widths = {name: _width(space, graph, shapes) for name, space in graph.spaces.items() if space.blocks is None}
    other = f'the checkpoint is not of a narrower {type(model).__name__}'
    try:
        narrow = transform(graph, {name: Select(torch.arange(width)) for name, width in widths.items()
                                   if width is not None and 0 < width < graph.spaces[name].size})
    except SpaceError as error:
        raise ArtefactError(f'{other}: {error}') from error
    own = narrow.state_dict()
    check_fit(own, {key: state[key] for key in own if key in state}, f'{other} as wide as its other tensors say',
              'Take the config it was made with.')
    return narrow


def _width(space: FeatureSpace, graph: TracedModel, shapes: Mapping[str, Size]) -> int | None:
    """Count the members left, by the first axis that holds nothing but this space; None where there is none.

    Heads and groups have no such axis of their own: their number is told by what is in them.
    """
    for axis in space.axes:
        if axis.shape is None and axis.groups == 1 and axis.tensor in shapes and bool((axis.index >= 0).all()):
            shape = shapes[axis.tensor]
            if axis.dim < len(shape):
                return shape[axis.dim] * space.size // len(axis.index)
    for inner in graph.spaces.values():
        if inner.block_space == space.name and (width := _width(inner, graph, shapes)) is not None:
            return width * space.size // inner.size
    return None
