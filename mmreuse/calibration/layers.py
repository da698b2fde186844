"""The layers that calibration fits, as regressions: what they read, and what of them is solved for."""
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Fitted(Protocol):
    """One layer as a regression from its input to its output; G groups of channels are fitted on their own."""
    groups: int
    inputs: int  # features of a group that the layer reads, kernel positions included
    outputs: int  # channels of a group that it writes

    def rows(self, x: Tensor, t: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw positions of a batch; inputs (G, n, inputs) and targets (G, n, outputs) there."""

    def anchor(self) -> Tensor:
        """The layer's own weight, (G, outputs, inputs)."""

    def own_bias(self) -> Tensor:
        """And its bias, (G, outputs)."""

    def store(self, weight: Tensor, bias: Tensor) -> None:
        """Make a solution the layer's."""


class FittedConvolution:
    """A convolution, through its patches at some positions of the output.

    Args:
        layer: Of any rank, stride, dilation and number of groups, with zeros around the image.
        positions: How many positions of each image; None for all.
        norm: A batch norm that alone reads the layer, and takes up the intercept of a layer without bias.
    """

    def __init__(self, layer: nn.Module, positions: int | None, norm: _BatchNorm | None) -> None:
        self.layer, self.positions, self.norm = layer, positions, norm
        self.groups = layer.groups
        self.inputs = layer.weight[0].numel()
        self.outputs = len(layer.weight) // layer.groups

    def rows(self, x: Tensor, t: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        layer, sizes = self.layer, t.shape[2:]
        total = sizes.numel()
        count = total if self.positions is None else min(total, self.positions)
        chosen = torch.randperm(total, generator=generator)[:count].to(x.device)
        places = torch.unravel_index(chosen, sizes)
        pads = [pad for pair in reversed(_padding(layer)) for pad in pair]
        x = nn.functional.pad(x, pads)
        kernel = torch.cartesian_prod(*(torch.arange(size) for size in layer.kernel_size)).reshape(-1, len(sizes))
        at = [place[:, None] * stride + (kernel[:, axis] * dilation).to(x.device)
              for axis, (place, stride, dilation) in enumerate(zip(places, layer.stride, layer.dilation, strict=True))]
        patches = x[(slice(None), slice(None), *at)]  # (B, C, n, kernel)
        batch, channels = patches.shape[:2]
        patches = patches.reshape(batch, self.groups, channels // self.groups, count, -1).permute(1, 0, 3, 2, 4)
        targets = t.flatten(2)[:, :, chosen].reshape(batch, self.groups, self.outputs, count).permute(1, 0, 3, 2)
        return patches.reshape(self.groups, batch * count, -1), targets.reshape(self.groups, batch * count, -1)

    def anchor(self) -> Tensor:
        return self.layer.weight.detach().reshape(self.groups, self.outputs, self.inputs)

    def own_bias(self) -> Tensor:
        bias = self.layer.bias
        return self.layer.weight.new_zeros(self.groups, self.outputs) if bias is None else \
            bias.detach().reshape(self.groups, self.outputs)

    def store(self, weight: Tensor, bias: Tensor) -> None:
        self.layer.weight.data.copy_(weight.reshape(self.layer.weight.shape))
        _store_bias(self.layer, bias.flatten(), self.norm)


class FittedLinear:
    """A linear layer; positions are all axes of its input but the last.

    Args:
        layer: As it says.
        positions: As for a convolution.
        norm: Likewise.
    """
    groups = 1

    def __init__(self, layer: nn.Linear, positions: int | None, norm: _BatchNorm | None) -> None:
        self.layer, self.positions, self.norm = layer, positions, norm
        self.outputs, self.inputs = layer.weight.shape

    def rows(self, x: Tensor, t: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return tuple(each[None] for each in _draw(x, t, self.positions, generator))

    def anchor(self) -> Tensor:
        return self.layer.weight.detach()[None]

    def own_bias(self) -> Tensor:
        bias = self.layer.bias
        return (self.layer.weight.new_zeros(self.outputs) if bias is None else bias.detach())[None]

    def store(self, weight: Tensor, bias: Tensor) -> None:
        self.layer.weight.data.copy_(weight[0])
        _store_bias(self.layer, bias[0], self.norm)


class FittedNorm:
    """Gain and bias of a layer or group norm: a regression for each channel, from what it normalises to.

    Args:
        layer: With a gain.
        positions: As for a convolution.
    """
    inputs = outputs = 1

    def __init__(self, layer: nn.Module, positions: int | None) -> None:
        self.layer, self.positions = layer, positions
        self.groups = layer.weight.numel()

    def rows(self, x: Tensor, t: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        layer, dim = self.layer, channel_axis(self.layer)
        if isinstance(layer, nn.GroupNorm):
            plain = nn.functional.group_norm(x, layer.num_groups, eps=layer.eps).movedim(1, -1)
        else:
            plain = nn.functional.layer_norm(x.movedim(dim, -1), layer.normalized_shape, eps=layer.eps)
        plain, t = _draw(plain, t.movedim(dim, -1), self.positions, generator)
        return plain.T[:, :, None], t.T[:, :, None]

    def anchor(self) -> Tensor:
        return self.layer.weight.detach().reshape(-1, 1, 1)

    def own_bias(self) -> Tensor:
        return (torch.zeros_like(self.layer.weight) if self.layer.bias is None else self.layer.bias).detach()[:, None]

    def store(self, weight: Tensor, bias: Tensor) -> None:
        self.layer.weight.data.copy_(weight.flatten())
        if self.layer.bias is not None:
            self.layer.bias.data.copy_(bias.flatten())


def channel_axis(layer: nn.Module) -> int:
    """Return the axis of a layer's output that holds its channels."""
    if isinstance(layer, nn.LayerNorm):  # of images too, in libraries that have a class for them
        return 1 if type(layer).__name__.endswith('2d') else -1
    return -1 if isinstance(layer, nn.Linear) else 1


def fitted(layer: nn.Module, positions: int | None, norm: _BatchNorm | None) -> Fitted | str:
    """Return a layer as a regression, or why it is none.

    Args:
        layer: A module that a network calls.
        positions: How many positions of each image.
        norm: The batch norm that alone reads it, if one does.
    """
    if type(layer).forward is nn.Linear.forward:
        return FittedLinear(layer, positions, norm) if 'weight' in layer._parameters else 'its weight is computed'
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and type(layer).forward in _FORWARDS:
        if 'weight' not in layer._parameters:
            return 'its weight is computed'
        if layer.padding_mode != 'zeros':
            return f'it pads by {layer.padding_mode}'
        return FittedConvolution(layer, positions, norm)
    if isinstance(layer, nn.LayerNorm | nn.GroupNorm) and layer._parameters.get('weight') is not None:
        return FittedNorm(layer, positions) if layer.weight.dim() == 1 else 'it normalises several axes'
    return 'it is of no kind that is fitted'


_FORWARDS: tuple[Callable, ...] = (nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)


def _draw(x: Tensor, t: Tensor, positions: int | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows (n, i) and (n, o) at some positions of each image."""
    x, t = x.reshape(len(x), -1, x.shape[-1]), t.reshape(len(t), -1, t.shape[-1])
    if positions is not None and positions < x.shape[1]:
        chosen = torch.randperm(x.shape[1], generator=generator)[:positions].to(x.device)
        x, t = x[:, chosen], t[:, chosen]
    return x.flatten(0, 1), t.flatten(0, 1)


def _padding(layer: nn.Module) -> list[tuple[int, int]]:
    """Zeros in front and behind, by axis."""
    if layer.padding == 'valid':
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == 'same':
        spans = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(span // 2, span - span // 2) for span in spans]
    return [(each, each) for each in layer.padding]


def _store_bias(layer: nn.Module, bias: Tensor, norm: _BatchNorm | None) -> None:
    if layer.bias is not None:
        layer.bias.data.copy_(bias)
    elif norm is not None:
        norm.running_mean -= bias.to(norm.running_mean)
    elif bool(bias.abs().max() > 0):
        layer.bias = nn.Parameter(bias.to(layer.weight), requires_grad=layer.weight.requires_grad)
