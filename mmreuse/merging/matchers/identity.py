"""Plain weight averaging."""
import torch

from mmreuse.merging.matching.build_matching import by_groups, equal_width
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import correlation
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments


@MATCHERS.register_module(name='identity', needs=('moments',), data_free=True)
def identity(moments: SpaceMoments) -> Matching:
    """Join features of the same number: the baseline that averages weights as they are.

    Args:
        moments: Joint moments of N models of equal width n, covariance of shape (N * n, N * n).

    Returns:
        Matching: n groups, one feature of each model in each; the score is their mean correlation.

    Raises:
        SpaceError: The widths differ.
        DataError: A moment is not finite.
    """
    index = torch.arange(equal_width(moments)).repeat(len(moments.sizes))
    return by_groups(index, correlation(moments), moments.sizes)
