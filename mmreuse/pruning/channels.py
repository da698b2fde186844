"""Structured pruning: channels and attention heads go, and what is left is a smaller network."""
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError, InfeasibleError, SpaceError
from mmreuse.graph import Axis, FeatureSpace, Graph, Select, trace, transform
from mmreuse.pruning.fisher import Fisher
from mmreuse.pruning.scoring import check_options, estimate_fisher, needs_fisher, score_weights
from mmreuse.pruning.weights import copy_permanent, find_masks, listed_weights
from mmreuse.renormalization import apply_renormalizers, measure_ends
from mmreuse.renormalization.apply import find_methods
from mmreuse.renormalization.goals import permuted
from mmreuse.statistics import ChannelMoments
from mmreuse.utils.complexity import count_macs
from mmreuse.utils.latency import measure_latency
from mmreuse.utils.methods import Method, takes
from mmreuse.utils.names import nearest

logger = logging.getLogger(__name__)

#: Cost of a pruned network as a share of the dense one's: ``f(dense, pruned, inputs)``.
Cost = Callable[[nn.Module, nn.Module, tuple], float]


def macs_share(dense: nn.Module, pruned: nn.Module, inputs: tuple) -> float:
    """Multiply-accumulates."""
    return count_macs(pruned, inputs) / count_macs(dense, inputs)


def latency_share(dense: nn.Module, pruned: nn.Module, inputs: tuple) -> float:
    """Median time of a forward pass of ``inputs``, on their device, the two networks taking turns."""
    latencies = measure_latency({'dense': dense, 'pruned': pruned}, *inputs)
    return latencies['pruned'].median / latencies['dense'].median


COSTS: dict[str, Cost] = {'macs': macs_share, 'latency': latency_share}


def prune_channels(
    model: nn.Module,
    inputs: Tensor | tuple[Any, ...],
    target: float,
    loader: Iterable | None = None,
    saliency: Method = 'magnitude',
    *,
    renormalizers: Sequence[Method] = (),
    **options: Any,
) -> nn.Module:
    """Remove channels and heads until a network costs ``target`` of what it does.

    Args:
        model: A trained network; left as it is.
        inputs: See :func:`select_channels`, as for what follows.
        target: Share of the dense network's cost, in (0, 1).
        loader: Labelled batches for a saliency that needs the Fisher, and images for renormalizers.
        saliency: Name, config or function of :data:`mmreuse.registry.SALIENCIES`.
        renormalizers: As for :func:`mmreuse.pruning.prune`, run one after the other. Goals are the statistics that the
            channels that are left have in the dense network.
        **options: Of :func:`select_channels`.

    Returns:
        nn.Module: An ordinary network with the same module names and smaller layers.

    Raises:
        ConfigError: An option is out of its range, a method does not exist or does not fit, or data is missing.
        SpaceError: The proof fails, a name fits no space, or the network's code fixes a width.
        InfeasibleError: Even the smallest network allowed costs more; names what it costs.
        DataError: There are too few samples, or a number is not finite.
    """
    functions = find_methods(list(renormalizers))
    if functions and loader is None:
        raise ConfigError('renormalizers need data: give a loader, or leave them out.')
    for function in functions:
        check_renormalizer(function)
    graph, maps = select_channels(model, inputs, target, loader, saliency, **options)
    pruned = transform(graph, maps)
    for function in functions:
        apply_renormalizers(pruned, loader, function, goals=dense_goals(function, graph, maps, loader))
    return pruned


def check_renormalizer(function: Callable) -> None:
    """Raise :class:`ConfigError` if a renormalizer compares with the dense network, whose layers are wider."""
    if takes(function, 'ends') and not takes(function, 'goals'):
        raise ConfigError(f"renormalizer '{getattr(function, '__name__', function)}' takes `ends`, whose layers are "
                          'wider than those of the pruned network. Take one that goes by `goals`, or reset.')


def dense_goals(function: Callable, graph: Graph, maps: Mapping[str, Select],
                loader: Iterable) -> list[dict[str, ChannelMoments]] | None:
    """Statistics, in the dense network, of the channels that are left, for a renormalizer that asks for goals.

    Args:
        function: The renormalizer; its budget is kept.
        graph: Of the dense network, see :func:`select_channels`.
        maps: What is left.
        loader: Images.
    """
    if not takes(function, 'goals'):
        return None
    samples = getattr(function, 'keywords', {}).get('samples')
    return [permuted(statistics, graph, maps) for statistics in measure_ends([graph.model], loader, samples=samples)]


