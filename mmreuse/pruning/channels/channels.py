"""Structured pruning: channels and attention heads go, and what is left is a smaller network."""
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mmreuse.calibration import Source
from mmreuse.errors import ConfigError
from mmreuse.graph import Select, TracedModel, transform, verified
from mmreuse.networks import Edit, record_change
from mmreuse.pruning.channels.choice import (
    Cost,
    channel_scores,
    choose_channels,
    keep_share,
    macs_share,
    prunable_spaces,
    resizable,
)
from mmreuse.pruning.channels.elimination import input_moments, readers
from mmreuse.pruning.channels.tabled_cost import TABLED_COSTS, TabledCost, check_limit, choose_within
from mmreuse.pruning.channels.widths import WidthChoice
from mmreuse.pruning.fisher.fisher import Fisher
from mmreuse.pruning.scoring import check_saliency, estimate_fisher, score_weights
from mmreuse.pruning.weights import copy_permanent, find_masks, listed_weights
from mmreuse.registry import EDITS, Method
from mmreuse.renormalization import apply_renormalizers, find_served, measure_ends, permuted
from mmreuse.statistics import ChannelMoments, inputs_for, repeatable
from mmreuse.utils.configs.methods import MethodLike, method_name
from mmreuse.utils.cost.latency import measure_latency
from mmreuse.utils.names import refuse_other


@dataclass(frozen=True, eq=False)
class Selection:
    """What stays of a network: ``transform(selection.graph, selection.maps)`` is the pruned one."""
    graph: TracedModel  # of a dense copy
    maps: dict[str, Select]  # of every space that shrinks
    cost: str | Cost | TabledCost
    choice: WidthChoice | None = None  # of a cost by table
    dense: float | None = None  # what the dense network costs, by the same table


def _member_scores(graph: TracedModel, spaces: Sequence[str], method: Method, loader: Iterable | None,
                   settings: Fisher | Mapping[str, Any] | None) -> dict[str, Tensor]:
    """Return the saliency of every member of some spaces."""
    weights = listed_weights(graph.model)
    if 'moments' in method.needs:
        layers = readers(graph, spaces)
        scores = score_weights(method, {key: weights[key] for key in (f'{name}.weight' for name in layers)}, None,
                               input_moments(graph, layers, loader))
        return channel_scores(graph, spaces, scores, roles=('read',))
    curvature = estimate_fisher(graph.model, loader, weights, find_masks(weights), settings)
    return channel_scores(graph, spaces, score_weights(method, weights, curvature))


def latency_share(dense: nn.Module, pruned: nn.Module, inputs: tuple) -> float:
    """Median time of a forward pass of ``inputs``, on their device, the two networks taking turns."""
    latencies = measure_latency({'dense': dense, 'pruned': pruned}, *inputs)
    return latencies['pruned'].median / latencies['dense'].median


COSTS: dict[str, Cost] = {'macs': macs_share, 'latency': latency_share}
#: In place of a cost: every space keeps the same share of its members.
CHANNELS = 'channels'


@EDITS.register_module(name='prune_channels')
class PruneChannelsEdit(Edit):
    """Channels and heads removed."""
    verb = 'pruned to {share:.0%} of the {cost} by {saliency}'


def prune_channels(
    model: nn.Module,
    inputs: Tensor | tuple[Any, ...],
    target: float | None = None,
    loader: Iterable | None = None,
    saliency: MethodLike = 'magnitude',
    *,
    renormalizers: Sequence[MethodLike] = (),
    **options: Any,
) -> nn.Module:
    """Remove channels and heads until a network costs ``target`` of what it does, or no more than a limit.

    Args:
        model: A trained network; left as it is.
        inputs: See :func:`select_channels`, as for what follows.
        target: Share of the dense network's cost, in (0, 1); None with ``limit``.
        loader: Labelled data for a saliency that needs the Fisher; images for one that needs moments, and for
            renormalizers, see :func:`mmreuse.statistics.data.batches`.
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
    methods = find_served(list(renormalizers), loader, None)
    for method in methods:
        check_renormalizer(method)
    loader = None if loader is None else repeatable(loader)
    selection = select_channels(model, inputs, target, loader, saliency, **options)
    graph, maps = selection.graph, selection.maps
    pruned, source = transform(graph, maps), Source.mapped(graph, maps)
    record_change(pruned, 'prune_channels', model, inputs=graph.inputs, saliency=method_name(saliency),
                  outputs=source.outputs(), **_costs(selection, pruned, target))
    for method in methods:
        apply_renormalizers(pruned, loader, method, targets=dense_targets(method, graph, maps, loader),
                            sources=[source])
    return pruned


def _costs(selection: Selection, pruned: nn.Module, target: float | None) -> dict[str, Any]:
    """Return what the record says of a pruned network's cost."""
    cost, graph = selection.cost, selection.graph
    if isinstance(cost, TabledCost):
        return dict(share=selection.choice.cost / selection.dense, cost=cost.name, predicted=selection.choice.cost,
                    gap=selection.choice.gap, unit=cost.unit)
    share = target if cost == CHANNELS else (COSTS[cost] if isinstance(cost, str) else cost)(
        graph.model, pruned, graph.inputs)
    return dict(share=share, cost='MACs' if cost == 'macs' else method_name(cost))


