"""Match all feature spaces of several networks, one by one or all at once."""
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import Assign, Dense, FeatureSpace, TracedModel
from mmreuse.merging.matching.build_matching import mean_within
from mmreuse.merging.matching.coupled_spaces import (
    Spaces,
    as_matching,
    assign,
    check_moments,
    correlations,
    families,
    members,
    movable,
    naming,
    shared_spaces,
)
from mmreuse.merging.matching.matching import Matching
from mmreuse.merging.matching.metrics import correlation
from mmreuse.merging.matching.requirements import freezes
from mmreuse.merging.matching.symmetries import fitting, within_group
from mmreuse.merging.matching.undecided import check_evidence, decide_by_weights
from mmreuse.registry import MATCHERS, Method
from mmreuse.statistics import SpaceMoments
from mmreuse.utils.configs.methods import MethodLike, find_method
from mmreuse.utils.names import nearest

logger = logging.getLogger(__name__)

Matcher = MethodLike


class Matchings(dict[str, Matching]):
    """Matchings by space.

    Attributes:
        notes: By space, what was done in place of what was asked, and why.
        frozen: Spaces that 'identity' keeps in their order.
    """

    def __init__(self, frozen: Iterable[str] = ()) -> None:
        super().__init__()
        self.frozen = set(frozen)
        self.notes: dict[str, str] = {}

    def note(self, name: str, text: str) -> None:
        """Remember and log why a space was treated in another way."""
        self.notes[name] = text
        logger.info("space '%s' %s", name, text)


def match_spaces(
    graphs: Sequence[TracedModel],
    moments: Mapping[str, SpaceMoments] | None,
    matcher: Matcher = 'zip',
    *,
    spaces: Sequence[str] | None = None,
    overrides: Mapping[str, Matcher] | None = None,
) -> Matchings:
    """Match the features of N models, in every space, to those of one.

    A space with blocks is matched inside its blocks, over all models. If the blocks may move (heads, groups), those
    of each model are first put in the order of the first model's: correlations are matched for every pair of blocks,
    summed over all spaces with these blocks, and the sums decide. Blocks are joined one to one; the merged space has
    as many of them. A space that no layer reads, because its features are multiplied by each other as queries and
    keys are, may only be joined one to one as well: where a matcher folds features of one model it is permuted.

    'procrustes' and 'cca' are used where their maps are symmetries of the network (``FeatureSpace.group``); other
    spaces get the matcher of the largest group that is, which ``notes`` says and the log.

    Features that are constant on the images, or equal on them, are told apart by weights, see
    :func:`~mmreuse.merging.matching.undecided.decide_by_weights`. Where images tell too little a warning is logged.

    Args:
        graphs: Traced models of one structure; widths may differ.
        moments: Joint moments by space as ``collect(graphs, loader)`` gives them; None for matchers that need none.
        matcher: Name, config or function. It needs the ``moments`` of one space, or sees all spaces (``graphs``).
        spaces: Names of spaces to match; None for all. Blocks of which one space is not named stay where they are.
        overrides: Other matchers for spaces whose whole name fits a regular expression, the first that fits;
            'identity' freezes a space, and with it the blocks that it consists of.

    Returns:
        Matchings: One for every space, in the order of the first graph. Those that cannot be observed follow their
        blocks or keep their order; ``notes`` says which.

    Raises:
        SpaceError: The models are of differing structures, a name is unknown, or moments are missing or do not fit.
        ConfigError: An override fits no space, or a matcher is no matcher.
        DataError: A moment is not finite, or no feature varies.
    """
    names = shared_spaces(graphs, spaces)
    chosen = _choose(graphs[0].spaces, names, matcher, overrides or {})
    check_moments(graphs, moments or {}, names)
    found = Matchings(name for name, method in chosen.items() if freezes(method))
    for method in dict.fromkeys(chosen.values()):
        if 'graphs' in method.needs:
            mine = [name for name in names if chosen[name] is method]
            found.update(method(**method.accepted(dict(graphs=graphs, moments=moments or {}, spaces=mine))))
    single = {name: chosen[name] for name in names if name not in found}
    _check_complete(graphs[0].spaces, moments or {}, single)
    matched = [name for name, method in single.items() if not freezes(method)]
    decided = decide_by_weights(graphs, moments or {}, matched)
    check_evidence(moments or {}, matched)
    _match_each(graphs, decided, single, found)
    _score_as_measured(moments or {}, decided, single, found)
    for name in names:  # in the order of the graph
        found[name] = found.pop(name)
    return found


# -- which matcher -----------------------------------------------------------------------


