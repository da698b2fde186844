"""Weights on the grid of 8-bit integers."""
import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from mmreuse.networks.edits import Edit
from mmreuse.pruning.weights import listed_weights
from mmreuse.registry import EDITS

#: Weights are at most so many steps from zero, on either side.
LEVELS = 127


@EDITS.register_module(name='round')
class RoundEdit(Edit):
    """Weights that are whole multiples of a step, one for each output channel."""
    verb = 'weights rounded'


@torch.no_grad()
def round_weights(network: nn.Module, levels: int = LEVELS) -> None:
    """Round the weights of convolutions and linear layers in place, so that integers of 8 bits hold them.

    Each output channel has a step of its own, ``max |w| / levels``, and no offset. Zeros stay zeros, and what is
    rounded already stays as it is.

    Args:
        network: Any.
        levels: Steps from zero to the largest weight of a channel.

    Raises:
        ConfigError: The network has no such layer.
    """
    modules = dict(network.named_modules())
    for name, weight in listed_weights(network).items():
        channels = 1 if isinstance(modules[name.rpartition('.')[0]], _ConvTransposeNd) else 0
        others = [axis for axis in range(weight.dim()) if axis != channels]
        step = weight.abs().amax(others, keepdim=True) / levels
        weight.copy_(torch.where(step > 0, (weight / step).round() * step, weight))
