"""Matching by activations and weights together."""
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import mean

import torch
from torch import Tensor

from mmreuse.errors import ConfigError
from mmreuse.graph import TracedModel
from mmreuse.merging.interpolation.descent import Aligner, best_descent, state_of
from mmreuse.merging.matching.coupled_spaces import as_matching, check_moments, correlations, shared_spaces
from mmreuse.merging.matching.matching import Matching
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments


@MATCHERS.register_module(name='blended', needs=('graphs', 'moments', 'spaces'))
def blended(
    graphs: Sequence[TracedModel],
    moments: Mapping[str, SpaceMoments],
    *,
    spaces: Sequence[str] | None = None,
    weight: float = 0.5,
    include_buffers: bool = False,
    restarts: int = 2,
    seed: int = 0,
) -> dict[str, Matching]:
    """Permute every model towards the first by a blend of the similarities of activations and of weights.

    For each space ``weight * R + (1 - weight) * A / c``: ``R`` the correlations of its features, ``A`` the inner
    products of what lies along it under the present permutations of all others, and ``c`` the product of the norms
    of these weights divided by the number of features, so that neither can exceed that number. ``A`` is computed
    anew whenever a space is visited (Xu et al., *Training-Free Pretrained Model Merging*, 2024, merge in both spaces
    too). One objective, the sum of ``c * weight * R`` along the permutations and of ``1 - weight`` times the inner
    product of all weights, grows with each step.

    Args:
        graphs: The traced models, of equal widths; the first stays as it is.
        moments: Joint moments by space; spaces without any are matched by their weights alone.
        spaces: Names of spaces to match, the others keep their order; None for all.
        weight: Of the activations, in [0, 1]: 1 is permuting by correlation, 0 is weight matching.
        include_buffers: Let running statistics take part in the weights, with their raw scale.
        restarts: Number of descents of which the best counts: the first from the identity, the others from a match
            outwards from what is fixed, each in an order of its own.
        seed: Of the orders.

    Returns:
        dict[str, Matching]: By space; the score is the blend of the mean correlation and the cosine of the weights.

    Raises:
        ConfigError: The weight is not in [0, 1], or there are no moments.
        SpaceError: The models are of differing structures or widths.
        DataError: A moment or a weight is not finite.
    """
    if not 0 <= weight <= 1:
        raise ConfigError(f'weight = {weight}: the share of the activations lies in [0, 1].')
    if not moments:
        raise ConfigError("matching with activations needs joint moments; 'weight_matching' needs none.")
    names = shared_spaces(graphs, spaces, same_size=True)
    check_moments(graphs, moments, names)
    target = state_of(graphs[0])
    tables = correlations(moments, names)
    aligners, pairs = [], []
    for number, graph in enumerate(graphs[1:], 1):
        pairs.append({name: table[:len(table) // len(graphs)].chunk(len(graphs), 1)[number]
                      for name, table in tables.items()})
        make = partial(_aligner, graph, names, target, pairs[-1], weight, include_buffers)
        aligners.append(best_descent(make, restarts, seed))
    matchings = {}
    for name in names:
        places = [aligner.places[name] for aligner in aligners]
        scores = [(1 - weight) * aligner.cosine(name) for aligner in aligners]
        if name in tables:
            scores = [score + weight * float(pair[name][torch.arange(len(place)), place].mean())
                      for score, pair, place in zip(scores, pairs, places, strict=True)]
        matchings[name] = as_matching([torch.arange(graphs[0].spaces[name].size), *places], mean(scores or [1.]))
    return matchings


def _aligner(graph: TracedModel, names: Sequence[str], target: Mapping[str, Tensor], pairs: Mapping[str, Tensor],
             weight: float, include_buffers: bool) -> Aligner:
    """Return an aligner whose linear term are the correlations, in units of the weights of each family."""
    aligner = Aligner(graph, names, target, weight=1 - weight, include_buffers=include_buffers)
    for unit in aligner.units:
        scale = aligner.norms(*unit) / sum(graph.spaces[name].size for name in unit) or 1.
        aligner.linear |= {name: weight * scale * pairs[name] for name in unit if name in pairs}
    return aligner
