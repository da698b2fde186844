"""Choice of the channels and heads to remove from a network."""
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil, floor

import torch
from torch import Tensor, nn

from mmreuse.errors import DataError, InfeasibleError, SpaceError
from mmreuse.graph import Axis, FeatureSpace, Select, TracedModel, transform
from mmreuse.pruning.channels.parts import predict_macs
from mmreuse.utils.cost.complexity import count_macs
from mmreuse.utils.names import nearest

logger = logging.getLogger(__name__)

#: Cost of a pruned network as a share of the dense one's: ``f(dense, pruned, inputs)``.
Cost = Callable[[nn.Module, nn.Module, tuple], float]


def macs_share(dense: nn.Module, pruned: nn.Module, inputs: tuple) -> float:
    """Return multiply-accumulates."""
    return count_macs(pruned, inputs) / count_macs(dense, inputs)


def prunable_spaces(graph: TracedModel, spaces: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> list[str]:
    """Return the names of spaces whose members can go one by one: all but those made of another one's blocks.

    Args:
        graph: The traced network.
        spaces: Regular expressions that whole names must fit; None for all.
        exclude: Regular expressions of those left out.

    Raises:
        SpaceError: An expression fits none.
    """
    free = [name for name, space in graph.spaces.items() if space.blocks is None and space.size > 1]
    for expression in (*(spaces or ()), *exclude):
        if not any(re.fullmatch(expression, name) for name in free):
            raise SpaceError(f"'{expression}' fits no feature space that can shrink. {nearest(expression, free)}")

    def fits(expressions: Sequence[str], name: str) -> bool:
        return any(re.fullmatch(expression, name) for expression in expressions)

    return [name for name in free if (spaces is None or fits(spaces, name)) and not fits(exclude, name)]


def resizable(graph: TracedModel, spaces: Sequence[str]) -> list[str]:
    """Return those of some spaces that the network's code lets shrink, found by trying.

    Raises:
        SpaceError: None does; says what holds them.
    """
    held = []

    def runs(names: Sequence[str]) -> bool:
        try:
            transform(graph, {name: Select(torch.arange(1, graph.spaces[name].size)) for name in names})
        except SpaceError as error:
            held.append(error)
            return False
        return True

    def search(names: Sequence[str]) -> list[str]:
        if not names or runs(names):
            return list(names)
        half = len(names) // 2
        return search(names[:half]) + search(names[half:]) if half else []

    found = search(spaces)
    if not found:
        reason = str(held[-1]) if held else _pins(graph)
        raise SpaceError(f'nothing in {type(graph.model).__name__} can lose channels or heads. {reason}')
    if len(found) == len(spaces):
        return found
    logger.warning('these feature spaces keep their width, which the code of the network fixes: %s',
                   ', '.join(sorted(set(spaces) - set(found))))
    return found


def _pins(graph: TracedModel) -> str:
    """Explain what holds the channels of a network without a space that could shrink."""
    if not graph.pins:
        return 'Between what it takes and what it gives there is no layer of its own.'
    return f'Channels are held by {"; ".join(dict.fromkeys(map(str, graph.pins[:5])))}.'


def channel_scores(graph: TracedModel, spaces: Sequence[str], scores: Mapping[str, Tensor],
                   roles: Sequence[str] = ('write', 'read', 'accompany')) -> dict[str, Tensor]:
    """Sum saliencies of weights over everything that belongs to each member of some spaces.

    Args:
        graph: The traced network.
        spaces: Names.
        scores: Saliencies, by name of the parameter.
        roles: Of the axes that count.

    Returns:
        dict[str, Tensor]: (size of the space,) each, float64, on the CPU.

    Raises:
        DataError: A saliency is not finite.
    """
    for name, score in scores.items():
        if not score.isfinite().all():
            raise DataError(f"the saliency of '{name}' is not finite. Look for NaN in its weights and in the data.")
    found = {}
    for name in spaces:
        total = _own_scores(graph.spaces[name], scores, roles)
        for inner in graph.spaces.values():
            if inner.block_space == name:
                total.index_add_(0, inner.blocks, _own_scores(inner, scores, roles))
        found[name] = total
    return found


def _own_scores(space: FeatureSpace, scores: Mapping[str, Tensor], roles: Sequence[str]) -> Tensor:
    total = torch.zeros(space.size, dtype=torch.float64)
    for axis in space.axes:
        if axis.tensor in scores and axis.role in roles:
            along = _sum_along(axis, scores[axis.tensor].detach().cpu().double())
            mine = axis.index >= 0
            total.index_add_(0, axis.index[mine], along[mine])
    return total


def _sum_along(axis: Axis, score: Tensor) -> Tensor:
    """Return sums over everything but one axis, a value for each position of its index."""
    if axis.groups > 1:
        # Each group of rows reads columns of its own.
        return score.reshape(axis.groups, -1, *score.shape[1:]).transpose(1, 2).flatten(2).sum(2).flatten()
    score = score if axis.shape is None else score.reshape(axis.shape)
    return score.movedim(axis.dim, 0).flatten(1).sum(1)


def choose_channels(graph: TracedModel, scores: Mapping[str, Tensor], target: float, cost: Cost = macs_share, *,
                    multiple: int = 1, minimum: float = 0.1, relative: bool = True,
                    share: float = 1.) -> dict[str, Select]:
    """Choose what stays so that a network costs at most ``target`` of what it does, or of what a larger one does.

    All members of all spaces stand in one order of saliency; how many of its first go is found by bisection. Since
    widths change in steps, there may be room left then, which is given to the spaces that shrank last.

    Args:
        graph: The traced network.
        scores: Of every member, by space, see :func:`channel_scores`.
        target: See :func:`prune_channels`, as all that follows.
        cost: A function.
        multiple: Of widths.
        minimum: Share that every space keeps.
        relative: Whether saliencies are divided by the mean of their space.
        share: Of the network that ``target`` is about, what the graph's network costs.

    Returns:
        dict[str, Select]: For every space that shrinks.

    Raises:
        InfeasibleError: Even the smallest network allowed costs more.
        SpaceError: The network's code fixes a width.
    """
    order = _order(scores, minimum, relative)

    def widths_after(count: int) -> dict[str, int]:
        gone = Counter(order[:count])
        return _rounded(graph, {name: len(score) - gone[name] for name, score in scores.items()}, multiple)

    def measure(widths: Mapping[str, int]) -> float:
        maps = most_salient(scores, widths)
        return share * cost(graph.model, transform(graph, maps), graph.inputs) if maps else share

    smallest = widths_after(len(order))
    lowest = measure(smallest)
    if lowest > target:
        raise InfeasibleError(f'the smallest network allowed costs {lowest:.3f} of the dense one, more than '
                              f'target={target:.4g}. Ask for {ceil(100 * lowest) / 100}, or lower minimum or '
                              'multiple, or let more spaces shrink.')
    if cost is macs_share:
        predict = predict_macs(graph)
        dense = predict({})
        widths = _search(order, widths_after, lambda widths: share * predict(widths) / dense, scores, target, multiple)
        if all(abs(share * predict(each) / dense - measure(each)) < 1e-9 for each in (smallest, widths)):
            return most_salient(scores, widths)
    return most_salient(scores, _search(order, widths_after, measure, scores, target, multiple))


def keep_share(graph: TracedModel, scores: Mapping[str, Tensor], share: float, *, multiple: int = 1,
               minimum: float = 0.1) -> dict[str, Select]:
    """Keep the same share of the members of every space, the most salient ones.

    Args:
        graph: The traced network.
        scores: Of every member, by space.
        share: In (0, 1); numbers of members are rounded to the nearest.
        multiple, minimum: See :func:`prune_channels`.

    Returns:
        dict[str, Select]: For every space that shrinks.
    """
    kept = {name: max(floor(share * len(score) + 0.5), least_width(len(score), minimum))
            for name, score in scores.items()}
    return most_salient(scores, _rounded(graph, kept, multiple))


def most_salient(scores: Mapping[str, Tensor], widths: Mapping[str, int]) -> dict[str, Select]:
    """Return maps that keep the most salient members, for every space that shrinks."""
    return {name: Select(scores[name].topk(width).indices.sort().values)
            for name, width in widths.items() if width < len(scores[name])}


def _search(order: Sequence[str], widths_after: Callable[[int], dict[str, int]],
            measure: Callable[[Mapping[str, int]], float], scores: Mapping[str, Tensor], target: float,
            multiple: int) -> dict[str, int]:
    """Return the widths of :func:`choose_channels`; those after all of ``order`` meet the target."""
    known: dict[tuple[int, ...], float] = {}

    def cost_of(widths: Mapping[str, int]) -> float:
        key = tuple(widths.values())
        if key not in known:
            known[key] = measure(widths)
        return known[key]

    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost_of(widths_after(middle)) <= target else (middle, high)
    widths = widths_after(high)
    for name in dict.fromkeys(reversed(order[:high])):
        wider = widths | {name: min(len(scores[name]), widths[name] + multiple)}
        while wider != widths and cost_of(wider) <= target:
            widths, wider = wider, wider | {name: min(len(scores[name]), wider[name] + multiple)}
    return widths


def _order(scores: Mapping[str, Tensor], minimum: float, relative: bool) -> list[str]:
    """Return the space of every member that may go, least salient first."""
    names, values = [], [torch.zeros(0, dtype=torch.float64)]
    for name, score in scores.items():
        free = len(score) - least_width(len(score), minimum)
        scale = score.mean() if relative and score.sum() > 0 else 1.
        names += [name] * free
        values.append(score.sort().values[:free] / scale)
    return [names[place] for place in torch.cat(values).argsort(stable=True).tolist()]


def _rounded(graph: TracedModel, widths: Mapping[str, int], multiple: int) -> dict[str, int]:
    """Widths rounded up to whole steps."""
    steps = width_steps(graph, widths, multiple)
    return {name: min(graph.spaces[name].size, ceil(width / steps[name]) * steps[name])
            for name, width in widths.items()}


def width_steps(graph: TracedModel, spaces: Iterable[str], multiple: int) -> dict[str, int]:
    """Return what widths are multiples of, by name of the space: 1 for heads, which are counted one by one."""
    heads = {space.block_space for space in graph.spaces.values()}
    return {name: 1 if name in heads else multiple for name in spaces}


def least_width(size: int, minimum: float) -> int:
    """Return how many members a space of some size keeps at least, where it keeps a minimal share."""
    return max(1, ceil(minimum * size))
