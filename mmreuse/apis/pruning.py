"""Prune networks from a notebook."""
from collections.abc import Sequence
from typing import Any

from torch import nn

from mmreuse.networks import open_network
from mmreuse.networks.references import Reference
from mmreuse.pruning import Sparsity, measure_sparsity
from mmreuse.pruning import prune as prune_network
from mmreuse.statistics.bn import measured_norms
from mmreuse.statistics.data import Data, repeatable
from mmreuse.utils.configs.methods import MethodLike


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
