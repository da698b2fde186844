"""The layers that calibration fits, as regressions: what they read, and what of them is solved for."""
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

#: Positions (R, n) of a tensor with R rows of so many positions, from R and their number; None for all.
Draw = Callable[[int, int], Tensor | None]


class Fitted:
    """One layer as a regression from its input to its output; G groups of channels are fitted on their own.

    Attributes:
        layer: The module that holds the parameters.
        groups: G.
        inputs: Features of a group that the layer reads, kernel positions included.
        outputs: Channels of a group that it writes.
        channels: Axis of its output that holds the channels.
        norm: A batch norm that alone reads the layer; it takes up the intercept of a layer without bias.
    """
    layer: nn.Module
    groups = 1
    inputs: int
    outputs: int
    channels = 1
    norm: _BatchNorm | None = None

    def read(self, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
        """Return what is read, from what the layer gets."""
        return args[0] if args else next(iter(kwargs.values()))

    def given(self, source: nn.Module, args: tuple, kwargs: Mapping[str, Any], output: Callable[[], Any]) -> Tensor:
        """Return what a source's layer gives, of what it gets, or of what the whole operation gives."""
        return output()

    def rows(self, x: Tensor, t: Tensor, draw: Draw) -> Tensor:
        """Return inputs (R, n, G, inputs) at those positions of the output, which is like ``t``, that are drawn."""
        return picked(x, self.channels, draw)[:, :, None]

    def anchor(self) -> Tensor:
        """Return the layer's own weight, (G, outputs, inputs)."""
        return self.layer.weight.detach().reshape(self.groups, self.outputs, self.inputs)

    def own_bias(self) -> Tensor:
        """Return the layer's own bias, (G, outputs)."""
        bias = self.layer.bias
        zeros = self.layer.weight.new_zeros(self.groups * self.outputs)
        return (zeros if bias is None else bias.detach()).reshape(self.groups, self.outputs)

    def store(self, weight: Tensor, bias: Tensor) -> None:
        """Make a solution the layer's."""
        layer, bias = self.layer, bias.flatten()
        layer.weight.data.copy_(weight.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.data.copy_(bias)
        elif self.norm is not None:
            self.norm.running_mean -= bias.to(self.norm.running_mean)
        elif bool(bias.abs().max() > 0):
            layer.bias = nn.Parameter(bias.to(layer.weight), requires_grad=layer.weight.requires_grad)


class FittedConvolution(Fitted):
    """A convolution, through its patches: of any rank, stride, dilation and groups, with zeros around the image."""

    def __init__(self, layer: nn.Module, norm: _BatchNorm | None) -> None:
        self.layer, self.norm = layer, norm
        self.groups = layer.groups
        self.inputs = layer.weight[0].numel()
        self.outputs = len(layer.weight) // layer.groups

    def rows(self, x: Tensor, t: Tensor, draw: Draw) -> Tensor:
        sizes = t.shape[2:]
        chosen = draw(len(t), sizes.numel())
        if chosen is None:
            chosen = torch.arange(sizes.numel(), device=x.device).expand(len(t), -1)
        images = torch.arange(len(t), device=x.device)[:, None]
        patches = self._windows(x, sizes)[(images, *torch.unravel_index(chosen, sizes))]  # (R, n, C, *kernel)
        return patches.reshape(*chosen.shape, self.groups, self.inputs)

    def _windows(self, x: Tensor, sizes: torch.Size) -> Tensor:
        """Show every patch, (R, *sizes, C, *kernel), without copies."""
        layer = self.layer
        x = nn.functional.pad(x, [pad for pair in reversed(_padding(layer)) for pad in pair])
        steps = x.stride()[2:]
        return x.as_strided(
            (len(x), *sizes, x.shape[1], *layer.kernel_size),
            (x.stride(0), *(step * stride for step, stride in zip(steps, layer.stride, strict=True)), x.stride(1),
             *(step * dilation for step, dilation in zip(steps, layer.dilation, strict=True))))


class FittedLinear(Fitted):
    """A linear layer; positions are all axes of its input but the first and the last."""
    channels = -1

    def __init__(self, layer: nn.Linear, norm: _BatchNorm | None) -> None:
        self.layer, self.norm = layer, norm
        self.outputs, self.inputs = layer.weight.shape


class FittedNorm(Fitted):
    """Gain and bias of a norm: a regression for each channel, from what it normalises to.

    Args:
        layer: That computes ``weight * normalised + bias``.
        channels: Axis of them.
    """
    inputs = outputs = 1

    def __init__(self, layer: nn.Module, channels: int) -> None:
        self.layer, self.channels = layer, channels
        self.groups = layer.weight.numel()
        self.fixed = layer._parameters.get('bias') is None  # a bias that it has no place for

    def rows(self, x: Tensor, t: Tensor, draw: Draw) -> Tensor:
        plain = with_parameters(self.layer, torch.ones_like(self.layer.weight), None)(x)
        return picked(plain, self.channels, draw)[..., None]

    def own_bias(self) -> Tensor:
        bias = torch.zeros_like(self.layer.weight) if self.fixed else self.layer.bias
        return bias.detach()[:, None]

    def store(self, weight: Tensor, bias: Tensor) -> None:
        self.layer.weight.data.copy_(weight.flatten())
        if not self.fixed:
            self.layer.bias.data.copy_(bias.flatten())


def picked(x: Tensor, channels: int, draw: Draw) -> Tensor:
    """Return what stands at some positions, (R, n, C).

    Args:
        x: (R, ..., C, ...), where all axes but the first and that of the channels are positions.
        channels: Their axis.
        draw: Says which.
    """
    x = x.movedim(channels, -1)
    sizes = x.shape[1:-1]
    chosen = draw(len(x), sizes.numel())
    if chosen is None:
        return x.flatten(1, -2) if sizes else x[:, None]
    return x[(torch.arange(len(x), device=x.device)[:, None], *torch.unravel_index(chosen, sizes))]


def with_parameters(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Return the same layer with other parameters; a bias only where it has one."""
    twin = nn.Module.__new__(type(layer))
    twin.__dict__.update(layer.__dict__)
    twin._parameters = dict(layer._parameters, weight=weight)
    if layer._parameters.get('bias') is not None:
        twin._parameters['bias'] = torch.zeros_like(layer.bias) if bias is None else bias
    return twin


def _padding(layer: nn.Module) -> list[tuple[int, int]]:
    """Return zeros in front and behind, by axis."""
    if layer.padding == 'valid':
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == 'same':
        spans = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(span // 2, span - span // 2) for span in spans]
    return [(each, each) for each in layer.padding]
