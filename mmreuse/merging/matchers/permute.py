"""Permutation of every model onto one of them."""
import torch
from scipy.optimize import linear_sum_assignment

from mmreuse.errors import SpaceError
from mmreuse.merging.matching.build_matching import by_groups, check_reference
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import similarity
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments


@MATCHERS.register_module(name='permute', needs=('moments',))
def permute(moments: SpaceMoments, *, metric: str = 'correlation', reference: int = 0) -> Matching:
    """Join every feature to the one of a reference model so that the similarities add up to the most.

    One linear assignment problem for each other model, O(n^3) (Li et al., *Convergent Learning*, 2016; activation
    matching of Ainsworth et al., *Git Re-Basin*, 2023, section 3.1).

    Args:
        moments: Joint moments of N models, covariance of shape (O, O).
        metric: One of :data:`mmreuse.merging.matching.metrics.METRICS`.
        reference: The model all others are permuted onto; merged features stand in its order. Narrower models are
            spread over its features.

    Returns:
        Matching: As many merged features as the reference has, at most one feature of each model in each.

    Raises:
        SpaceError: A model is wider than the reference.
        ConfigError: There is no such model or metric.
        DataError: A moment is not finite.
    """
    check_reference(moments, reference)
    if max(moments.sizes) > moments.sizes[reference]:
        raise SpaceError(f'models have {moments.sizes} features; all are to be permuted onto model {reference}, and '
                         f'wider ones do not fit. Use reference={moments.sizes.index(max(moments.sizes))}, '
                         "or 'zip', which folds.")
    table = similarity(moments, metric)
    rows = table.split(list(moments.sizes))[reference]
    places = []
    for number, block in enumerate(rows.split(list(moments.sizes), 1)):
        index = torch.arange(block.shape[1])
        if number != reference:
            left, right = linear_sum_assignment(block.cpu().numpy(), maximize=True)
            index[torch.from_numpy(right)] = torch.from_numpy(left)
        places.append(index)
    return by_groups(torch.cat(places), table, moments.sizes)
