"""Places where a merge may begin or end: any module, chosen by name, by depth or by cost."""
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from mmreuse.errors import ConfigError, InfeasibleError
from mmreuse.graph import Recording, TracedModel, find_call, live_after, random_like, record
from mmreuse.statistics import device_of
from mmreuse.utils.cost.complexity import macs_so_far

#: What :func:`find_stop` takes.
Place = str | float | Mapping[str, float] | None
#: Name of the model's input: nothing lies before it.
INPUT = ''

_WEIGHTED = ('linear', 'conv1d', 'conv2d', 'conv3d', 'conv_transpose1d', 'conv_transpose2d', 'conv_transpose3d')


@dataclass(frozen=True)
class StopPoint:
    """A place behind a module, at which a merge may end."""
    name: str  # outermost module that ends there
    depth: float  # share of the weighted layers on the longest path that lie before it
    front_macs: int  # multiply-accumulates before it, for one sample
    tail_macs: int  # and behind it
    tensors: int  # number that crosses


def stop_points(graph: TracedModel) -> list[StopPoint]:
    """List all places behind modules of a network, in execution order.

    Depth counts as papers do: the layers on the longest path, so that the first stage of a ResNet-20 ends at 7/20.

    Raises:
        TraceError: The network cannot be recorded.
    """
    inputs = one_sample(graph)
    recording = record(graph.model, inputs)
    layers = layers_before(recording, graph.model)
    macs = macs_so_far(graph.model, inputs)
    crossing = live_after(recording)
    output = next(iter(reversed(recording.graph.nodes)))
    points: dict[int, StopPoint] = {}
    for call in recording.calls:
        end = call.end - 1
        live = crossing[end] if call.parents and end not in points else []
        if live and live != output.all_input_nodes:
            depth = max(layers[node] for node in live) / max(layers[output], 1)
            front = macs[call.key]
            points[end] = StopPoint(call.key, depth, front, macs[''] - front, len(live))
    return [points[end] for end in sorted(points)]


def find_stop(graph: TracedModel, stop: Place, models: int = 2) -> str | None:
    """Name the module at which a merge ends.

    What is not given by name is chosen among the places where one tensor crosses.

    Args:
        graph: The traced network.
        stop: Name of a module ('' for the input); or the share of weighted layers that are merged, 0 to 1; or
            ``dict(gmacs=LIMIT)``: merge as little as costs at most ``LIMIT`` billion multiply-accumulates for one
            sample; or None.
        models: Number of models that are merged, for the cost of their tails.

    Returns:
        str | None: Name of the module, '' to merge nothing, None to merge everything.

    Raises:
        SpaceError: No such module runs; names the nearest.
        ConfigError: ``stop`` is of another kind or not between 0 and 1.
        InfeasibleError: Not even the whole merge costs so little.
    """
    if stop is None or stop == INPUT:
        return stop
    if isinstance(stop, str):
        find_call(stop, graph.model, record(graph.model, one_sample(graph)))
        return stop
    if isinstance(stop, Mapping) and list(stop) == ['gmacs']:
        return _by_cost(graph, stop['gmacs'] * 1e9, models)
    if isinstance(stop, (int, float)) and not isinstance(stop, bool) and 0 <= stop <= 1:
        return _by_depth(graph, stop)
    raise ConfigError(f'stop = {stop!r} is neither the name of a module, nor a share of the layers between 0 and 1, '
                      'nor dict(gmacs=LIMIT).')


def _by_depth(graph: TracedModel, share: float) -> str | None:
    if share == 1:
        return None
    before = [point for point in stop_points(graph) if point.tensors == 1 and 0 < point.depth <= share + 1e-9]
    deepest = max((point.depth for point in before), default=0.)
    return next((point.name for point in reversed(before) if point.depth == deepest), INPUT)


def _by_cost(graph: TracedModel, limit: float, models: int) -> str | None:
    points = [point for point in stop_points(graph) if point.tensors == 1]
    whole = macs_so_far(graph.model, one_sample(graph))['']
    if whole > limit:
        raise InfeasibleError(f'merged as a whole, {type(graph.model).__name__} costs {whole / 1e9:.4g} billion '
                              f'multiply-accumulates, more than {limit / 1e9:.4g}.')
    if models * whole <= limit:
        return INPUT
    return next((point.name for point in points if point.front_macs + models * point.tail_macs <= limit), None)


def last_place_before(graph: TracedModel, key: str) -> str | None:
    """Name the last place where one tensor crosses before a parameter is used, None if there is none."""
    recording = record(graph.model, one_sample(graph))
    module = key.rpartition('.')[0]
    start = min((call.start for call in recording.calls if call.name == module), default=0)
    crossing, found = live_after(recording), None
    for call in sorted(recording.calls, key=lambda call: (call.end, -call.index)):
        if call.parents and call.end <= start and len(crossing[call.end - 1]) == 1:
            found = call.key
    return found


def layers_before(recording: Recording, model: nn.Module) -> dict[fx.Node, int]:
    """Return weighted layers on the longest path to each node, its own included."""
    depth: dict[fx.Node, int] = {}
    for node in recording.graph.nodes:
        depth[node] = max((depth[source] for source in node.all_input_nodes), default=0) + _is_weighted(node, model)
    return depth


def _is_weighted(node: fx.Node, model: nn.Module) -> bool:
    if node.op == 'call_module':
        return any(tensor.dim() > 1 for tensor in model.get_submodule(node.target).parameters())
    return node.op == 'call_function' and getattr(node.target, '__name__', '') in _WEIGHTED


def one_sample(graph: TracedModel) -> tuple[Any, ...]:
    """Return random inputs like those of the graph, of one sample, where the model is."""
    values = random_like(graph.inputs, device=str(device_of(graph.model)))
    return tuple(value[:1] if isinstance(value, Tensor) and value.dim() else value for value in values)
