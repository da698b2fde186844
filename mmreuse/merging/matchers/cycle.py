"""Matching N models in one common frame, so that going round any cycle of models leads back."""
from collections.abc import Sequence
from functools import partial
from statistics import mean

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmreuse.graph import TracedModel
from mmreuse.merging.interpolation.descent import MAX_SWEEPS, Aligner, best_descent, state_of
from mmreuse.merging.matching.build_matching import by_groups, equal_width
from mmreuse.merging.matching.coupled_spaces import as_matching, shared_spaces
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import correlation
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments


@MATCHERS.register_module(name='cycle_consistent', needs=('moments',))
def cycle_consistent(moments: SpaceMoments) -> Matching:
    """Permute all models into one frame so that the correlations of all pairs of them add up to the most.

    Every model maps to the frame, so that ``P_ij = P_ik P_kj`` holds for all of them. Starts from the best of the N
    solutions in which all models are matched to one of them, then matches each model to the sum of the others until
    nothing improves (as *MergeMany* does with weights; Ainsworth et al., 2023, algorithm 3). For two models this is
    the permutation of greatest correlation.

    Args:
        moments: Joint moments of N models of equal width n.

    Returns:
        Matching: Features stand in the first model's order; the score is the mean correlation of joined features
        over all pairs of models.

    Raises:
        SpaceError: The widths differ.
        DataError: A moment is not finite.
    """
    models, size = len(moments.sizes), equal_width(moments)
    similarity = correlation(moments).cpu()
    table = similarity.reshape(models, size, models, size).transpose(1, 2)
    stars = [torch.stack([_best(table[centre, other]) for other in range(models)]) for centre in range(models)]
    places = max(stars, key=lambda star: _agreement(table, star))
    for _ in range(MAX_SWEEPS):
        improved = [_rematch(table, places, model) for model in range(models)]
        if not any(improved):
            break
    frame = places[:, places[0].argsort()]
    return by_groups(frame.argsort(1).flatten(), similarity, moments.sizes)


def _best(similarity: Tensor) -> Tensor:
    return torch.from_numpy(linear_sum_assignment(similarity.numpy(), maximize=True)[1])


def _agreement(table: Tensor, places: Tensor) -> float:
    """Sum over pairs of models of the similarity of what stands at the same place.

    Args:
        table: Similarities, shape (N, N, n, n).
        places: Each model's member at each place, shape (N, n).
    """
    models = len(places)
    return sum(float(table[i, j, places[i], places[j]].sum()) for i in range(models) for j in range(i))


def _rematch(table: Tensor, places: Tensor, model: int) -> bool:
    """Match one model to the sum of the others, in place; whether that was better."""
    similarity = sum((table[other, model, places[other]] for other in range(len(places)) if other != model),
                     torch.zeros_like(table[0, 0]))
    index, rows = _best(similarity), torch.arange(places.shape[1])
    if similarity[rows, index].sum() <= similarity[rows, places[model]].sum() + 1e-9:
        return False
    places[model] = index
    return True


@MATCHERS.register_module(name='merge_many', needs=('graphs', 'spaces'), data_free=True)
def merge_many(
    graphs: Sequence[TracedModel],
    *,
    spaces: Sequence[str] | None = None,
    include_buffers: bool = False,
    restarts: int = 2,
    seed: int = 0,
) -> dict[str, Matching]:
    """Permute all models into one frame so that the inner products of the weights of all pairs add up to the most.

    Starts from weight matching to the first model, then matches each model in random order to the sum of the others
    until nothing improves (*MergeMany*, Ainsworth et al., *Git Re-Basin*, 2023, algorithm 3). No data is needed.

    Args:
        graphs: The traced models, of equal widths.
        spaces: Names of spaces to match, the others keep their order; None for all.
        include_buffers: Let running statistics take part, with their raw scale.
        restarts: Number of descents with which each model is first matched to the first one.
        seed: Of the orders.

    Returns:
        dict[str, Matching]: By space, in the first model's order; the score is the mean cosine of each model's
        weights and the sum of the others' along it.

    Raises:
        SpaceError: The models are of differing structures or widths.
        DataError: A weight is not finite.
    """
    names = shared_spaces(graphs, spaces, same_size=True)
    target, *states = [state_of(graph) for graph in graphs]
    target = {key: value for key, value in target.items()
              if all(key in state and state[key].shape == value.shape for state in states)}
    aligners = [Aligner(graphs[0], names, target, include_buffers=include_buffers)]
    aligners += [best_descent(partial(Aligner, graph, names, target, include_buffers=include_buffers),
                              restarts, seed) for graph in graphs[1:]]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(MAX_SWEEPS):
        order = torch.randperm(len(graphs), generator=generator).tolist()
        if not any([_rejoin(aligners, number, generator) for number in order]):
            break
    matchings = {}
    for name in names:
        frame = aligners[0].places[name].argsort()
        score = mean(aligner.cosine(name) for aligner in aligners)
        matchings[name] = as_matching([aligner.places[name][frame] for aligner in aligners], score)
    return matchings


def _rejoin(aligners: Sequence[Aligner], number: int, generator: torch.Generator) -> bool:
    """Match one model to the sum of the others as they are now; whether it moved."""
    others = [aligner.state() for other, aligner in enumerate(aligners) if other != number]
    if not others:
        return False
    mine = aligners[number]
    mine.target = {key: sum(state[key] for state in others) for key in mine.usable}
    return mine.descend(generator)
