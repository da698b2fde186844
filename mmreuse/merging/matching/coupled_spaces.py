"""Spaces whose blocks move together, and the best permutations of them.

A *family* is a space together with all spaces of which it is the blocks: the heads of an attention with their
queries and keys and their values, the groups of a grouped convolution with what is inside them. Its members have
one best permutation, found on two levels: members are matched for every pair of blocks, then blocks by the sums of
what that gave. Both are linear assignment problems, so the result is exact.
"""
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmreuse.errors import DataError, SpaceError
from mmreuse.graph import Assign, FeatureSpace, TracedModel, without_mean
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import correlation
from mmreuse.statistics import SpaceMoments
from mmreuse.utils.names import nearest

Spaces = Mapping[str, FeatureSpace]


def shared_spaces(graphs: Sequence[TracedModel], names: Sequence[str] | None = None, *,
                  same_size: bool = False) -> list[str]:
    """Return the names of the spaces that several graphs have in common, in the order of the first.

    Args:
        graphs: The traced models.
        names: Spaces that are wanted; None for all, of which no model may then have others.
        same_size: Whether the models must have the same number of features in each.

    Raises:
        SpaceError: A name is unknown, or the graphs are of different structure: names the first spaces that differ.
    """
    if not graphs:
        raise SpaceError('there are no graphs to match: give the traced models.')
    first = graphs[0].spaces
    for name in names or ():
        if name not in first:
            raise SpaceError(f"'{name}' is not a feature space of {type(graphs[0].model).__name__}. "
                             f'{nearest(name, first)}')
    wanted = [name for name in first if names is None or name in set(names)]
    for number, graph in enumerate(graphs[1:], 1):
        lacking = [name for name in wanted if name not in graph.spaces]
        others = [name for name in graph.spaces if name not in first] if names is None else []
        if lacking or others:
            _raise_differing(graphs, number, lacking, others)
        for name in wanted:
            _check_same_structure(first[name], graph.spaces[name], number, same_size)
    return wanted


def _raise_differing(graphs: Sequence[TracedModel], number: int, lacking: list[str], others: list[str]) -> None:
    first, other = graphs[0], graphs[number]
    shared = [name for name in first.spaces if name in other.spaces]
    parts = [f'{text} {", ".join(map(repr, found[:3]))}{", ..." if found[3:] else ""}'
             for text, found in (('it lacks', lacking), ('it alone has', others)) if found]
    raise SpaceError(
        f'model {number} ({type(other.model).__name__}) is not of the structure of model 0 '
        f'({type(first.model).__name__}): {"; ".join(parts)}. {len(shared)} of {len(first.spaces)} spaces are shared'
        + (f' ({", ".join(shared[:8])}{", ..." if shared[8:] else ""}); name those in `spaces` to match them alone.'
           if shared else '; merging needs models of one structure.'))


def _check_same_structure(first: FeatureSpace, other: FeatureSpace, number: int, same_size: bool) -> None:
    structures = [(space.num_blocks, space.block_space, space.blocks is None) for space in (first, other)]
    if structures[0] != structures[1]:
        raise SpaceError(f"space '{first.name}' has {first.num_blocks} blocks of {first.block_space} in model 0 and "
                         f'{other.num_blocks} of {other.block_space} in model {number}; blocks are matched one to one.')
    if same_size and first.size != other.size:
        raise SpaceError(f"space '{first.name}' has {first.size} features in model 0 and {other.size} in model "
                         f'{number}; a permutation needs equal widths.')


