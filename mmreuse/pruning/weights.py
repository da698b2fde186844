"""Prunable weights of a network, pruned and left: a weight that is zero is pruned."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import prune as torch_prune

from mmreuse.errors import ConfigError
from mmreuse.graph import copy_model
from mmreuse.utils.names import fitting
from mmreuse.utils.tables import Rows, Tabular


def listed_weights(model: nn.Module, modules: Sequence[str] | None = None,
                   exclude: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """Return the weights of convolutions and linear layers, without biases and norms.

    Args:
        model: Any network.
        modules: Regular expressions; a module is listed if the whole of its name fits one. None lists all.
        exclude: Regular expressions of modules that are left out, e.g. ``r'.*shortcut.*'``.

    Returns:
        dict[str, nn.Parameter]: By name of the parameter, in the order of the modules; shared ones once.

    Raises:
        ConfigError: An expression fits no convolution or linear layer, or nothing is left.
    """
    weighted = {name: module for name, module in model.named_modules()
                if isinstance(module, _ConvNd | nn.Linear)}
    if not weighted:
        raise ConfigError(f'{type(model).__name__} has no convolution or linear layer: there is nothing to prune.')
    kind = 'convolution or linear layer'
    kept = set(weighted) if modules is None else fitting(modules, weighted, kind)
    kept -= fitting(exclude, weighted, kind)
    parameters = {name: parameter for name, parameter in model.named_parameters() if name.rpartition('.')[0] in kept}
    weights = {name: parameter for name, parameter in parameters.items()
               if name.rpartition('.')[2] in ('weight', 'weight_orig')}
    if not weights:
        raise ConfigError(f'modules={modules} without exclude={tuple(exclude)} leaves no weight to prune.')
    return weights


def _masked_by_torch(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return modules, and names of their parameters, that ``torch.nn.utils.prune`` masks."""
    return [(module, name) for module in model.modules()
            for name in [key.removesuffix('_orig') for key in module._parameters if key.endswith('_orig')]
            if f'{name}_mask' in module._buffers]


def make_permanent(model: nn.Module) -> None:
    """Replace masks of ``torch.nn.utils.prune`` by zeros in the weights, in place; the function stays the same."""
    for module, name in _masked_by_torch(model):
        torch_prune.remove(module, name)


def copy_permanent(model: nn.Module) -> nn.Module:
    """Return a copy of a network in which masks of ``torch.nn.utils.prune`` are zeros in the weights."""
    copied = copy_model(model)
    make_permanent(copied)
    return copied


def find_masks(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return True where a weight is not zero, for each weight."""
    return {name: weight.detach() != 0 for name, weight in weights.items()}


@torch.no_grad()
def apply_masks(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    """Set weights to zero where their mask is False, in place."""
    for name, mask in masks.items():
        weights[name].masked_fill_(~mask, 0)


@dataclass(frozen=True)
class Sparsity(Tabular):
    """Shares of weights that are zero."""
    listed: float  # of the weights that were to be pruned
    whole: float  # of all parameters, biases and norms among them
    by_weight: dict[str, float]  # of each listed weight
    sizes: dict[str, int]  # of each listed weight

    def rows(self) -> Rows:
        """Return one row per listed weight."""
        return [dict(weight=name, size=self.sizes[name], zero=f'{100 * share:.1f} %')
                for name, share in self.by_weight.items()]

    def notes(self) -> Sequence[str]:
        """Give the totals."""
        return [f'{100 * self.listed:.2f} % of these {sum(self.sizes.values()):,} weights are zero, '
                f'{100 * self.whole:.2f} % of all parameters']


def measure_sparsity(model: nn.Module, modules: Sequence[str] | None = None,
                     exclude: Sequence[str] = ()) -> Sparsity:
    """Count zeros among the listed weights and in the whole network.

    Args:
        model: A network, with zeros or with masks of ``torch.nn.utils.prune``.
        modules: As for :func:`listed_weights`.
        exclude: As for :func:`listed_weights`.

    Raises:
        ConfigError: As :func:`listed_weights`.
    """
    buffers = dict(model.named_buffers())

    def zeros(name: str, parameter: Tensor) -> int:
        mask = buffers.get(f'{name.removesuffix("_orig")}_mask') if name.endswith('_orig') else None
        return int((parameter if mask is None else parameter * mask).eq(0).sum())

    listed = listed_weights(model, modules, exclude)
    counts = {name: zeros(name, parameter) for name, parameter in model.named_parameters()}
    return Sparsity(
        listed=sum(counts[name] for name in listed) / sum(weight.numel() for weight in listed.values()),
        whole=sum(counts.values()) / sum(parameter.numel() for parameter in model.parameters()),
        by_weight={name: counts[name] / weight.numel() for name, weight in listed.items()},
        sizes={name: weight.numel() for name, weight in listed.items()})
