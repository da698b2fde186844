"""Channels that do not depend on the input, taken into the biases of what reads them."""
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mmreuse.graph import SILENT, as_double, copy_model, fresh_copy, plain_name, random_like, run_in_double, tensors_in
from mmreuse.modularization.masks.layers import LayerCall, LayerWatch, parameter_names

#: Largest difference between values of one constant, relative to the largest of the layer's inputs, in float64.
TOLERANCE = 1e-12


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


#: Activations that are flat somewhere, and what shows there that their input still varies.
_OPENED: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys("""relu relu6 hardtanh hardswish gelu silu mish elu selu celu softplus clamp clamp_min clamp_max
        threshold hardshrink softshrink""".split(), _leaky),
    **dict.fromkeys('sigmoid hardsigmoid tanh logsigmoid'.split(), F.softsign),
}


@dataclass(eq=False)
class _Reading:
    """Observed values of the channels that a weight reads."""
    call: LayerCall
    values: Tensor  # (channels,) of the first position
    constant: Tensor = field(init=False)  # (channels,)

    def __post_init__(self) -> None:
        self.constant = torch.ones(len(self.values), dtype=torch.bool)

    def look(self, rows: Tensor) -> None:
        """See more positions, (N, channels)."""
        difference = (rows - self.values).abs().amax(0)
        self.constant &= difference <= TOLERANCE * rows.abs().amax()


class _Watch(LayerWatch):
    """Reads the inputs of layers.

    Args:
        model: The network that runs.
        opened: Where the samples of a batch differ, replace activations that may hide it: a unit that no random input
            switches on is no constant.
    """

    def __init__(self, model: nn.Module, opened: bool) -> None:
        super().__init__()
        self.names = parameter_names(model)
        self.opened = opened
        self.readings: dict[str, _Reading] = {}
        self.excluded: set[str | None] = {None}

    def __torch_function__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        other = _OPENED.get(plain_name(function)) if self.opened and args else None
        if other is None or not args[0].is_floating_point():
            return super().__torch_function__(function, types, args, kwargs)
        x = args[0].clone()  # the activation may work in place
        fixed = (x - x[:1]).abs() <= TOLERANCE * x.abs().amax()
        return torch.where(fixed.all(0, keepdim=True), function(*args, **(kwargs or {})), other(x))

    def see_layer(self, call: LayerCall) -> None:
        key = self.names.get(id(call.arguments['weight']))
        if call.name.startswith('conv_transpose'):
            self.excluded.add(key)
        elif key is not None:
            rows = call.positions()
            self.readings.setdefault(key, _Reading(call, rows[0].clone())).look(rows)

    def see_other(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        if name not in SILENT:
            self.excluded.update(self.names.get(id(tensor)) for tensor in tensors_in([args, kwargs]))


def fold_constants(model: nn.Module, inputs: tuple[Any, ...]) -> nn.Module:
    """Take what is constant out of the weights that read it.

    A channel whose filter is all zero is the constant that its bias, norm and activation make of nothing. Which
    channels are constant is seen in a few runs in float64 at the inputs of convolutions and linear layers, hence
    behind whatever stands between: norms, gates, concatenations, sums. There, ``W c`` goes into the bias, and the
    weights that read the constant become zero. Under zero padding the border differs from the inside: constants other
    than zero are gathered in one of them, which carries all, ``W_1' = sum_i c_i W_i / c_1``.

    Args:
        model: Left as it is.
        inputs: Arguments of its forward; axis 0 of tensors is the batch.

    Returns:
        nn.Module: The same function; layers without bias have one where they need it.
    """
    twin = as_double_network(model)
    samples = [as_double(random_like(inputs, seed, 'cpu')) for seed in (0, 1)]
    batch = tuple(torch.cat(pair) if isinstance(pair[0], Tensor) else pair[0] for pair in zip(*samples, strict=True))
    watches = [_Watch(twin, opened) for opened in (True, False)]
    for watch in watches:
        with watch:
            run_in_double(twin, batch)
    folded = copy_model(model)
    for key, reading in watches[1].readings.items():
        if key not in watches[1].excluded:
            reading.constant &= watches[0].readings[key].constant
            _fold(folded, key, watches[1].names, reading)
    return folded


def as_double_network(model: nn.Module) -> nn.Module:
    """Return a copy on the CPU, in float64 and evaluation mode."""
    return fresh_copy(model).cpu().double()


@torch.no_grad()
def _fold(model: nn.Module, key: str, names: dict[int, str], reading: _Reading) -> None:
    call = reading.call
    weight = call.arguments['weight'].detach().clone()
    read = (weight.reshape(len(weight), weight.shape[1], -1) != 0).any(2)
    constant = reading.constant & _channels(read, call.groups)
    if _has_border(call):
        _gather(weight, constant & (reading.values != 0), reading.values, call.groups)
        constant &= reading.values == 0
    if not bool(constant.any()):
        if not torch.equal(weight, call.arguments['weight']):
            _copy(model.get_parameter(key), weight)
        return
    shift = _response(call, weight, torch.where(constant, reading.values, 0))
    if _add_to_bias(model, key, names.get(id(call.arguments.get('bias'))), call, shift):
        _copy(model.get_parameter(key), torch.where(_columns(constant, weight, call.groups), 0, weight))


def _copy(target: Tensor, values: Tensor) -> None:
    target.copy_(values.to(target))


def _has_border(call: LayerCall) -> bool:
    return call.rank > 0 and any(each != 0 for each in call.per_axis('padding', 0))


def _channels(read: Tensor, groups: int) -> Tensor:
    """Return whether each input channel is read, from (rows, inside) of a kernel in groups."""
    return read.reshape(groups, -1, read.shape[1]).any(1).flatten()


def _columns(channels: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Bring (channels,) to the columns of a kernel in groups."""
    rows = channels.reshape(groups, -1).repeat_interleave(len(weight) // groups, 0)
    return rows.reshape(*rows.shape, *[1] * (weight.dim() - 2))


def _response(call: LayerCall, weight: Tensor, values: Tensor) -> Tensor:
    """Return the outputs of weights for channels that are the same everywhere, (outputs,)."""
    if call.rank == 0:
        return weight @ values
    dilation = call.per_axis('dilation', 1)
    extent = [each * (size - 1) + 1 for each, size in zip(dilation, weight.shape[2:], strict=True)]
    x = values.reshape(1, -1, *[1] * call.rank).expand(1, -1, *extent)
    return call.function(x, weight, None, dilation=dilation, groups=call.groups).flatten()


def _gather(weight: Tensor, constant: Tensor, values: Tensor, groups: int) -> None:
    """Let the largest of some constants carry the others, in place."""
    if groups > 1 or int(constant.sum()) < 2:
        return
    carrier = torch.where(constant, values.abs(), 0).argmax()
    total = torch.einsum('oi...,i->o...', weight[:, constant], values[constant]) / values[carrier]
    weight[:, constant] = 0
    weight[:, carrier] = total


def _add_to_bias(model: nn.Module, key: str, bias: str | None, call: LayerCall, shift: Tensor) -> bool:
    """Add to a layer's bias; False where there is no place for it."""
    if not bool(shift.any()):
        return True
    layer = model.get_submodule(key.rpartition('.')[0])
    if bias is not None:
        _copy(model.get_parameter(bias), call.arguments['bias'] + shift)
    elif call.arguments.get('bias') is None and isinstance(layer, (_ConvNd, nn.Linear)) and layer.bias is None:
        layer.bias = nn.Parameter(shift.to(layer.weight), requires_grad=layer.weight.requires_grad)
    else:
        return False
    return True