def select_channels(
    model: nn.Module,
    inputs: Tensor | tuple[Any, ...],
    target: float,
    loader: Iterable | None = None,
    saliency: Method = 'magnitude',
    *,
    cost: str | Cost = 'macs',
    multiple: int = 1,
    minimum: float = 0.1,
    relative: bool = True,
    spaces: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    fisher: Fisher | Mapping[str, Any] | None = None,
) -> tuple[Graph, dict[str, Select]]:
    """Choose the channels and heads that stay.

    The network is traced and its feature spaces proved first. A channel's saliency is the sum of those of all weights
    of convolutions and linear layers that write, read or accompany it; a head's, of all that is in the head.

    Args:
        model: A trained network; left as it is.
        inputs: What it runs on, e.g. ``torch.zeros(1, 3, 32, 32)``; for a latency, the batch that is timed.
        target: Share of the dense network's cost, in (0, 1).
        loader: Labelled batches for a saliency that needs the Fisher.
        saliency: Name, config or function of :data:`mmreuse.registry.SALIENCIES`.
        cost: ``'macs'``, ``'latency'``, or a function ``f(dense, pruned, inputs)`` that returns the share.
        multiple: Numbers of channels are rounded up to multiples of it. Numbers of heads are not.
        minimum: Share of its channels that every space keeps at least.
        relative: Compare saliencies as multiples of the mean in their space. Otherwise as they are, which makes sense
            where they are losses (Fisher), but not for magnitudes of layers of differing scale.
        spaces: Regular expressions of the feature spaces that may shrink, see :func:`prunable_spaces`. None for all
            but those whose width the network's code fixes, which are logged.
        exclude: Regular expressions of those that may not.
        fisher: As for :func:`mmreuse.pruning.prune_weights`.

    Returns:
        tuple: The graph of a dense copy, and what stays in every space that shrinks: ``transform(graph, maps)`` is the
        pruned network.

    Raises:
        ConfigError, SpaceError, InfeasibleError, DataError: As :func:`prune_channels`.
    """
    if not 0 < target < 1 or not 0 < minimum <= 1 or multiple < 1:
        raise ConfigError(f'target={target}, minimum={minimum}, multiple={multiple}: target is a share in (0, 1), '
                          'minimum one in (0, 1], multiple at least 1.')
    if isinstance(cost, str) and cost not in COSTS:
        raise ConfigError(f"there is no cost '{cost}'. {nearest(cost, COSTS)}")
    function, settings = check_options(saliency, fisher=fisher)
    model = copy_permanent(model)
    graph = trace(model, inputs)
    graph.verify()
    chosen = prunable_spaces(graph, spaces, exclude)
    if spaces is None:
        chosen = resizable(graph, chosen)
    weights = listed_weights(model)
    curvature = None
    if needs_fisher(function):
        curvature = estimate_fisher(model, loader, weights, find_masks(weights), settings)
    scores = channel_scores(graph, chosen, score_weights(function, weights, curvature))
    maps = choose_channels(graph, scores, target, COSTS[cost] if isinstance(cost, str) else cost, multiple=multiple,
                           minimum=minimum, relative=relative)
    return graph, maps


