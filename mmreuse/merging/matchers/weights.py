"""Matching by weights alone: Git Re-Basin for any network."""
from collections.abc import Sequence
from functools import partial
from statistics import mean

import torch

from mmreuse.graph import TracedModel
from mmreuse.merging.interpolation.descent import Aligner, best_descent, state_of
from mmreuse.merging.matching.coupled_spaces import as_matching, shared_spaces
from mmreuse.merging.matching.matching import Matching
from mmreuse.registry import MATCHERS


@MATCHERS.register_module(name='weight_matching', needs=('graphs', 'spaces'), data_free=True)
def weight_matching(
    graphs: Sequence[TracedModel],
    *,
    spaces: Sequence[str] | None = None,
    include_buffers: bool = False,
    restarts: int = 2,
    seed: int = 0,
) -> dict[str, Matching]:
    """Permute every model towards the first so that the inner product of their weights is largest.

    Coordinate descent, one family of spaces after the other in random order; each step is a linear assignment
    (Ainsworth et al., *Git Re-Basin*, 2023, algorithm 1; with ``restarts=1`` it is theirs). No data is needed. The
    result is a local optimum that depends on start and order.

    Args:
        graphs: The traced models, of equal widths; the first stays as it is.
        spaces: Names of spaces to match, the others keep their order; None for all.
        include_buffers: Let running statistics take part, with their raw scale.
        restarts: Number of descents of which the best counts: the first from the identity, the others from a match
            outwards from what is fixed, each in an order of its own.
        seed: Of the orders.

    Returns:
        dict[str, Matching]: By space; the score is the mean cosine of the weights along it.

    Raises:
        SpaceError: The models are of differing structures or widths.
        DataError: A weight is not finite.
    """
    names = shared_spaces(graphs, spaces, same_size=True)
    target = state_of(graphs[0])
    aligners = [best_descent(partial(Aligner, graph, names, target, include_buffers=include_buffers),
                             restarts, seed) for graph in graphs[1:]]
    matchings = {}
    for name in names:
        cosines = [aligner.cosine(name) for aligner in aligners]
        stays = torch.arange(graphs[0].spaces[name].size)
        matchings[name] = as_matching([stays, *(aligner.places[name] for aligner in aligners)], mean(cosines or [1.]))
    return matchings
