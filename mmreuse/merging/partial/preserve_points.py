"""Places where the preserved front of a merge may end, their costs, and the choice among them."""
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from mmreuse.errors import ConfigError, InfeasibleError, SpaceError
from mmreuse.graph import Call, Recording, TracedModel, find_call, record
from mmreuse.merging.partial.merge_layer import can_merge
from mmreuse.merging.partial.stops import INPUT, find_stop, layers_before, one_sample
from mmreuse.utils.cost.complexity import count_params, macs_so_far

#: What :func:`find_start` takes.
Start = str | float | Mapping[str, float] | None


@dataclass(frozen=True)
class PreservePoint:
    """A place up to which every model keeps its own layers; merged ones follow."""
    index: int  # number of feature spaces that are complete in front; 0: nothing is preserved
    name: str  # module that ends the front; '' for the input
    layers: int  # weighted layers in front on the longest path, the one that merges included
    params: int  # of the merged model
    macs: int  # multiply-accumulates of the merged model for one sample


def preserve_first_points(graph: TracedModel, models: int = 2, inputs: tuple[Any,
                          ...] | None = None) -> list[PreservePoint]:
    """List the places up to which the models of a merge keep their own layers, in execution order.

    There is one for every feature space, behind the last layer that writes it: behind every convolution of a VGG, for
    residual networks behind the inner convolutions of a block and behind the last one of a stage (Qu and Horvath,
    *Vanishing Feature*, 2025). Costs are counted on one image, nothing is merged for it: what lies in front counts
    once per model, the layer that ends the front as well, since it reads the features of all models; its bias and what
    follows count once.

    Args:
        graph: The traced network.
        models: Number of models N.
        inputs: Arguments of the size for which costs are counted; None for those that were traced.

    Returns:
        list[PreservePoint]: With the indices 1 to K.

    Raises:
        TraceError: The network cannot be recorded.
    """
    plan = _Plan(graph, models, inputs)
    return [plan.point(name) for name in plan.ends]


def preserve_point(graph: TracedModel, start: Start, models: int = 2, inputs: tuple[Any,
                   ...] | None = None) -> PreservePoint:
    """One place, see :func:`find_start`, and what it costs.

    Raises:
        SpaceError, ConfigError, InfeasibleError: As :func:`find_start`.
    """
    plan = _Plan(graph, models, inputs)
    return plan.point(_find(plan, graph, start) or INPUT)


def find_start(graph: TracedModel, start: Start, models: int = 2) -> str | None:
    """Name the module behind which a merge begins.

    Args:
        graph: The traced network.
        start: Name of a module ('' for the input); the share of weighted layers that are preserved, less than 1;
            ``dict(index=k)``, k = 0..K: the k-th of :func:`preserve_first_points`; ``dict(gmacs=LIMIT)`` or
            ``dict(params=LIMIT)``: the last of these points at which the merged model costs at most ``LIMIT`` billion
            multiply-accumulates for one sample, or has at most that many parameters; or None.
        models: Number of models that are merged.

    Returns:
        str | None: Name of the module, None if nothing is preserved.

    Raises:
        SpaceError: No such module runs, or there is no such index; names the nearest.
        ConfigError: ``start`` is of another kind.
        InfeasibleError: Not even a model without a front costs so little.
    """
    return _find(_Plan(graph, models), graph, start) if isinstance(start, Mapping) else _named(graph, start)


def _named(graph: TracedModel, start: str | float | None) -> str | None:
    if start == 1:
        raise ConfigError("start = 1 leaves nothing to merge. Give a smaller share of the layers; the ensemble is "
                          "stop=''.")
    return find_stop(graph, start) or None


class _Plan:
    """The points of a network and the cost of preserving up to any module."""

    def __init__(self, graph: TracedModel, models: int, inputs: tuple[Any, ...] | None = None) -> None:
        self.model, self.models = graph.model, models
        inputs = one_sample(graph) if inputs is None else inputs
        self.recording = record(self.model, inputs)
        self.layers = layers_before(self.recording, self.model)
        self.macs = macs_so_far(self.model, inputs)
        calls = [_last_writer(space.writers(), self.recording) for space in graph.spaces.values()]
        ends = {call.end: call.key for call in calls if call is not None}
        self.ends = {ends[end]: end for end in sorted(ends)}

    def point(self, name: str) -> PreservePoint:
        """Return the point behind a module; '' is the input."""
        if name == INPUT:
            return PreservePoint(0, name, 0, count_params(self.model), self.macs[''])
        call = find_call(name, self.model, self.recording)
        index = sum(end <= call.end for end in self.ends.values())
        layers = max(depth for node, depth in self.layers.items() if node.meta['position'] < call.end)
        macs = (self.models - 1) * self.macs[name] + self.macs['']
        return PreservePoint(index, name, layers, self._params(call), macs)

    def _params(self, call: Call) -> int:
        front, tail = self._used(-math.inf, call.end), self._used(call.end, math.inf)
        layer = self.model.get_submodule(call.name)
        shared = 0
        if call.output is not None and call.output.target == call.name and can_merge(layer):
            shared = 0 if layer.bias is None else layer.bias.numel()
        return self.models * (front - shared) + shared + tail

    def _used(self, first: float, end: float) -> int:
        """Return the number of parameters that the nodes at some positions use."""
        known = dict(self.model.named_parameters(remove_duplicate=False))
        used: dict[int, int] = {}
        for node in self.recording.graph.nodes:
            if first <= node.meta['position'] < end:
                used |= {id(tensor): tensor.numel() for tensor in _parameters(node, self.model, known)}
        return sum(used.values())


def _parameters(node: fx.Node, model: nn.Module, known: Mapping[str, nn.Parameter]) -> Sequence[nn.Parameter]:
    if node.op == 'call_module':
        return list(model.get_submodule(node.target).parameters())
    return [known[node.target]] if node.op == 'get_attr' and node.target in known else []


def _last_writer(writers: Sequence[str], recording: Recording) -> Call | None:
    """Return the last call of a layer that writes a space, None where no layer does."""
    modules = {writer.rpartition('.')[0] for writer in writers}
    return max((call for call in recording.calls if call.name in modules and call.parents),
               key=lambda call: call.end, default=None)


def _find(plan: _Plan, graph: TracedModel, start: Start) -> str | None:
    if not isinstance(start, Mapping):
        return _named(graph, start)
    (key, limit), *more = start.items() or [(None, None)]
    if more or key not in ('index', 'gmacs', 'params'):
        raise ConfigError(f'start = {dict(start)!r} is none of dict(index=NUMBER), dict(gmacs=LIMIT) and '
                          'dict(params=LIMIT).')
    names = [INPUT, *plan.ends]
    if key == 'index':
        if limit not in range(len(names)):
            raise SpaceError(f'{type(graph.model).__name__} has the points 0 to {len(names) - 1} up to which models '
                             f"can be preserved, and no point {limit}. The ensemble is stop=''.")
        return names[limit] or None
    scale = 1e9 if key == 'gmacs' else 1
    costs = [(getattr(plan.point(name), 'macs' if key == 'gmacs' else 'params') / scale, name) for name in names]
    if costs[0][0] > limit:
        raise InfeasibleError(f'merged as a whole, {type(graph.model).__name__} costs {key} = {costs[0][0]:.4g}, more '
                              f'than {limit:.4g}.')
    return next(name for cost, name in reversed(costs) if cost <= limit) or None
