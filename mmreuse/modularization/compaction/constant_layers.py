"""Layers that have lost all their weights."""
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.registry import LAYERS

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@LAYERS.register_module()
class ConstantLayer(nn.Module):
    """Give what a layer gives whose weights are all zero: its bias, wherever the input is.

    Args:
        channels: How many the layer gives.
        steps: Kernel size, stride, padding and dilation of each axis of a convolution; none for a linear layer.
    """

    def __init__(self, channels: int, steps: Sequence[Sequence[int]] = ()) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.steps = tuple(map(tuple, steps))

    @classmethod
    def of(cls, layer: nn.Module) -> 'ConstantLayer':
        """Make one of a linear layer or a convolution, whose bias it takes."""
        steps = () if isinstance(layer, nn.Linear) else zip(
            layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True)
        constant = cls(len(layer.weight), tuple(steps))
        constant.bias = layer.bias if layer.bias is not None else nn.Parameter(
            layer.weight.new_zeros(len(layer.weight)), requires_grad=layer.weight.requires_grad)
        return constant

    def settings(self) -> dict[str, Any]:
        """Return the arguments that make another like it."""
        return dict(channels=len(self.bias), steps=[list(step) for step in self.steps])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ...) to (N, C', ...) as the convolution would, or (..., C) to (..., C')."""
        if not self.steps:
            return self.bias.expand(*x.shape[:-1], -1).clone()
        rank = len(self.steps)
        sizes = [(size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for size, (kernel, stride, padding,
                 dilation) in zip(x.shape[-rank:], self.steps, strict=True)]
        # A copy, for an activation in place behind it.
        return self.bias.reshape(-1, *[1] * rank).expand(*x.shape[:-rank - 1], -1, *sizes).clone()

    def extra_repr(self) -> str:
        return f'{len(self.bias)}'


def is_constant(layer: nn.Module) -> bool:
    """Return whether a layer is of the plain kind and has no weight other than zero."""
    plain = any(type(layer).forward is kind.forward for kind in _LAYERS) and 'weight' in layer._parameters
    return plain and not isinstance(getattr(layer, 'padding', 0), str) and not bool(torch.count_nonzero(layer.weight))


def replace_layers(model: nn.Module, names: list[str]) -> None:
    """Put a :class:`ConstantLayer` in place of layers, in place."""
    for name in names:
        path, _, own = name.rpartition('.')
        setattr(model.get_submodule(path), own, ConstantLayer.of(model.get_submodule(name)))
