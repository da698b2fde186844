"""Matching by weights alone: Git Re-Basin for any network."""
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import mean

import torch
from torch import Tensor

from mmreuse.errors import SpaceError
from mmreuse.graph import (
    Assign,
    Dense,
    FeatureSpace,
    TracedModel,
    apply_maps,
    copy_model,
    resolve_maps,
    without_mean,
)
from mmreuse.merging.interpolation.descent import Aligner, best_descent, state_of
from mmreuse.merging.matching.coupled_spaces import shared_spaces
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
    return _match(graphs, names, (), restarts, seed, include_buffers=include_buffers)


@MATCHERS.register_module(name='generalized_weight_matching', needs=('graphs', 'spaces'), data_free=True,
                          maps='orthogonal')
def generalized_weight_matching(
    graphs: Sequence[TracedModel],
    *,
    spaces: Sequence[str] | None = None,
    restarts: int = 2,
    seed: int = 0,
) -> dict[str, Matching]:
    """Match weights as 'weight_matching' does, with all symmetries that networks in canonical form have left.

    Streams that only linear layers and norms touch, and what is inside heads or linear bottlenecks, are turned by
    orthogonal maps; everything else is permuted. The descent is the same: a space is aligned by the sum of
    ``W_target W^T`` over all axes along it, by assignment or by its polar factor; heads are assigned by the sum of
    singular values of what is inside them (queries with keys, values with projections). In canonical form heads and
    units under ReLU are balanced, so that invertible maps and scales are fixed up to these (generalised linear mode
    connectivity for transformers, 2025). No data is needed.

    Args:
        graphs: The traced models, in canonical form (:func:`~mmreuse.graph.canonicalize`); the first is the widest, and
            stays as it is. Blocks must be of equal widths.
        spaces: Names of spaces to match, the others keep their order; None for all.
        restarts: As for 'weight_matching'.
        seed: Of the orders.

    Returns:
        dict[str, Matching]: By space; the score is the mean cosine of the weights along it.

    Raises:
        SpaceError: The models are of differing structures, or one is wider than the first.
        DataError: A weight is not finite.
    """
    names = shared_spaces(graphs, spaces)
    turned = [name for name in names if graphs[0].spaces[name].group in ('orthogonal', 'invertible')]
    return _match(graphs, names, turned, restarts, seed)


def _match(graphs: Sequence[TracedModel], names: Sequence[str], turned: Sequence[str], restarts: int, seed: int,
           **options: bool) -> dict[str, Matching]:
    target = state_of(graphs[0])
    grown = [widened(graph, graphs[0].spaces, names) for graph in graphs[1:]]
    aligners = [best_descent(partial(Aligner, graph, names, target, turned=turned, **options), restarts, seed)
                for graph, _ in grown]
    sizes = {name: [graph.spaces[name].size for graph in graphs] for name in names}
    matchings = {}
    for name in names:
        score = mean([aligner.cosine(name) for aligner in aligners] or [1.])
        stays = torch.arange(sizes[name][0])
        if name in turned:
            starts = [maps.get(name) for _, maps in grown]
            matchings[name] = _turned(len(stays), [aligner.turns[name] for aligner in aligners], starts, sizes[name],
                                      score)
        else:
            places = [stays, *(aligner.places[name] for aligner in aligners)]
            index = torch.cat([order.argsort()[:size] for order, size in zip(places, sizes[name], strict=True)])
            matchings[name] = Matching(Assign(index, len(stays)), sizes[name], score)
    return matchings


def _turned(size: int, turns: Sequence[Tensor], starts: Sequence[Dense | None], sizes: Sequence[int],
            score: float) -> Matching:
    """Return the matching that maps every model into the frame of the first by what it was widened and turned by."""
    merges = unmerges = [torch.eye(size, dtype=torch.float64)]
    for turn, start in zip(turns, starts, strict=True):
        merges = [*merges, turn if start is None else turn @ start.merge_matrix]
        unmerges = [*unmerges, turn.T if start is None else start.unmerge_matrix @ turn.T]
    return Matching(Dense(torch.cat(merges, 1) / len(merges), torch.cat(unmerges)), sizes, score)


def widened(graph: TracedModel, spaces: Mapping[str, FeatureSpace], names: Sequence[str]) -> tuple[
        TracedModel, dict[str, Dense | Assign]]:
    """Return a network with the widths of another, the same function with features that are zero, and its maps.

    Raises:
        SpaceError: It is wider, or blocks would have to grow.
    """
    maps: dict[str, Dense | Assign] = {}
    for name in names:
        old, new = graph.spaces[name], spaces[name].size
        if old.size == new:
            continue
        if old.size > new:
            raise SpaceError(f"space '{name}' has {old.size} features in a model and {new} in the first, which must be "
                             'the widest: give that one first.')
        maps[name] = _embedding(old, new) if old.group == 'orthogonal' else Assign(
            torch.arange(old.size), new, torch.ones(old.size))
    if not maps:
        return graph, maps
    model = copy_model(graph.model)
    apply_maps(model, resolve_maps(graph.spaces, maps))
    return replace(graph, model=model, spaces=dict(spaces)), maps


def _embedding(space: FeatureSpace, size: int) -> Dense:
    """Return a map of a stream into a wider one in which norms see the same mean square."""
    own, new = (without_mean(each) if space.centred else torch.eye(each, dtype=torch.float64)
                for each in (space.size, size))
    merge = new[:len(own)].T @ own
    if space.centred:
        merge = merge + 1 / (space.size * size) ** 0.5
    factor = (size / space.size) ** 0.5
    return Dense(merge * factor, merge.T / factor)
