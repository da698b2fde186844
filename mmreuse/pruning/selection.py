"""Selection of the weights to prune by their saliency."""
from collections.abc import Mapping

import torch
from torch import Tensor

from mmreuse.errors import ConfigError, DataError

SCOPES = ('layer', 'global')


def check_sparsity(sparsity: float) -> None:
    """Raise :class:`ConfigError` unless a sparsity lies in [0, 1)."""
    if not 0 <= sparsity < 1:
        raise ConfigError(f'sparsity={sparsity} is not in [0, 1). It is the share of the listed weights that are zero '
                          'afterwards, e.g. 0.8.')


def check_scope(scope: str) -> None:
    """Raise :class:`ConfigError` unless there is such a scope."""
    if scope not in SCOPES:
        raise ConfigError(f"there is no scope '{scope}'. Take 'layer' (each weight has the sparsity) or 'global' (all "
                          'of them together).')


def pruned_count(size: int, sparsity: float) -> int:
    """Count the weights of ``size`` to prune: ``floor(size * sparsity)``, safe from rounding (0.29 of 100)."""
    return int(round(size * sparsity, 6))


def select_masks(scores: Mapping[str, Tensor], sparsity: float, scope: str = 'global',
                 masks: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Prune the least salient weights, exactly ``floor(sparsity * n)`` of them.

    Among equals those that come first go first, so that ties change no count.

    Args:
        scores: Saliency of each weight.
        sparsity: Share that is pruned, in [0, 1).
        scope: ``'layer'``: of each weight tensor; ``'global'``: of all together, by one threshold.
        masks: False where weights are pruned already. They stay pruned and count.

    Returns:
        dict[str, Tensor]: True where a weight is kept; of the shapes of the scores.

    Raises:
        ConfigError: The sparsity is not in [0, 1), or there is no such scope.
        DataError: A score is not finite.
    """
    check_sparsity(sparsity)
    check_scope(scope)
    flat = {}
    for name, score in scores.items():
        if not score.isfinite().all():
            raise DataError(f"the saliency of '{name}' holds {int((~score.isfinite()).sum())} numbers that are not "
                            'finite. Look for NaN in its weights and in the gradients of the data.')
        gone = torch.zeros_like(score, dtype=torch.bool) if masks is None else ~masks[name]
        flat[name] = score.masked_fill(gone, -torch.inf).flatten()
    if scope == 'layer':
        kept = {name: _keep(score, sparsity) for name, score in flat.items()}
    else:
        sizes = [score.numel() for score in flat.values()]
        kept = dict(zip(flat, _keep(torch.cat(list(flat.values())), sparsity).split(sizes), strict=True))
    return {name: mask.reshape(scores[name].shape) for name, mask in kept.items()}


def _keep(score: Tensor, sparsity: float) -> Tensor:
    count = max(pruned_count(len(score), sparsity), int(score.eq(-torch.inf).sum()))
    if count == 0:
        return torch.ones_like(score, dtype=torch.bool)
    threshold = score.kthvalue(count).values
    kept = score > threshold
    ties = (score == threshold).nonzero().flatten()
    kept[ties[count - int((score < threshold).sum()):]] = True
    return kept
