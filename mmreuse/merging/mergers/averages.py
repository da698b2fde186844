"""Means of the weights of networks, plain and weighted by what each network is sure of."""
import torch
from torch import Tensor

from mmreuse.registry import MERGERS


@MERGERS.register_module(name='average', needs=('weights',))
def average(weights: Tensor) -> Tensor:
    """Return the plain mean ``1/n sum_t W_t`` (Wortsman et al., *Model soups*, 2022).

    Args:
        weights: (n, d).

    Returns:
        Tensor: (d,).
    """
    return weights.mean(0)


@MERGERS.register_module(name='fisher', needs=('weights', 'fisher'))
def fisher(weights: Tensor, fisher: Tensor) -> Tensor:
    """Return the mean weighted by diagonal Fisher information, ``sum_t F_t W_t / sum_t F_t``.

    It is the mode of the product of the networks' Gaussian posteriors (Matena & Raffel, *Fisher-weighted averaging*,
    2022, with equal coefficients). Where no network's information is above zero the mean is plain.

    Args:
        weights: (n, d).
        fisher: (n, d), not negative.

    Returns:
        Tensor: (d,).
    """
    total = fisher.sum(0)
    return (torch.where(total > 0, fisher / total, 1 / len(fisher)) * weights).sum(0)
