"""Saliencies: estimates of the importance of each weight.

A saliency is a plain function ``f(weights, *, ...)`` from weights by name to tensors of the same shapes: the larger,
the more is lost without the weight. One that needs ``fisher`` gets the
:class:`~mmreuse.pruning.fisher.fisher.Fisher` of the network, and needs labelled data.
"""
from collections.abc import Mapping

import torch
from torch import Tensor

from mmreuse.pruning.fisher.fisher import Fisher
from mmreuse.registry import SALIENCIES


@SALIENCIES.register_module(name='magnitude', data_free=True)
def magnitude(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``|w|``."""
    return {name: weight.detach().abs() for name, weight in weights.items()}


@SALIENCIES.register_module(name='random', data_free=True)
def random(weights: Mapping[str, Tensor], *, seed: int = 0) -> dict[str, Tensor]:
    """Uniform random numbers: what any other saliency should be better than.

    Args:
        weights: By name.
        seed: Of the numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(weight.shape, generator=generator).to(weight.device) for name, weight in weights.items()}


@SALIENCIES.register_module(name='diagonal_fisher', needs=('fisher',))
def diagonal_fisher(weights: Mapping[str, Tensor], *, fisher: Fisher) -> dict[str, Tensor]:
    """``w^2 mean_k(g_k^2) / 2``: the loss that the diagonal of the Fisher predicts (optimal brain damage).

    ``damp`` and ``block`` of the Fisher do not matter.
    """
    saliencies = {}
    for name, weight in weights.items():
        start, stop = fisher.gradients.ranges[name]
        squares = torch.cat([part.square().mean(0) for _, part in fisher.gradients.columns(start, stop).chunks()])
        saliencies[name] = weight.detach().double().square() * squares.reshape(weight.shape).to(weight.device) / 2
    return saliencies


@SALIENCIES.register_module(name='woodfisher', needs=('fisher',))
def woodfisher(weights: Mapping[str, Tensor], *, fisher: Fisher) -> dict[str, Tensor]:
    """``w^2 / (2 [F^-1]_qq)``: the loss when one weight goes and the others make up for it.

    Singh and Alistarh, *WoodFisher*, 2020, equation 4 (optimal brain surgeon).
    """
    return {name: weight.detach().double().square() / (2 * fisher.inverse_diagonal[name].to(weight.device))
            for name, weight in weights.items()}
