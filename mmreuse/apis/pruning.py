"""Prune networks from a notebook."""
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mmreuse.deployment.latency_budget import Budget, BudgetReport, compare_costs
from mmreuse.networks import open_network
from mmreuse.networks.references import Reference
from mmreuse.pruning import Sparsity, measure_sparsity
from mmreuse.pruning import prune as prune_network
from mmreuse.pruning import prune_channels as prune_network_channels
from mmreuse.pruning.channels.channels import select_channels
from mmreuse.statistics.bn import measured_norms
from mmreuse.statistics.data import Data, repeatable
from mmreuse.statistics.passes import images_of
from mmreuse.utils.configs.methods import MethodLike, options_of


def prune(network: Reference, data: Data | None, sparsity: float,
          saliency: MethodLike = 'magnitude', *, renormalizers: Sequence[MethodLike] | None = None,
          validation: Data | None = None, **options: Any) -> tuple[nn.Module, Sparsity]:
    """Prune a trained classifier without training, whatever library it comes from.

    ::

        sparse, result = prune(network, None, 0.7)          # smallest weights, no data
        sparse, result = prune(network, (images, labels), 0.9, 'woodfisher', update='joint', fisher=dict(samples=500))
        print(result)                                       # zeros of every layer

    Args:
        network: From images to scores, or its file; left as it is.
        data: Images (N, C, H, W) and labels (N,); a data set, or batches, of both. None where no data is needed.
        sparsity: Share of the weights of convolutions and linear layers that are zero afterwards, in [0, 1).
        saliency: Name, config or function of :data:`mmreuse.registry.SALIENCIES`.
        renormalizers: Names, configs or functions of :data:`mmreuse.registry.RENORMALIZERS`; None: ``'reset'`` where
            there are batch norms, and data.
        validation: Images and labels, not of the test set, for renormalizers that choose (``'auto'``).
        **options: Of :func:`mmreuse.pruning.prune`: ``scope``, ``update``, ``fisher``, ``modules``, ``exclude``.

    Returns:
        tuple: A copy with zeros, and the share of zeros of every layer.

    Raises:
        ConfigError: An option or method does not exist, or data is missing.
        DataError: There are too few samples.
    """
    network, loader = open_network(network), None if data is None else repeatable(data)
    if renormalizers is None:
        renormalizers = ('reset',) if loader is not None and measured_norms(network) else ()
    pruned = prune_network(network, loader, sparsity, saliency, renormalizers=renormalizers,
                           validation=None if validation is None else repeatable(validation), **options)
    return pruned, measure_sparsity(pruned, options.get('modules'), options.get('exclude', ()))


@options_of(select_channels, without=('cost', 'limit'))
def prune_channels(network: Reference, data: Data, target: float | None = None, saliency: MethodLike = 'magnitude', *,
                   max_latency: float | None = None, max_macs: float | None = None, max_params: float | None = None,
                   max_bytes: float | None = None, cost: str = 'macs', engine: MethodLike | None = None,
                   batch_size: int = 1, threads: int = 1, cache: str | None = 'work_dirs/cache',
                   renormalizers: Sequence[MethodLike] = (), **options: Any) -> tuple[nn.Module, BudgetReport]:
    """Remove channels and heads of a network until it keeps within a budget, such as milliseconds on an engine.

    ::

        fast, result = prune_channels(network, images, max_latency=2.5, engine='onnxruntime', multiple=8,
                                      renormalizers=['calibrate'])                          # milliseconds
        fast, result = prune_channels(network, images, 0.5, cost='latency', engine='openvino', multiple=8)
        small, result = prune_channels(network, images, max_params=1e6)
        print(result)       # predicted beside measured

    Args:
        network: Any, or its file; left as it is.
        data: Images, which renormalizers use and which say what the network takes; with labels for a saliency that
            needs the Fisher. See :func:`mmreuse.statistics.data.batches`.
        target: Share of ``cost``, in (0, 1).
        saliency: Name, config or function of :data:`mmreuse.registry.SALIENCIES`.
        max_latency, max_macs, max_params, max_bytes, cost, engine, batch_size, threads, cache: See
            :class:`mmreuse.deployment.latency_budget.Budget`.
        renormalizers: Names, configs or functions of :data:`mmreuse.registry.RENORMALIZERS`.
        **options: Of :func:`mmreuse.pruning.channels.channels.select_channels`: ``multiple``, ``minimum``, ...

    Returns:
        tuple: A smaller network; and what it costs beside the original, as predicted and as measured.

    Raises:
        ConfigError: There is not one budget, an option or method does not exist, or data is missing.
        InfeasibleError: Even the smallest network allowed costs more; names the least possible.
        SpaceError: Nothing can shrink.
    """
    network, loader = open_network(network), repeatable(data)
    budget = Budget(target, cost, max_latency, max_macs, max_params, max_bytes, engine, batch_size, threads,
                    cache).options()
    image = torch.zeros_like(images_of(next(iter(loader)), network)[:1])
    pruned = prune_network_channels(network, image, loader=loader, saliency=saliency, renormalizers=renormalizers,
                                    **budget, **options)
    return pruned, compare_costs(network, pruned, image, budget['cost'])
