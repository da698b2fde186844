"""Prune a trained network in one call."""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.calibration import Source
from mmreuse.errors import ConfigError
from mmreuse.networks import Edit, record_edit
from mmreuse.pruning.fisher.fisher import Fisher
from mmreuse.pruning.scoring import check_saliency, estimate_fisher, score_weights
from mmreuse.pruning.selection import check_sparsity, pruned_count, select_masks
from mmreuse.pruning.weights import apply_masks, copy_permanent, find_masks, listed_weights, make_permanent
from mmreuse.registry import EDITS
from mmreuse.renormalization import apply_renormalizers, find_served
from mmreuse.statistics import repeatable
from mmreuse.utils.configs.methods import MethodLike, method_name


@EDITS.register_module(name='prune')
class PruneEdit(Edit):
    """Weights set to zero."""
    verb = 'pruned to {sparsity:.0%} zeros by {saliency}'


def prune(
    model: nn.Module,
    loader: Iterable | None,
    sparsity: float,
    saliency: MethodLike = 'magnitude',
    *,
    renormalizers: Sequence[MethodLike] = (),
    validation: Iterable | None = None,
    **options: Any,
) -> nn.Module:
    """Prune a network in one shot and renormalize it.

    Args:
        model: A trained network; left as it is.
        loader: Labelled training data for the Fisher, and images for renormalizers, see
            :func:`mmreuse.statistics.data.batches`. None if neither is asked for.
        sparsity: Share of the listed weights that are zero afterwards, in [0, 1): ``floor(sparsity * n)`` of n.
        saliency: Name, config or function of :data:`mmreuse.registry.SALIENCIES`.
        renormalizers: Names, configs or functions of :data:`mmreuse.registry.RENORMALIZERS`, run one after the other.
            Goals are the statistics of the dense network. A budget is an option of theirs:
            ``dict(type='reset', samples=64)``.
        validation: Labelled batches, not of the test set, for renormalizers that choose by accuracy on them.
        **options: ``scope``, ``update``, ``fisher``, ``modules``, ``exclude`` of :func:`prune_weights`.

    Returns:
        nn.Module: A copy whose pruned weights are exactly zero.

    Raises:
        ConfigError: As :func:`prune_weights`; or renormalizers have no data, or nothing to choose by.
        DataError: As :func:`prune_weights`; or a renormalizer has too little data.
    """
    renormalizers = find_served(list(renormalizers), loader, validation)
    loader = None if loader is None else repeatable(loader)
    pruned = copy_permanent(model)
    prune_weights(pruned, loader, sparsity, saliency, **options)
    record_edit(pruned, 'prune', [model], sparsity=sparsity, saliency=method_name(saliency))
    apply_renormalizers(pruned, loader, renormalizers, ends=[model], sources=[Source(model)], validation=validation)
    return pruned


def prune_weights(
    model: nn.Module,
    loader: Iterable | None,
    sparsity: float,
    saliency: MethodLike = 'magnitude',
    *,
    scope: str = 'global',
    update: str | None = None,
    fisher: Fisher | Mapping[str, Any] | None = None,
    modules: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Prune a network in place. Weights that are zero already stay zero and count.

    Args:
        model: A trained network. Masks of ``torch.nn.utils.prune`` are made permanent.
        loader: Labelled batches for the Fisher; None if it is not needed.
        sparsity: Share of the listed weights that are zero afterwards.
        saliency: Name, config or function of :data:`mmreuse.registry.SALIENCIES`.
        scope: ``'global'``: the least salient of all listed weights go; ``'layer'``: those of each weight tensor.
        update: ``'summed'`` or ``'joint'``: the kept weights make up for the pruned ones, see
            :meth:`mmreuse.pruning.fisher.fisher.Fisher.compensate`. None leaves them.
        fisher: That of this network, if it is known; or how it is estimated: ``samples`` (1000), ``average`` (1),
            ``chunk`` of :func:`mmreuse.pruning.fisher.gradients.per_sample_gradients`, ``damp`` and ``block`` of
            :class:`mmreuse.pruning.fisher.fisher.Fisher`.
        modules: Regular expressions of the modules that are pruned, see
            :func:`mmreuse.pruning.weights.listed_weights`; None for all convolutions and linear layers.
        exclude: Regular expressions of modules that are not: shortcuts, or the classifier.
        masks: False where weights are pruned already, by name; None for where they are zero.

    Returns:
        dict[str, Tensor]: True where a weight is kept, for each listed weight.

    Raises:
        ConfigError: The sparsity is not in [0, 1) or below what the network has, a name fits nothing, an option or
            method does not exist, or data is missing.
        DataError: There are too few samples, a number is not finite, or the Fisher is singular. The weights are
            unchanged then.
    """
    check_sparsity(sparsity)
    method, settings = check_saliency(saliency, scope, update, fisher)
    make_permanent(model)
    weights = listed_weights(model, modules, exclude)
    masks = find_masks(weights) if masks is None else {name: masks[name] for name in weights}
    check_growth(masks, sparsity)
    curvature = estimate_fisher(model, loader, weights, masks, settings)
    kept = select_masks(score_weights(method, weights, curvature), sparsity, scope, masks)
    with torch.no_grad():
        if update is not None:
            gone = {name: masks[name] & ~kept[name] for name in weights}
            for name, change in curvature.compensate(weights, gone, update).items():
                weights[name] += change.to(weights[name])
        apply_masks(weights, kept)
    return kept


def check_growth(masks: Mapping[str, Tensor], sparsity: float) -> None:
    """Raise :class:`ConfigError` if more weights are pruned already, False in the masks, than a sparsity prunes."""
    size = sum(mask.numel() for mask in masks.values())
    zeros = size - sum(int(mask.sum()) for mask in masks.values())
    if zeros > pruned_count(size, sparsity):
        raise ConfigError(f'the network has sparsity {zeros / size:.4f} already ({zeros} of {size} listed weights are '
                          f'zero), more than the {sparsity} asked for. Ask for more, or prune the dense network.')