def _choose(spaces: Spaces, names: Sequence[str], matcher: Matcher,
            overrides: Mapping[str, Matcher]) -> dict[str, Method]:
    """Return the matcher of each space."""
    default, patterns = _build(matcher), []
    for pattern, other in overrides.items():
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"override '{pattern}' is not a regular expression: {error}.") from error
        if not any(compiled.fullmatch(name) for name in spaces):
            raise ConfigError(f"override '{pattern}' fits the whole name of no feature space. "
                              f'{nearest(pattern, spaces)}')
        patterns.append((compiled, _build(other)))
    return {name: next((method for pattern, method in patterns if pattern.fullmatch(name)), default)
            for name in names}


def _build(matcher: Matcher) -> Method:
    method = find_method(MATCHERS, matcher)
    if not {'moments', 'graphs'} & set(method.needs):
        raise ConfigError(f"'{method.name}' is no matcher: it takes neither 'moments' (of one space) nor 'graphs' (for "
                          'all spaces).')
    return method


def _check_complete(spaces: Spaces, moments: Mapping[str, SpaceMoments], single: Mapping[str, Method]) -> None:
    missing = [name for name, method in single.items()
               if name not in moments and spaces[name].taps and not freezes(method)]
    if missing:
        raise SpaceError(f'no moments of {", ".join(map(repr, missing[:5]))}{", ..." if missing[5:] else ""} were '
                         'given: take those of `collect(graphs, loader)`, name other `spaces`, or use a matcher that '
                         "needs no data ('weight_matching').")


def _score_as_measured(moments: Mapping[str, SpaceMoments], decided: Mapping[str, SpaceMoments],
                       names: Iterable[str], found: Matchings) -> None:
    """Score what weights helped to decide by the correlations that were measured."""
    for name in names:
        if name in moments and decided[name] is not moments[name] and isinstance(found[name].map, Assign):
            score = mean_within(found[name].map.index, correlation(moments[name]))
            found[name] = replace(found[name], score=score)


# -- one space after the other -----------------------------------------------------------


def _match_each(graphs: Sequence[TracedModel], moments: Mapping[str, SpaceMoments], single: Mapping[str, Method],
                found: Matchings) -> None:
    spaces = graphs[0].spaces
    free = movable(spaces, [name for name, method in single.items() if not freezes(method)])
    orders: dict[str, list[Tensor]] = {}
    for family in families(spaces, free):
        if len(family) > 1:
            orders |= _match_blocks(graphs, moments, family, found)
    for name, method in single.items():
        if name in orders:
            continue
        still = [torch.arange(spaces[name].num_blocks)] * len(graphs)
        order = orders.get(spaces[name].block_space, still)
        if name in moments and (freezes(method) or name in free):
            found[name] = _match_observed(graphs, moments[name], name, method, order, found)
        else:
            found[name] = _in_order(graphs, name, order)
            if not freezes(method):
                why = 'cannot be observed' if name in free else 'has a block that must stay'
                how = 'follows its blocks' if spaces[name].block_space in orders else 'keeps its order'
                found.note(name, f'{why} and {how}.')


def _match_blocks(graphs: Sequence[TracedModel], moments: Mapping[str, SpaceMoments], family: Sequence[str],
                  found: Matchings) -> dict[str, list[Tensor]]:
    """Put the blocks of every model in the first model's order; the matchings of blocks are added to those found.

    Returns:
        dict[str, list[Tensor]]: By space of blocks, each model's block for each place.
    """
    first = graphs[0].spaces
    observed = correlations(moments, family)
    blocks = [name for name in family if any(first[child].block_space == name for child in family)]
    if not observed:
        return {}
    orders = {name: [torch.arange(first[name].size)] for name in blocks}
    scores = []
    for number, graph in enumerate(graphs[1:], 1):
        pairs = {name: _pair(table, moments[name].sizes, number) for name, table in observed.items()}
        places = assign(first, graph.spaces, family, pairs)
        for name in blocks:
            orders[name].append(places[name])
        scores += [table[places[name] >= 0, places[name][places[name] >= 0]] for name, table in pairs.items()]
    score = float(torch.cat(scores).mean()) if scores else 1.
    for name in blocks:
        found[name] = as_matching(orders[name], score)
        if name not in observed:
            found.note(name, 'cannot be observed and follows what is in its blocks.')
    return orders


def _pair(table: Tensor, sizes: Sequence[int], number: int) -> Tensor:
    """Return the similarities of the first model's features to those of another."""
    start = sum(sizes[:number])
    return table[:sizes[0], start:start + sizes[number]]


def _match_observed(graphs: Sequence[TracedModel], moments: SpaceMoments, name: str, method: Method,
                    order: Sequence[Tensor], found: Matchings) -> Matching:
    space = graphs[0].spaces[name]
    method, why = fitting(space, method)
    if why is not None:
        found.note(name, why)
    with naming(name):
        matching = _match_inside(graphs, moments, name, within_group(space, method), order)
        if _folds(matching) and not any(axis.role == 'read' for axis in space.axes):
            found.note(name, 'is read by no layer, its features meet in products: joined one to one, by permutation.')
            matching = _match_inside(graphs, moments, name, find_method(MATCHERS, 'permute'), order)
    return matching


