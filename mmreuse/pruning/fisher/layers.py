"""The gradient of one sample by a layer's weight is a product of what goes in and the gradient of what comes out."""
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mmreuse.errors import ConfigError
from mmreuse.utils.names import nearest


def layers_of(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[nn.Module, str]:
    """Return the convolutions and linear layers whose weights these are, and the name of the weight of each.

    Args:
        model: Any network; several layers may share a weight.
        weights: Its parameters, by name.

    Raises:
        ConfigError: A parameter is not the weight of a convolution or linear layer.
    """
    names = {id(parameter): name for name, parameter in weights.items()}
    layers = {module: names[id(module.weight)] for module in model.modules()
              if isinstance(module, nn.Linear | _ConvNd) and id(module.weight) in names}
    strange = sorted(weights.keys() - set(layers.values()))
    if strange:
        known = [f'{name}.weight' for name, module in model.named_modules() if isinstance(module, nn.Linear | _ConvNd)]
        raise ConfigError(f"'{strange[0]}' is not the weight of a convolution or linear layer; gradients of single "
                          f'samples are taken by those. {nearest(strange[0], known)}')
    return layers


def groups_of(layer: nn.Module) -> int:
    """Groups of a convolution's channels; 1 for a linear layer."""
    return getattr(layer, 'groups', 1)


def factors(layer: nn.Module, inputs: Tensor, grads: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Return two matrices for each row and group of channels whose product is the gradient by the weight.

    Rows are samples, or groups of samples whose gradients are added up.

    Args:
        layer: Convolution or linear layer.
        inputs: Of one call of it, (n, ...), where n is a multiple of ``rows`` and samples of one row stand together.
        grads: Gradients of the summed losses by its output, (n, ...).
        rows: How many.

    Returns:
        tuple[Tensor, Tensor]: ``left`` (rows * groups, a, p) and ``right`` (rows * groups, b, p) with the gradient
        ``left @ right.mT``, which is the shape of the weight when (rows, groups, a, b) is reshaped.
    """
    if isinstance(layer, nn.Linear):
        return tuple(each.reshape(rows, -1, each.shape[-1]).mT for each in (grads, inputs))
    if layer.transposed:  # the gradient of a convolution whose input and output have changed places
        inputs, grads = grads, inputs
    windows = _windows(layer, inputs)
    return tuple(_by_rows(each.reshape(len(each), layer.groups, -1, grads[0, 0].numel()), rows)
                 for each in (grads, windows))


def _windows(layer: _ConvNd, inputs: Tensor) -> Tensor:
    """Return what each weight of a kernel meets at every place: (n, channels, *kernel, *places)."""
    mode = 'constant' if layer.padding_mode == 'zeros' else layer.padding_mode
    windows = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    dims = len(layer.kernel_size)
    for dim, (size, stride, dilation) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)):
        windows = windows.unfold(2 + dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    return windows.permute(0, 1, *range(2 + dims, 2 + 2 * dims), *range(2, 2 + dims))


def _by_rows(factor: Tensor, rows: int) -> Tensor:
    """(n, groups, a, places) -> (rows * groups, a, places of all samples of the row)."""
    if len(factor) != rows:
        factor = factor.unflatten(0, (rows, -1)).permute(0, 2, 3, 1, 4).flatten(3)
    return factor.flatten(0, 1)