def prunable_spaces(graph: Graph, spaces: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> list[str]:
    """Names of the spaces whose members can go one by one: all but those that consist of another one's blocks.

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


def resizable(graph: Graph, spaces: Sequence[str]) -> list[str]:
    """Those of some spaces that the network's code lets shrink, found by trying."""
    def runs(names: Sequence[str]) -> bool:
        try:
            transform(graph, {name: Select(torch.arange(1, graph.spaces[name].size)) for name in names})
        except SpaceError:
            return False
        return True

    if runs(spaces):
        return list(spaces)
    found = [name for name in spaces if runs([name])]
    logger.warning('these feature spaces keep their width, which the code of the network fixes: %s',
                   ', '.join(sorted(set(spaces) - set(found))))
    return found


def channel_scores(graph: Graph, spaces: Sequence[str], scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sum saliencies of weights over everything that belongs to each member of some spaces.

    Args:
        graph: The traced network.
        spaces: Names.
        scores: Saliencies, by name of the parameter.

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
        total = _own_scores(graph.spaces[name], scores)
        for inner in graph.spaces.values():
            if inner.block_space == name:
                total.index_add_(0, inner.blocks, _own_scores(inner, scores))
        found[name] = total
    return found


def _own_scores(space: FeatureSpace, scores: Mapping[str, Tensor]) -> Tensor:
    total = torch.zeros(space.size, dtype=torch.float64)
    for axis in space.axes:
        if axis.tensor in scores:
            along = _sum_along(axis, scores[axis.tensor].detach().cpu().double())
            mine = axis.index >= 0
            total.index_add_(0, axis.index[mine], along[mine])
    return total


def _sum_along(axis: Axis, score: Tensor) -> Tensor:
    """Sums over everything but one axis, a value for each position of its index."""
    if axis.groups > 1:
        # Each group of rows reads columns of its own.
        return score.reshape(axis.groups, -1, *score.shape[1:]).transpose(1, 2).flatten(2).sum(2).flatten()
    score = score if axis.shape is None else score.reshape(axis.shape)
    return score.movedim(axis.dim, 0).flatten(1).sum(1)


def choose_channels(graph: Graph, scores: Mapping[str, Tensor], target: float, cost: Cost = macs_share, *,
                    multiple: int = 1, minimum: float = 0.1, relative: bool = True) -> dict[str, Select]:
    """Choose what stays so that a network costs at most ``target`` of what it does.

    All members of all spaces stand in one order of saliency; how many of its first go is found by bisection.

    Args:
        graph: The traced network.
        scores: Of every member, by space, see :func:`channel_scores`.
        target: See :func:`prune_channels`, as all that follows.
        cost: A function.
        multiple: Of widths.
        minimum: Share that every space keeps.
        relative: Whether saliencies are divided by the mean of their space.

    Returns:
        dict[str, Select]: For every space that shrinks.

    Raises:
        InfeasibleError: Even the smallest network allowed costs more.
        SpaceError: The network's code fixes a width.
    """
    order = _order(scores, minimum, relative)
    known: dict[tuple[int, ...], float] = {}

    def maps_of(count: int) -> dict[str, Select]:
        kept = {name: len(score) for name, score in scores.items()}
        for name in order[:count]:
            kept[name] -= 1
        return {name: Select(scores[name].topk(width).indices.sort().values)
                for name, width in _rounded(graph, kept, multiple).items() if width < len(scores[name])}

    def cost_of(count: int) -> float:
        maps = maps_of(count)
        widths = tuple(maps[name].size if name in maps else -1 for name in scores)
        if widths not in known:
            known[widths] = cost(graph.model, transform(graph, maps), graph.inputs) if maps else 1.
        return known[widths]

    low, high = 0, len(order)
    if cost_of(high) > target:
        raise InfeasibleError(f'the smallest network allowed costs {cost_of(high):.3f} of the dense one, more than '
                              f'target={target}. Ask for {ceil(100 * cost_of(high)) / 100}, or lower minimum or '
                              'multiple, or let more spaces shrink.')
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost_of(middle) <= target else (middle, high)
    return maps_of(high)


def _order(scores: Mapping[str, Tensor], minimum: float, relative: bool) -> list[str]:
    """The space of every member that may go, least salient first."""
    names, values = [], []
    for name, score in scores.items():
        free = len(score) - max(1, ceil(minimum * len(score)))
        scale = score.mean() if relative and score.sum() > 0 else 1.
        names += [name] * free
        values.append(score.sort().values[:free] / scale)
    return [names[place] for place in torch.cat(values).argsort(stable=True).tolist()]


def _rounded(graph: Graph, widths: Mapping[str, int], multiple: int) -> dict[str, int]:
    """Widths rounded up to multiples, but for numbers of heads."""
    heads = {space.block_space for space in graph.spaces.values()}
    return {name: width if name in heads else min(graph.spaces[name].size, ceil(width / multiple) * multiple)
            for name, width in widths.items()}