def check_renormalizer(method: Method) -> None:
    """Raise :class:`ConfigError` if a renormalizer compares with the dense network, whose layers are wider."""
    if 'ends' in method.needs and not {'targets', 'sources'} & set(method.needs):
        raise ConfigError(f"renormalizer '{method.name}' takes `ends`, whose layers are "
                          'wider than those of the pruned network. Take one that goes by `targets`, or reset.')


def dense_targets(method: Method, graph: TracedModel, maps: Mapping[str, Select],
                loader: Iterable) -> list[dict[str, ChannelMoments]] | None:
    """Return statistics, in the dense network, of the channels that are left, for a renormalizer that asks for targets.

    Args:
        method: The renormalizer; its budget is kept.
        graph: Of the dense network, see :func:`select_channels`.
        maps: What is left.
        loader: Images.
    """
    if 'targets' not in method.needs:
        return None
    samples = method.options.get('samples')
    return [permuted(statistics, graph, maps) for statistics in measure_ends([graph.model], loader, samples=samples)]


def select_channels(
    model: nn.Module,
    inputs: Tensor | tuple[Any, ...],
    target: float | None = None,
    loader: Iterable | None = None,
    saliency: MethodLike = 'magnitude',
    *,
    cost: str | Cost | TabledCost = 'macs',
    limit: float | None = None,
    multiple: int = 1,
    minimum: float = 0.1,
    relative: bool | None = None,
    spaces: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    fisher: Fisher | Mapping[str, Any] | None = None,
) -> Selection:
    """Choose the channels and heads that stay.

    The network is traced and its feature spaces proved first. A channel's saliency is the sum of those of all weights
    of convolutions and linear layers that write, read or accompany it, or only of those that read it where the saliency
    is one of what layers read (``'elimination'``); a head's, of all that is in the head.

    With a limit, or a cost by table (``'params'``, ``'bytes'``, an engine's latency), widths are the optimum of an
    integer program, :func:`mmreuse.pruning.channels.widths.choose_widths`. Shares of ``'macs'``, ``'latency'`` and of
    functions are found by bisection over all members in one order of saliency.

    Args:
        model: A trained network; left as it is.
        inputs: What it runs on, e.g. ``torch.zeros(1, 3, 32, 32)``; for a latency, the batch that is timed.
        target: Share of the dense network's cost, in (0, 1); None with ``limit``.
        loader: Labelled batches for a saliency that needs the Fisher; images for one that needs moments.
        saliency: Name, config or function of :data:`mmreuse.registry.SALIENCIES`.
        cost: ``'macs'``, ``'params'``, ``'bytes'``, ``'latency'`` (of PyTorch, on ``inputs``); a function
            ``f(dense, pruned, inputs)`` that returns the share; or a table, such as
            :class:`mmreuse.deployment.LatencyCost` of an engine. With ``'channels'`` every space keeps ``target`` of
            its channels or heads, whatever that costs.
        limit: The cost itself, in place of a share: multiply-accumulates, parameters, bytes or the table's unit.
        multiple: Numbers of channels are multiples of it. Numbers of heads are not.
        minimum: Share of its channels that every space keeps at least.
        relative: Compare saliencies as multiples of the mean in their space, or as they are: sums over all weights that
            a channel touches, so that a stream counts for more than what is inside one block. By default the former in
            one order, which would otherwise empty layers of small weights first, and the latter in the program.
        spaces: Regular expressions of the feature spaces that may shrink, see :func:`prunable_spaces`. None for all
            but those whose width the network's code fixes, which are logged.
        exclude: Regular expressions of those that may not.
        fisher: As for :func:`mmreuse.pruning.prune_weights`.

    Returns:
        Selection: What stays, and what it costs by the table where there is one.

    Raises:
        ConfigError, SpaceError, InfeasibleError, DataError: As :func:`prune_channels`.
    """
    check_limit(target, limit)
    if not 0 < minimum <= 1 or multiple < 1:
        raise ConfigError(f'minimum={minimum}, multiple={multiple}: minimum is a share in (0, 1], multiple at least 1.')
    if isinstance(cost, str):
        refuse_other('cost', cost, (*COSTS, *TABLED_COSTS, CHANNELS))
        if limit is not None or cost not in (*COSTS, CHANNELS):
            cost = TABLED_COSTS.get(cost, cost)
    if limit is not None and not isinstance(cost, TabledCost):
        raise ConfigError(f'limit={limit} is of {", ".join(TABLED_COSTS)}, or of a mmreuse.deployment.LatencyCost, not '
                          f'of cost={method_name(cost)!r}. Give a target, a share.')
    method, settings = check_saliency(saliency, fisher=fisher, channels=True)
    model = copy_permanent(model)
    graph = verified(model, inputs_for(model, inputs))
    chosen = prunable_spaces(graph, spaces, exclude)
    if spaces is None:
        chosen = resizable(graph, chosen)
    scores = _member_scores(graph, chosen, method, loader, settings)
    widths = dict(multiple=multiple, minimum=minimum)
    if isinstance(cost, TabledCost):
        maps, *found = choose_within(graph, scores, cost, target=target, limit=limit, relative=bool(relative), **widths)
        return Selection(graph, maps, cost, *found)
    if cost == CHANNELS:
        return Selection(graph, keep_share(graph, scores, target, **widths), cost)
    return Selection(graph, choose_channels(graph, scores, target, COSTS[cost] if isinstance(cost, str) else cost,
                                             relative=relative is not False, **widths), cost)
