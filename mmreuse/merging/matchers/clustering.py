"""Groups of features found by clustering."""
import warnings

import numpy as np
import torch
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.exceptions import ConvergenceWarning

from mmreuse.merging.matching.build_matching import by_groups, in_order, merged_size
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import similarity
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments
from mmreuse.utils.names import refuse_other

LINKAGES = ('average', 'complete', 'single')


@MATCHERS.register_module(name='kmeans', needs=('moments',))
def kmeans(moments: SpaceMoments, *, size: int | None = None, metric: str = 'correlation', restarts: int = 1,
           seed: int = 0) -> Matching:
    """Cluster features by their similarities to all features (baseline of Stoica et al., *ZipIt!*, 2024, table 4).

    Features are points in as many dimensions as there are features: the rows of the table of similarities.

    Args:
        moments: Joint moments of N models of any widths, covariance of shape (O, O).
        size: Number of merged features; None for that of the widest model.
        metric: One of :data:`mmreuse.merging.matching.metrics.METRICS`.
        restarts: Number of k-means++ starts, of which the best counts.
        seed: Of the starts.

    Returns:
        Matching: Exactly ``size`` groups.

    Raises:
        ConfigError: There are fewer features than ``size``, or no such metric.
        DataError: A moment is not finite.
    """
    size = merged_size(moments, size)
    table = similarity(moments, metric)
    with warnings.catch_warnings():  # equal rows leave clusters empty, which is corrected below
        warnings.simplefilter('ignore', ConvergenceWarning)
        labels = KMeans(size, n_init=restarts, random_state=seed).fit_predict(table.cpu().numpy())
    return by_groups(in_order(torch.from_numpy(_fill(labels, size))), table, moments.sizes)


@MATCHERS.register_module(name='agglomerative', needs=('moments',))
def agglomerative(moments: SpaceMoments, *, size: int | None = None, metric: str = 'correlation',
                  linkage: str = 'average') -> Matching:
    """Join the two groups most alike until ``size`` are left: with complete linkage, zip without decay and budgets.

    Args:
        moments: Joint moments of N models of any widths, covariance of shape (O, O).
        size: Number of merged features; None for that of the widest model.
        metric: One of :data:`mmreuse.merging.matching.metrics.METRICS`.
        linkage: What counts between groups: the 'average' similarity, the least ('complete') or greatest ('single').

    Returns:
        Matching: Exactly ``size`` groups.

    Raises:
        ConfigError: There are fewer features than ``size``, no such metric or no such linkage.
        DataError: A moment is not finite.
    """
    refuse_other('linkage', linkage, LINKAGES)
    size = merged_size(moments, size)
    table = similarity(moments, metric)
    if len(table) == 1:
        return by_groups(torch.zeros(1, dtype=torch.long), table, moments.sizes)
    distance = (table.max() - table).fill_diagonal_(0)
    labels = AgglomerativeClustering(size, metric='precomputed', linkage=linkage).fit_predict(distance.cpu().numpy())
    return by_groups(in_order(torch.from_numpy(labels)), table, moments.sizes)


def _fill(labels: np.ndarray, size: int) -> np.ndarray:
    """Give each cluster that is empty a member of the largest one."""
    counts = np.bincount(labels, minlength=size)
    for empty in np.flatnonzero(counts == 0):
        largest = counts.argmax()
        labels[np.flatnonzero(labels == largest)[-1]] = empty
        counts[largest], counts[empty] = counts[largest] - 1, 1
    return labels