def _folds(matching: Matching) -> bool:
    """Return whether two features of one model become one."""
    return isinstance(matching.map, Assign) and any(
        bool((item.index[item.index >= 0].bincount() > 1).any()) for item in matching.per_model())


def _match_inside(graphs: Sequence[TracedModel], moments: SpaceMoments, name: str,
                  method: Callable[[SpaceMoments], Matching], order: Sequence[Tensor]) -> Matching:
    """Match each group of aligned blocks on its own."""
    space = graphs[0].spaces[name]
    if space.blocks is None:
        return method(moments)
    groups, matchings = _groups(graphs, name, order), []
    for parts in groups:
        index = torch.cat(parts).to(moments.mean.device)
        matchings.append(method(SpaceMoments(moments.count, moments.mean[index], moments.covariance[index][:, index],
                                             sizes=tuple(map(len, parts)))))
    return _joined(space, [torch.cat(parts) for parts in groups], matchings, moments.sizes)


def _groups(graphs: Sequence[TracedModel], name: str, order: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return, for each block of the first model, the stacked features that the models have at its place."""
    blocks = [members(graph.spaces[name]) for graph in graphs]
    starts = [sum(graph.spaces[name].size for graph in graphs[:number]) for number in range(len(graphs))]
    return [[start + torch.from_numpy(mine[int(index[place])])
             for start, mine, index in zip(starts, blocks, order, strict=True)] for place in range(len(blocks[0]))]


def _joined(space: FeatureSpace, groups: Sequence[Tensor], matchings: Sequence[Matching],
            sizes: Sequence[int]) -> Matching:
    """Return the matching of a space from those of its blocks; new members stand in the block of the first model."""
    rows = [torch.from_numpy(row) for row in members(space)]
    for row, matching in zip(rows, matchings, strict=True):
        if matching.size > len(row):
            raise SpaceError(f'a block of {len(row)} features would become one of {matching.size}, and blocks cannot '
                             'grow. Put the widest model first or choose another matcher.')
    kept = torch.cat([row[:matching.size] for row, matching in zip(rows, matchings, strict=True)])
    slots = kept.argsort().argsort().split([matching.size for matching in matchings])
    joined = Assign if all(isinstance(matching.map, Assign) for matching in matchings) else Dense
    build = _joined_assign if joined is Assign else _joined_dense
    score = sum(matching.score * len(group) for matching, group in zip(matchings, groups, strict=True)) / sum(sizes)
    return Matching(build(groups, matchings, slots, sum(sizes)), tuple(sizes), score)


def _joined_assign(groups: Sequence[Tensor], matchings: Sequence[Matching], slots: Sequence[Tensor],
                   total: int) -> Assign:
    index = torch.full((total,), -1)
    weight = torch.zeros(total, dtype=torch.float64)
    for group, matching, slot in zip(groups, matchings, slots, strict=True):
        index[group] = torch.where(matching.map.index >= 0, slot[matching.map.index.clamp(min=0)], -1)
        weight[group] = matching.map.weight
    return Assign(index, sum(map(len, slots)), weight)


def _joined_dense(groups: Sequence[Tensor], matchings: Sequence[Matching], slots: Sequence[Tensor],
                  total: int) -> Dense:
    merge = torch.zeros(sum(map(len, slots)), total, dtype=torch.float64)
    unmerge = torch.zeros(total, len(merge), dtype=torch.float64)
    for group, matching, slot in zip(groups, matchings, slots, strict=True):
        dense = matching.map.dense(len(group))
        merge[slot[:, None], group] = dense.merge_matrix.to(merge)
        unmerge[group[:, None], slot] = dense.unmerge_matrix.to(unmerge)
    return Dense(merge, unmerge)


def _in_order(graphs: Sequence[TracedModel], name: str, order: Sequence[Tensor]) -> Matching:
    """Join features that stand at the same place of their block."""
    space = graphs[0].spaces[name]
    if len({graph.spaces[name].size for graph in graphs}) > 1:
        raise SpaceError(f"space '{name}' has {', '.join(str(graph.spaces[name].size) for graph in graphs)} features "
                         'in the models and nothing to match them by. Merge models of equal width there.')
    places = []
    for graph, index in zip(graphs, order, strict=True):
        rows, mine = members(space), members(graph.spaces[name])
        place = torch.empty(space.size, dtype=torch.long)
        for row, block in zip(rows, index.tolist(), strict=True):
            place[row] = torch.from_numpy(mine[block])
        places.append(place)
    return as_matching(places, math.nan)
