"""Orthogonal alignment of every model with one of them."""
import torch

from mmreuse.merging.matching.build_matching import by_maps, check_reference, cross_moments, equal_width
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import covariance
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments


@MATCHERS.register_module(name='procrustes', needs=('moments',))
def procrustes(moments: SpaceMoments, *, scale: bool = False, reference: int = 0) -> Matching:
    """Align every model to a reference by the closest orthogonal map.

    Solves ``min_Q ||X_1 - Q X_i||_F`` with ``Q`` orthogonal (Schönemann, 1966), features centred, in closed form from
    the cross-covariance ``C_1i = L D R^T``: ``Q = L R^T``. No features are kept.

    Args:
        moments: Joint first and second moments of the space's features, covariance of shape (N * n, N * n), computed
            over samples and positions.
        scale: Also match the total variance.
        reference: The model all others are aligned to.

    Returns:
        Matching: dense ``merge`` of shape (n, N * n), ``unmerge`` of shape (N * n, n).

    Raises:
        SpaceError: The models have differing widths in this space.
        ConfigError: There is no such reference.
        DataError: A feature is not finite.
    """
    check_reference(moments, reference)
    size = equal_width(moments)
    covariance(moments)  # raises for what is not finite
    merges, unmerges = [], []
    for number in range(len(moments.sizes)):
        centre, cross, own = cross_moments(moments, reference, number)
        left, _, right = torch.linalg.svd(cross)
        merge = left @ right if number != reference else torch.eye(size).to(cross)
        factor = (centre.trace() / own.trace()).sqrt() if scale and own.trace() > 0 < centre.trace() else 1.
        merges.append(merge * factor)
        unmerges.append(merge.T / factor)
    return by_maps(merges, unmerges, moments, reference)
