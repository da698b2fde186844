"""Effects of averaging on weights, biases and running statistics."""
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmreuse.diagnostics.vanishing import Magnitudes
from mmreuse.errors import ConfigError, SpaceError
from mmreuse.renormalization import WEIGHTED
from mmreuse.statistics import collect_bn, measured_norms


@dataclass(frozen=True)
class ParameterMagnitudes:
    """Mean absolute values of the parameters of N models, by layer in order of definition (float64)."""

    layers: tuple[str, ...]  # convolutions and linear layers
    weight: Tensor  # (N, L)
    bias: Tensor    # (N, L); 0 where a layer has none


@torch.no_grad()
def parameter_magnitudes(models: Sequence[nn.Module]) -> ParameterMagnitudes:
    """Return mean |W| and mean |b| of every convolution and linear layer.

    The average of two weights that have nothing to do with each other is smaller than both by about the square root of
    two. A feature goes through the averages of all layers before it, a bias only through those behind its own.

    Raises:
        ConfigError: There is no model.
        SpaceError: The models have different layers, or none.
    """
    tables = [{name: module for name, module in model.named_modules() if isinstance(module, WEIGHTED)}
              for model in models]
    if not tables:
        raise ConfigError('there are no models to measure.')
    layers = tuple(tables[0])
    if not layers:
        raise SpaceError(f'{type(models[0]).__name__} has no convolution or linear layer.')
    for number, table in enumerate(tables[1:], 1):
        differing = next(iter(table.keys() ^ set(layers)), None)
        if differing is not None:
            raise SpaceError(f"'{differing}' is a layer of only one of model 0 and model {number}. Compare models of "
                             'one structure.')
    weight, bias = (torch.stack([torch.stack([_mean_size(getattr(table[name], kind)) for name in layers])
                                 for table in tables]) for kind in ('weight', 'bias'))
    return ParameterMagnitudes(layers, weight, bias)


def _mean_size(tensor: Tensor | None) -> Tensor:
    return torch.zeros((), dtype=torch.float64) if tensor is None else tensor.double().abs().mean().cpu()


def rescaled(features: Magnitudes, parameters: ParameterMagnitudes, merged: int = 0) -> Tensor:
    """Make up for the loss of size of the weights: how much of the vanishing is that alone?

    Scales ``g_l`` of the merged network by the product over the layers k up to l of (mean |W_k| of the ends / mean
    |W_k| of the merged network).

    Args:
        features: Of a network in which convolutions or linear layers follow one another without norms.
        parameters: Of the same models in the same order.
        merged: Which of them is the merged one; the others are its ends.

    Returns:
        Tensor: (L,).

    Raises:
        SpaceError: Other layers than those with parameters were measured, or a weight is zero.
    """
    if features.layers != parameters.layers:
        other = next((name for name in features.layers if name not in parameters.layers), None)
        raise SpaceError('rescaling needs a chain of convolutions or linear layers without norms, defined in the order '
                         'in which they run' + (f"; '{other}' is none of them." if other else '.'))
    own = parameters.weight[merged]
    empty = (own == 0).nonzero().flatten().tolist()
    if empty:
        raise SpaceError(f"the weight of '{parameters.layers[empty[0]]}' of the merged network is zero: no factor "
                         'makes up for that.')
    ends = torch.cat([parameters.weight[:merged], parameters.weight[merged + 1:]]).mean(0)
    return features.induced[merged] * (ends / own).cumprod(0)


@dataclass(frozen=True)
class RunningStatistics:
    """Statistics of one batch norm, (n,) each."""

    layer: str
    mean: Tensor            # as the network has them
    variance: Tensor
    reset_mean: Tensor      # as RESET would set them
    reset_variance: Tensor

    @property
    def variance_ratio(self) -> float:
        """Return geometric mean over channels of the variance measured over the variance kept."""
        ratio = (self.reset_variance / self.variance).clamp(min=1e-12)
        return math.exp(float(ratio.log().mean()))


@torch.no_grad()
def running_statistics(model: nn.Module, loader: Iterable, *, samples: int | None = None) -> list[RunningStatistics]:
    """Compare the running statistics of every batch norm with those that RESET would give it.

    In a merged network the averaged means fit well, and the averaged variances are too large: dividing by them makes
    the input-induced part smaller from norm to norm.

    Args:
        model: The merged or pruned network; it is left unchanged.
        loader: Batches of images.
        samples: How many to use, to the sample; None for all.

    Returns:
        list[RunningStatistics]: By norm, in order of definition.

    Raises:
        SpaceError: There is no batch norm with running statistics.
        DataError: The loader is empty or too short, or a feature is not finite.
    """
    measured = collect_bn(model, loader, samples)
    return [RunningStatistics(name, norm.running_mean.double().cpu(), norm.running_var.double().cpu(),
                              measured[name].mean.cpu(), measured[name].variance.cpu())
            for name, norm in measured_norms(model).items() if name in measured]
