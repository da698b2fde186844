"""Layers that have lost all their weights."""
import torch
from torch import Tensor, nn

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class ConstantLayer(nn.Module):
    """Gives what a layer gives whose weights are all zero: its bias, wherever the input is.

    Args:
        layer: A linear layer or a convolution.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.bias = layer.bias if layer.bias is not None else nn.Parameter(
            layer.weight.new_zeros(len(layer.weight)), requires_grad=layer.weight.requires_grad)
        self.steps = () if isinstance(layer, nn.Linear) else tuple(zip(
            layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True))

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
    """Whether a layer is of the plain kind and has no weight other than zero."""
    plain = any(type(layer).forward is kind.forward for kind in _LAYERS) and 'weight' in layer._parameters
    return plain and not isinstance(getattr(layer, 'padding', 0), str) and not bool(torch.count_nonzero(layer.weight))


def replace_layers(model: nn.Module, names: list[str]) -> None:
    """Put a :class:`ConstantLayer` in place of layers, in place."""
    for name in names:
        path, _, own = name.rpartition('.')
        setattr(model.get_submodule(path), own, ConstantLayer(model.get_submodule(name)))
