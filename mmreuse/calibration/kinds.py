"""Kinds of layers that are fitted, and the regression that each becomes."""
import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmreuse.calibration.attention import FittedIntoHeads, FittedOutOfHeads
from mmreuse.calibration.layers import Fitted, FittedConvolution, FittedLinear, FittedNorm, with_parameters

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fitted(name: str, layer: nn.Module, norm: _BatchNorm | None = None,
           node: fx.Node | None = None) -> dict[str, Fitted] | str:
    """Return a layer as regressions by name, in the order in which they are solved, or why it is none.

    Args:
        name: Of the layer.
        layer: A module that a network calls.
        norm: The batch norm that alone reads it, if one does.
        node: The call.
    """
    if isinstance(layer, nn.MultiheadAttention):
        return _attention(name, layer, node)
    if 'weight' not in layer._parameters and 'weight' in dir(layer):
        return 'its weight is computed'
    if _computes_as(layer, nn.Linear):
        return {name: FittedLinear(layer, norm)}
    if _computes_as(layer, *_CONVOLUTIONS):
        return {name: FittedConvolution(layer, norm)} if layer.padding_mode == 'zeros' else \
            f'it pads by {layer.padding_mode}'
    return _norm(name, layer)


def _computes_as(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Return whether a layer is one of some kinds, or of a class that changes nothing of what it computes."""
    # mmcv's layers are those of torch, with a way around empty inputs.
    return isinstance(layer, kinds) and (type(layer).forward in [kind.forward for kind in kinds]
                                         or type(layer).__module__.split('.')[0] == 'mmcv')


def _attention(name: str, layer: nn.MultiheadAttention, node: fx.Node | None) -> dict[str, Fitted] | str:
    if layer.in_proj_weight is None:
        return 'its queries, keys and values have weights of their own'
    if node is None or len({*node.args[:3]}) > 1:
        return 'it attends to something else than what asks'
    return {f'{name}.in_proj': FittedIntoHeads(layer), f'{name}.out_proj': FittedOutOfHeads(layer)}


def _norm(name: str, layer: nn.Module) -> dict[str, Fitted] | str:
    weight = layer._parameters.get('weight')
    if weight is None or 'norm' not in type(layer).__name__.lower() or any(True for _ in layer.children()):
        return 'it is of no kind that is fitted'
    if weight.dim() > 1:
        return 'it normalises several axes'
    maps = type(layer).__name__.endswith('2d') or getattr(layer, 'data_format', None) == 'channels_first'
    channels = 1 if maps or isinstance(layer, nn.GroupNorm) else -1
    return {name: FittedNorm(layer, channels)} if _scales(layer, channels) else 'it does more than normalise and scale'


@torch.no_grad()
def _scales(layer: nn.Module, channels: int) -> bool:
    """Return whether a norm gives ``weight * normalised + bias``, by trying."""
    weight = layer.weight
    shape = [3] * (4 if channels == 1 else 3)
    shape[channels] = weight.numel()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(weight)
    gain, shift = (torch.randn(weight.numel(), generator=generator).to(weight) for _ in range(2))
    plain = with_parameters(layer, torch.ones_like(weight), None)(x).movedim(channels, -1)
    expected = gain * plain + (0 if layer._parameters.get('bias') is None else shift)
    scaled = with_parameters(layer, gain, shift)(x).movedim(channels, -1)
    return torch.allclose(scaled, expected, rtol=1e-3, atol=1e-3)
