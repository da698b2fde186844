"""Affine maps of outputs, folded into the layers that give them: what comes out is an ordinary network."""
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmreuse.errors import DataError, SpaceError
from mmreuse.graph import copy_model
from mmreuse.registry import LAYERS
from mmreuse.renormalization.affine import Affine
from mmreuse.renormalization.target_layers import WEIGHTED, Place


@LAYERS.register_module()
class ChannelAffine(nn.Module):
    """``gain * x + shift`` for each channel.

    Args:
        channels: How many.
        dim: Of the channels.
    """

    def __init__(self, channels: int, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def settings(self) -> dict[str, int]:
        """Return the arguments that make another like it."""
        return dict(channels=len(self.weight), dim=self.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor to one of the same shape."""
        return Affine(self.weight, self.bias)(x, self.dim)


@torch.no_grad()
def fold_affine(model: nn.Module, places: Sequence[Place], affines: Mapping[str, Affine]) -> None:
    """Fold one affine map into the output of each place, in place.

    A layer's weight and bias take it up. A layer without a bias gets one, unless a batch norm alone reads it: then the
    shift goes into that norm's running mean. Behind a block that ends in no layer, a :class:`ChannelAffine` named
    ``<block>_affine`` is inserted.

    Args:
        model: The network; other modules and all names stay as they are.
        places: Where, as found in this network.
        affines: By module.

    Raises:
        SpaceError: A weight is shared, computed from others, or not what scales the output. The network is then
            unchanged, as it is in the next case.
        DataError: A weight, or an affine map, is not finite.
    """
    modules = dict(model.named_modules())
    folded = [place for place in places if place.sequence is None]
    refuse_shared(model, [f'{place.module}.{leaf}' for place in folded for leaf in ('weight', 'bias')])
    for place in folded:
        _prove(modules[place.module], affines[place.module], place)
    for place in places:
        affine = affines[place.module]
        if place.sequence is not None:
            _insert(modules[place.sequence], place, affine, modules[place.module])
        elif place.norm is not None and modules[place.module].bias is None:
            norm = modules[place.norm]
            _fold(modules[place.module], Affine(affine.gain, torch.zeros_like(affine.shift)))
            norm.running_mean -= affine.shift.to(norm.running_mean)
        else:
            _fold(modules[place.module], affine)


def _fold(layer: nn.Module, affine: Affine) -> None:
    weight = layer.weight
    gain, shift = affine.gain.to(weight.device), affine.shift.to(weight.device)
    weight.copy_(weight.double() * gain.reshape(-1, *[1] * (weight.dim() - 1)))
    if layer.bias is not None:
        layer.bias.copy_(layer.bias.double() * gain + shift)
    elif shift.any():
        layer.bias = nn.Parameter(shift.to(weight), requires_grad=weight.requires_grad)


def _prove(layer: nn.Module, affine: Affine, place: Place) -> None:
    """Folding into a copy of the layer must do to its output what the map does."""
    if layer._parameters.get('weight') is None:
        raise SpaceError(f"the weight of '{place.module}' is computed from other parameters, nothing can be folded "
                         'into it. Make it a plain one first (torch.nn.utils.prune.remove, '
                         'torch.nn.utils.parametrize.remove_parametrizations).')
    if not isinstance(layer, WEIGHTED):
        return
    twin = copy_model(layer).double().cpu()
    shape = (2, layer.in_features) if isinstance(layer, nn.Linear) else (
        2, layer.in_channels, *(1 + dilation * (size - 1) for dilation, size in zip(
            layer.dilation, layer.kernel_size, strict=True)))
    probe = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    affine = Affine(affine.gain.cpu(), affine.shift.cpu())
    wanted = affine(twin(probe), place.dim)
    if not wanted.isfinite().all():
        raise DataError(f"the weights of '{place.module}', or what corrects its output, are not finite (NaN or "
                        'infinity). Load weights that were saved whole, or train with a smaller rate.')
    _fold(twin, affine)
    if not torch.allclose(twin(probe), wanted, rtol=1e-6, atol=1e-6 * float(wanted.abs().max())):
        raise SpaceError(f"the output of '{place.module}' ({type(layer).__name__}) does not scale with its weight; "
                         'leave it out of `layers`.')


def refuse_shared(model: nn.Module, parameters: Collection[str]) -> None:
    """Raise :class:`SpaceError` if one of some parameters, by name, is another one of the network as well."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    for names in owners.values():
        if len(names) > 1 and any(name in parameters for name in names):
            raise SpaceError(f'{" and ".join(names)} are one parameter: what corrects one layer makes the other '
                             'wrong. Untie them, or leave them out of `layers`.')


def _insert(sequence: nn.Sequential, place: Place, affine: Affine, block: nn.Module) -> None:
    own = place.module.rpartition('.')[2]
    like = next(block.parameters())
    layer = ChannelAffine(len(affine.gain), place.dim).to(like)
    _fold(layer, affine)
    children = list(sequence._modules.items())
    sequence._modules.clear()
    for name, child in children:
        sequence.add_module(name, child)
        if name == own:
            sequence.add_module(f'{own}_affine', layer)
