"""Greedy joining of the most similar features, within models and across."""
import numpy as np
import torch

from mmreuse.errors import ConfigError
from mmreuse.merging.matching.build_matching import by_groups, in_order, merged_size
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import similarity
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments

Pairs = list[tuple[int, int]]


@MATCHERS.register_module(name='zip', needs=('moments',))
def zip_features(
    moments: SpaceMoments,
    *,
    alpha: float = 0.3,
    beta: float = 0.125,
    size: int | None = None,
    reduction: float | None = None,
    metric: str = 'correlation',
) -> Matching:
    """Join the two most similar groups of features until few enough are left (Stoica et al., *ZipIt!*, 2024, alg. 1).

    Each step takes the pair of groups with the greatest similarity, the first in row-major order if there are several.
    The joined group g stands at the place of the first and belongs to its model; towards any other group k its
    similarity is ``alpha * min(S[g, k], S[h, k])``, negative ones included, as published. After
    ``int(floor((O - n') / N) * beta)`` joins within a model, but one at least, its groups no longer join each other.

    With three models or more these budgets can forbid all that is left. Then they are lifted: similarities are
    recomputed from the joins made so far as if there had been none, and joining goes on. With ``alpha <= 0`` no group
    is joined twice, so groups have two features at most; where pairs alone do not suffice, groups join by their
    least similarity (complete linkage).

    Args:
        moments: Joint moments of one or more models of any widths, covariance of shape (O, O). One model is
            compressed to ``size``.
        alpha: Factor that makes repeated joins unlikely, at most 1.
        beta: Share of each model's part of the joins that may be within it.
        size: Number n' of merged features. By default that of the widest model.
        reduction: The same as a share: ``n' = int(O * (1 - reduction))``.
        metric: One of :data:`mmreuse.merging.matching.metrics.METRICS`.

    Returns:
        Matching: n' groups in the order of their first members.

    Raises:
        ConfigError: An option is out of range, or size and reduction are both given.
        DataError: A moment is not finite.
    """
    if not (alpha <= 1 and beta >= 0):
        raise ConfigError(f'alpha = {alpha} must be at most 1 and beta = {beta} not negative.')
    size = _size(moments, size, reduction)
    table = similarity(moments, metric)
    pairs = join_greedily(table.cpu().numpy(), moments.sizes, size, alpha, beta)
    labels = torch.arange(len(table))
    for keep, drop in pairs:
        labels[labels == drop] = keep
    return by_groups(in_order(labels), table, moments.sizes)


def _size(moments: SpaceMoments, size: int | None, reduction: float | None) -> int:
    """Return the number of merged features."""
    if reduction is None:
        return merged_size(moments, size)
    if size is not None:
        raise ConfigError(f'reduction = {reduction} and size = {size} are two ways to say one thing; give one of them.')
    total = sum(moments.sizes)
    size = int(total * (1 - reduction) + 1e-4)
    if not 1 <= size <= total:
        raise ConfigError(f'reduction = {reduction} would leave {size} of {total} features.')
    return size


def join_greedily(table: np.ndarray, sizes: tuple[int, ...], size: int, alpha: float, beta: float) -> Pairs:
    """Return the joins of :func:`zip_features` in order: each as the groups' first members, the kept one first."""
    total, models = len(table), np.repeat(np.arange(len(sizes)), sizes)
    budget = int((total - size) // len(sizes) * beta + 1e-4)
    stages = [(alpha, max(budget, 1)), (alpha, total)] + ([(1., total)] if alpha <= 0 else [])
    pairs: Pairs = []
    for decay, limit in stages:
        if len(pairs) < total - size:
            pairs = _join(table, models, total - size, decay, limit, pairs)
    return pairs


def _join(table: np.ndarray, models: np.ndarray, joins: int, alpha: float, limit: int, pairs: Pairs) -> Pairs:
    """Add to ``pairs`` until there are ``joins`` or none is allowed.

    ``bounds[g]`` is at least the greatest similarity of group g to any later group. Joins raise it where they must and
    nothing ever lowers it but a look at the row, taken when it is the first of the greatest: if the row has no such
    similarity the bound becomes what it has, and otherwise that is the first of the greatest of the whole table.
    """
    total, pairs = len(table), list(pairs)
    rows = np.empty((total, total + 8))[:, :total]  # strides of a power of two would share few cache lines
    np.copyto(rows, table)
    np.fill_diagonal(rows, -np.inf)
    for keep, drop in pairs:
        _merge(rows, keep, drop, alpha)
    bounds = np.array([row[g + 1:].max(initial=-np.inf) for g, row in enumerate(rows)])
    bounds[[drop for _, drop in pairs]] = -np.inf
    left = [limit] * (int(models[-1]) + 1)
    while len(pairs) < joins:
        keep = int(bounds.argmax())
        bound = bounds[keep]
        if bound == -np.inf:
            break
        later = rows[keep, keep + 1:]
        drop = int(later.argmax())
        if later[drop] < bound:
            bounds[keep] = later[drop]
            continue
        drop += keep + 1
        pairs.append((keep, drop))
        merged = _merge(rows, keep, drop, alpha)
        np.maximum(bounds[:keep], merged[:keep], out=bounds[:keep])
        bounds[keep], bounds[drop] = merged[keep + 1:].max(), -np.inf
        model = models[keep]
        if model == models[drop]:
            left[model] -= 1
            if left[model] == 0:
                own = np.flatnonzero(models == model)
                rows[own[0]:own[-1] + 1, own[0]:own[-1] + 1] = -np.inf
    return pairs


def _merge(rows: np.ndarray, keep: int, drop: int, alpha: float) -> np.ndarray:
    """Join two groups in place; returns the new similarities of the kept one, -inf to itself and to what is gone."""
    merged = np.minimum(rows[keep], rows[drop])
    if alpha > 0:
        merged *= alpha
    else:
        merged.fill(-np.inf)
    rows[keep] = merged
    rows[:, keep] = merged
    rows[:, drop] = -np.inf
    return merged
