"""Orthogonal alignment of every model with one of them."""
import torch

from mmreuse.errors import SpaceError
from mmreuse.merging.matching.build_matching import by_maps, check_reference, cross_moments
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import covariance
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments


@MATCHERS.register_module(name='procrustes', needs=('moments',), maps='orthogonal')
def procrustes(moments: SpaceMoments, *, scale: bool = False, reference: int = 0, everywhere: bool = False) -> Matching:
    """Align every model to a reference by the closest orthogonal map.

    Solves ``min_Q ||X_1 - Q X_i||_F`` with ``Q`` orthogonal (Schönemann, 1966), features centred, in closed form from
    the cross-covariance ``C_1i = L D R^T``: ``Q = L R^T``, with orthonormal columns where model i is narrower. No
    features are kept. Behind a ReLU or a batch norm such a map is no symmetry, and features are permuted instead.

    Args:
        moments: Joint first and second moments of the space's features, covariance of shape (N * n, N * n), computed
            over samples and positions.
        scale: Also match the total variance.
        reference: The model all others are aligned to, the widest one.
        everywhere: Map spaces whose group has no such maps as well, as published; read by
            :func:`~mmreuse.merging.matching.match_spaces.match_spaces`.

    Returns:
        Matching: dense ``merge`` of shape (n, sum of n_i), ``unmerge`` of shape (sum of n_i, n).

    Raises:
        SpaceError: A model is wider than the reference.
        ConfigError: There is no such reference.
        DataError: A feature is not finite.
    """
    check_reference(moments, reference)
    size = moments.sizes[reference]
    if max(moments.sizes) > size:
        raise SpaceError(f'models have {moments.sizes} features, and no orthogonal map takes more than {size} to model '
                         f'{reference}. Use reference={moments.sizes.index(max(moments.sizes))}.')
    covariance(moments)  # raises for what is not finite
    merges, unmerges = [], []
    for number in range(len(moments.sizes)):
        centre, cross, own = cross_moments(moments, reference, number)
        left, _, right = torch.linalg.svd(cross, full_matrices=False)
        merge = left @ right if number != reference else torch.eye(size).to(cross)
        factor = (centre.trace() / own.trace()).sqrt() if scale and own.trace() > 0 < centre.trace() else 1.
        merges.append(merge * factor)
        unmerges.append(merge.T / factor)
    return by_maps(merges, unmerges, moments, reference)
