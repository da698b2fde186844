"""The best pairing of all features, within models and across."""
import networkx as nx
import torch

from mmreuse.errors import SpaceError
from mmreuse.merging.matching.build_matching import by_groups, in_order
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import similarity
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments


@MATCHERS.register_module(name='optimal', needs=('moments',))
def optimal(moments: SpaceMoments, *, metric: str = 'correlation') -> Matching:
    """Pair all features of two models, of the same or of both, so that the similarities add up to the most.

    A maximum-weight perfect matching of the complete graph over all features (Edmonds, 1965). It is what greedy
    pairing approximates: Stoica et al., *ZipIt!*, 2024, table 4, found both equally good. networkx solves it in plain
    Python in O(O^3), 3 s at 64 features a model and eight times that at 128: wider spaces want the greedy 'zip'.

    Args:
        moments: Joint moments of two models, covariance of shape (O, O).
        metric: One of :data:`mmreuse.merging.matching.metrics.METRICS`.

    Returns:
        Matching: Half as many merged features, each of two; an odd one stays alone.

    Raises:
        SpaceError: There are more or fewer than two models.
        ConfigError: There is no such metric.
        DataError: A moment is not finite.
    """
    if len(moments.sizes) != 2:
        raise SpaceError(f"'optimal' pairs the features of two models, there are {len(moments.sizes)}. "
                         "Use 'zip', which takes any number.")
    table = similarity(moments, metric)
    graph = nx.Graph()
    graph.add_nodes_from(range(len(table)))
    left, right = torch.triu_indices(len(table), len(table), 1).tolist()
    graph.add_weighted_edges_from(zip(left, right, table[left, right].tolist(), strict=True))
    labels = torch.arange(len(table))
    for one, other in nx.max_weight_matching(graph, maxcardinality=True):
        labels[max(one, other)] = min(one, other)
    return by_groups(in_order(labels), table, moments.sizes)
