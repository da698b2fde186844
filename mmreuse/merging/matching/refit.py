"""Unmerge by regression instead of by copying."""
import torch

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import Dense
from mmreuse.merging.matching.matching import Matching
from mmreuse.statistics import SpaceMoments, solve_ridge


def refit(matching: Matching, moments: SpaceMoments, ridge: float = 1e-6) -> Matching:
    """Replace the unmerge map by the least-squares regression of the features on the merged ones.

    With ``S = E[f f^T]`` the uncentred second moments of the stacked features and ``M`` the merge map,
    ``U = S M^T (M S M^T + ridge * I)^-1``. A linear or 1x1 layer fused with it, ``sum_i M_i W_i U_i``, has the weights
    that come closest to ``sum_i M_i W_i f_i`` given the merged features ``M f``, in closed form from moments that are
    there already (the refit of Nasery et al., *PLeaS*, 2025; for kernels over several positions an approximation,
    since moments between positions are not kept).

    Args:
        matching: Of a space without blocks, which a dense map would mix.
        moments: Of the same models and space.
        ridge: Penalty, relative to the mean second moment of the merged features; it settles features that are dead
            or copies of each other.

    Returns:
        Matching: The same merge map, another unmerge map, both as matrices.

    Raises:
        ConfigError: ``ridge`` is not positive.
        SpaceError: The moments are of models of other widths.
    """
    if not ridge > 0:
        raise ConfigError(f'ridge = {ridge} must be positive.')
    if moments.sizes != matching.sizes:
        raise SpaceError(f'the matching is of models with {matching.sizes} features, the moments are of '
                         f'{moments.sizes}.')
    second = moments.covariance + torch.outer(moments.mean, moments.mean)  # (O, O)
    cross = matching.map.merge(second)  # (n', O): M S
    gram = matching.map.merge(cross.T.contiguous())  # (n', n'): M S M^T
    unmerge = solve_ridge(gram, cross.T, ridge * gram.diagonal().mean())
    merge = matching.map.dense(len(second)).merge_matrix
    return Matching(Dense(merge, unmerge.contiguous().to(merge)), matching.sizes, matching.score)
