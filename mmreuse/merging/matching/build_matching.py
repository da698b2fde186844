"""From what was found to a :class:`Matching`: groups of features, or invertible maps of each model."""
from collections.abc import Sequence
from statistics import mean

import torch
from torch import Tensor

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import Assign, Dense
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import NEGLIGIBLE
from mmreuse.statistics import SpaceMoments


def by_groups(index: Tensor, similarity: Tensor, sizes: Sequence[int]) -> Matching:
    """Return the matching that averages each group of features.

    Args:
        index: The merged feature of each stacked feature, 0..n'-1, none of them left out, shape (O,).
        similarity: Of all features, shape (O, O).
        sizes: Number of features of each model.

    Returns:
        Matching: The score is the mean similarity of all pairs of features of one group, 1 if there is no such pair.
    """
    return Matching(Assign(index, int(index.max()) + 1), tuple(sizes), mean_within(index, similarity))


def in_order(labels: Tensor) -> Tensor:
    """Number groups by their first member: the merged feature of each, from any labels of the groups, shape (O,)."""
    groups, inverse = labels.unique(return_inverse=True)
    first = torch.full((len(groups),), len(labels)).scatter_reduce_(0, inverse, torch.arange(len(labels)), 'amin')
    return first.argsort().argsort()[inverse]


def mean_within(index: Tensor, similarity: Tensor) -> float:
    """Return the mean similarity of pairs that share a group, by comparing ever farther neighbours in sorted order."""
    order, found = index.argsort(stable=True), []
    for step in range(1, int(index.bincount().max())):
        left, right = order[:-step], order[step:]
        same = index[left] == index[right]
        found.append(similarity[left[same].to(similarity.device), right[same].to(similarity.device)])
    return float(torch.cat(found).mean()) if found else 1.


def by_maps(merges: Sequence[Tensor], unmerges: Sequence[Tensor], moments: SpaceMoments, reference: int) -> Matching:
    """Return the matching that maps every model into the frame of one and averages there.

    Args:
        merges: Each model's map into the frame, shape (n, n).
        unmerges: Their inverses.
        moments: Of the features, shape (N * n,).
        reference: The model whose frame it is.

    Returns:
        Matching: The score is the mean correlation of the reference's features with those mapped onto them, 1 if
        there is no other model.
    """
    merge, scores = torch.cat(list(merges), 1) / len(merges), []
    for number, each in enumerate(merges):
        if number != reference:
            scores.append(_aligned_correlation(moments, each, reference, number))
    return Matching(Dense(merge, torch.cat(list(unmerges))), moments.sizes, mean(scores or [1.]))


def _aligned_correlation(moments: SpaceMoments, merge: Tensor, reference: int, number: int) -> float:
    """Return the mean correlation of the reference's features and the mapped ones of another model."""
    centre, cross, own = cross_moments(moments, reference, number)
    together = (cross * merge).sum(1)
    apart = centre.diagonal() * ((merge @ own) * merge).sum(1)
    alive = apart > NEGLIGIBLE**2 * apart.max()
    return float(torch.where(alive, together, 0.).div(torch.where(alive, apart, 1.).sqrt()).mean())


def cross_moments(moments: SpaceMoments, one: int, other: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the covariances of the features of one model, of both, and of the other."""
    parts = [part.split(list(moments.sizes), 1) for part in moments.covariance.double().split(list(moments.sizes))]
    return parts[one][one], parts[one][other], parts[other][other]


def equal_width(moments: SpaceMoments) -> int:
    """Return the number of features that all models have.

    Raises:
        SpaceError: They have differing numbers.
    """
    if len(set(moments.sizes)) > 1:
        raise SpaceError(f'models have {moments.sizes} features; this matcher needs equal widths. '
                         "Use 'zip', 'kmeans' or 'agglomerative', or 'permute' with the widest model as reference.")
    return moments.sizes[0]


def check_reference(moments: SpaceMoments, reference: int) -> None:
    """Raise :class:`ConfigError` unless there is such a model."""
    if not 0 <= reference < len(moments.sizes):
        raise ConfigError(f'reference = {reference} is not one of the models 0..{len(moments.sizes) - 1}.')


def merged_size(moments: SpaceMoments, size: int | None) -> int:
    """Return the number of merged features asked for, by default as many as the widest model has.

    Raises:
        ConfigError: It is not between 1 and the number of all features.
    """
    size = max(moments.sizes) if size is None else size
    if not 1 <= size <= sum(moments.sizes):
        raise ConfigError(f'size = {size}: {sum(moments.sizes)} features become between 1 and {sum(moments.sizes)}.')
    return size
