"""Runs of networks in float64."""
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmreuse.graph.spaces.operations import plain_name
from mmreuse.graph.values import frozen_random, map_tensors, tensors_within


class InDouble(TorchFunctionMode):
    """Computes in float64 where code asks for float32 by name, and without dropout.

    Args:
        flip: Number, among all branches on tensors, of one that is to go the other way.
    """

    def __init__(self, flip: int | None = None) -> None:
        super().__init__()
        self.flip = flip
        self.branches = 0

    def __torch_function__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(function, '__name__', '')
        if name == 'float':
            return args[0].double()
        if plain_name(function) in ('dropout', 'dropout1d', 'dropout2d', 'dropout3d', 'alpha_dropout',
                                    'feature_dropout', 'feature_alpha_dropout'):
            return args[0] if args else kwargs['input']
        args = tuple(torch.float64 if arg is torch.float32 else arg for arg in args)
        if kwargs.get('dtype') is torch.float32:
            kwargs['dtype'] = torch.float64
        result = function(*args, **kwargs)
        if name == '__bool__':
            self.branches += 1
            return result ^ (self.branches - 1 == self.flip)
        return result


def as_double(values: Any) -> Any:
    """Return inputs with float64 in place of other floating-point values."""
    return map_tensors(values, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def call_in_double(model: nn.Module, inputs: tuple[Any, ...], flip: int | None = None) -> Any:
    """Return the output of a network that was turned into float64; ``flip`` as for :class:`InDouble`."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), frozen_random(0), InDouble(flip):
            return model(*map_tensors(inputs, torch.clone))
    finally:
        torch.set_default_dtype(default)


def run_in_double(model: nn.Module, inputs: tuple[Any, ...], flip: int | None = None) -> Tensor:
    """All floating-point outputs of a network that was turned into float64, in one vector."""
    output = call_in_double(model, inputs, flip)
    found = [tensor.flatten().double() for tensor in tensors_within(output) if tensor.is_floating_point()]
    return torch.cat(found) if found else torch.zeros(0)
