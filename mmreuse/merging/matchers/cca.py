"""Alignment by canonical correlation analysis."""
import torch
from torch import Tensor

from mmreuse.errors import ConfigError
from mmreuse.merging.matching.build_matching import by_maps, check_reference, cross_moments, equal_width
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import covariance
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments

# Directions that vary less, relative to the largest variance, are raised to it: float32 features hold no more.
FLOOR = 1e-10


@MATCHERS.register_module(name='cca', needs=('moments',), maps='invertible')
def cca(moments: SpaceMoments, *, gamma: float = 1., reference: int = 0, everywhere: bool = False) -> Matching:
    """Align every model to a reference through the directions in which they correlate most.

    With ``S_i = C_ii + gamma * (tr C_ii / n) * I`` and ``S_1^(-1/2) C_1i S_i^(-1/2) = L D R^T``,

        M_i = S_1^(1/2) L R^T S_i^(-1/2),    U_i = S_i^(1/2) R L^T S_1^(-1/2) = M_i^(-1),

    and M averages over the models (Horoi et al., *Harmony in Diversity*, 2024, section 4; there the ridge is absolute).
    Much gamma turns it into orthogonal Procrustes with scale, none inverts any linear map between models. Such maps are
    symmetries between linear layers only; streams that norms read are aligned by 'procrustes', others by 'permute'.

    Args:
        moments: Joint moments of N models of equal width n, covariance of shape (N * n, N * n).
        gamma: Ridge relative to the mean variance of each model's features. Little of it amplifies directions that
            hardly vary; what is best depends on the networks.
        reference: The model all others are aligned to.
        everywhere: Map all spaces, as published; read by
            :func:`~mmreuse.merging.matching.match_spaces.match_spaces`.

    Returns:
        Matching: dense ``merge`` of shape (n, N * n), ``unmerge`` of shape (N * n, n).

    Raises:
        SpaceError: The widths differ.
        ConfigError: gamma is negative, or there is no such reference.
        DataError: A moment is not finite.
    """
    if not gamma >= 0:
        raise ConfigError(f'gamma = {gamma} must not be negative.')
    check_reference(moments, reference)
    size = equal_width(moments)
    covariance(moments)  # raises for what is not finite
    merges, unmerges = [], []
    for number in range(len(moments.sizes)):
        centre, cross, own = cross_moments(moments, reference, number)
        if number == reference:
            merges.append(torch.eye(size).to(own))
            unmerges.append(merges[-1])
            continue
        root, inverse = _roots(centre, gamma)
        own_root, own_inverse = _roots(own, gamma)
        left, _, right = torch.linalg.svd(inverse @ cross @ own_inverse)
        rotation = left @ right
        merges.append(root @ rotation @ own_inverse)
        unmerges.append(own_root @ rotation.T @ inverse)
    return by_maps(merges, unmerges, moments, reference)


def _roots(covariance: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return symmetric square root of a covariance with its ridge, and the inverse of that root."""
    values, vectors = torch.linalg.eigh(covariance)
    values = values + gamma * covariance.diagonal().mean()
    roots = values.clamp(min=FLOOR * (float(values[-1]) or 1.)).sqrt()  # where nothing varies any scale will do
    return vectors * roots @ vectors.T, vectors / roots @ vectors.T