def check_moments(graphs: Sequence[TracedModel], moments: Mapping[str, SpaceMoments], names: Sequence[str]) -> None:
    """Raise :class:`SpaceError` where joint moments are not those of the features of these models."""
    for name in names:
        sizes = tuple(graph.spaces[name].size for graph in graphs)
        if name in moments and moments[name].sizes != sizes:
            raise SpaceError(f"space '{name}' has {sizes} features in the models, but its moments are of "
                             f'{moments[name].sizes}. Collect them with these graphs, in this order.')


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Name the space in errors that are raised in the block."""
    try:
        yield
    except (SpaceError, DataError) as error:
        raise type(error)(f"space '{name}': {error}") from error


def correlations(moments: Mapping[str, SpaceMoments], names: Sequence[str]) -> dict[str, Tensor]:
    """Return the correlations of the stacked features of those spaces that have moments, each of shape (O, O)."""
    tables = {}
    for name in names:
        if name in moments:
            with naming(name):
                tables[name] = correlation(moments[name])
    return tables


def movable(spaces: Spaces, names: Sequence[str]) -> list[str]:
    """Return those of ``names`` that may move if no others do: blocks stay where something in them has to stay."""
    free = list(names)
    while True:
        held = {space.block_space for name, space in spaces.items() if name not in free}
        if not held & set(free):
            return free
        free = [name for name in free if name not in held]


def families(spaces: Spaces, names: Sequence[str]) -> list[list[str]]:
    """Return those of ``names`` that can only move together, in groups; most groups are of one space."""
    wanted, groups = set(names), defaultdict(list)
    for name in names:
        top = name
        while spaces[top].block_space in wanted:
            top = spaces[top].block_space
        groups[top].append(name)
    return list(groups.values())


def members(space: FeatureSpace) -> list[np.ndarray]:
    """Return the members of each block, ascending; one block of all where there is no such structure."""
    if space.blocks is None:
        return [np.arange(space.size)]
    return [(space.blocks == block).nonzero().flatten().numpy() for block in range(space.num_blocks)]


def assign(
    reference: Spaces,
    spaces: Spaces,
    names: Sequence[str],
    similarity: Mapping[str, Tensor],
    turned: Collection[str] = (),
) -> dict[str, Tensor]:
    """Return the permutations of a family that have the greatest total similarity.

    Args:
        reference: Spaces of the model that stays as it is.
        spaces: Spaces of the model whose members are put in its order.
        names: The family. Blocks that are members of a space not among them stay where they are.
        similarity: By space, of each member of the reference (rows) to each of the model (columns), shape (n, m);
            a space without one keeps the order of its members inside their block.
        turned: Spaces whose features, inside blocks, are turned by an orthogonal map in place of permuted.

    Returns:
        dict[str, Tensor]: By space, the member for each place of the reference, shape (n,); -1 where models of
        differing widths leave a place empty. Of those that are turned the map, shape (n, m).

    Raises:
        DataError: A similarity is not finite.
    """
    totals: dict[str, np.ndarray] = {}
    chosen: dict[str, np.ndarray] = {}

    def total(name: str) -> np.ndarray:
        """Return the similarity of every two members, with all that moves with them."""
        if name not in totals:
            scores = np.zeros((reference[name].size, spaces[name].size))
            if name in similarity:
                scores += similarity[name].detach().cpu().double().numpy()
            for child in names:
                if spaces[child].block_space == name:
                    scores += _block_scores(total(child), members(reference[child]), members(spaces[child]),
                                            gain_of_turning if child in turned else gain_of_permuting)
            if not np.isfinite(scores).all():
                raise DataError(f"space '{name}': a similarity is not finite. Check the models' weights and features.")
            totals[name] = scores
        return totals[name]

    def place(name: str) -> np.ndarray:
        if name not in chosen:
            rows, columns = members(reference[name]), members(spaces[name])
            parent = spaces[name].block_space
            order = place(parent) if parent in names else np.arange(len(rows))
            if name in turned:
                chosen[name] = turning(total(name), rows, [columns[block] for block in order], spaces[name].centred)
                return chosen[name]
            index = np.full(reference[name].size, -1)
            for row, column in zip(rows, (columns[block] for block in order), strict=True):
                left, right = linear_sum_assignment(total(name)[np.ix_(row, column)], maximize=True)
                index[row[left]] = column[right]
            chosen[name] = index
        return chosen[name]

    return {name: torch.from_numpy(place(name)) for name in names}


def turning(total: np.ndarray, rows: Sequence[np.ndarray], columns: Sequence[np.ndarray], centred: bool) -> np.ndarray:
    """Return the orthogonal map, block by block, of the greatest similarity (Schönemann, 1966), shape (n, m)."""
    found = np.zeros(total.shape)
    for row, column in zip(rows, columns, strict=True):
        pair = total[np.ix_(row, column)]
        if centred:
            one, other = (without_mean(size).numpy() for size in pair.shape)
            left, _, right = np.linalg.svd(one @ pair @ other.T, full_matrices=False)
            found[np.ix_(row, column)] = one.T @ left @ right @ other + 1 / (len(row) * len(column)) ** 0.5
        else:
            left, _, right = np.linalg.svd(pair, full_matrices=False)
            found[np.ix_(row, column)] = left @ right
    return found


def gain_of_turning(pair: np.ndarray) -> float:
    """Return the similarity of two blocks under the best orthogonal map: the sum of the singular values."""
    return float(np.linalg.svd(pair, compute_uv=False).sum())


def gain_of_permuting(pair: np.ndarray) -> float:
    """Return the similarity of two blocks under the best permutation."""
    return float(pair[linear_sum_assignment(pair, maximize=True)].sum())


def _block_scores(total: np.ndarray, rows: list[np.ndarray], columns: list[np.ndarray],
                  gain: Callable[[np.ndarray], float]) -> np.ndarray:
    """Return the gain of each block of the reference when each block of the model takes its place."""
    scores = np.empty((len(rows), len(columns)))
    for number, row in enumerate(rows):
        for other, column in enumerate(columns):
            scores[number, other] = gain(total[np.ix_(row, column)])
    return scores


def as_matching(permutations: Sequence[Tensor], score: float) -> Matching:
    """Return the matching that averages, at each place, the member that each model's permutation puts there."""
    size = len(permutations[0])
    return Matching(Assign(torch.cat([index.argsort() for index in permutations]), size),
                    (size,) * len(permutations), score)
