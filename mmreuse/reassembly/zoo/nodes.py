"""The nodes of a zoo member: their names, derived by tracing, and their shapes, measured by one forward pass."""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.graph import Layout, endpoints, layer_layout, sequence_of_nodes, slice_block
from mmreuse.reassembly.zoo.structures import Node
from mmreuse.reassembly.zoo.zoo import ZooEntry, build_member
from mmreuse.utils.cost.complexity import count_params, macs_by_module
from mmreuse.utils.modes import evaluating
from mmreuse.utils.names import nearest


def member_nodes(entry: ZooEntry, model: nn.Module | None = None) -> tuple[Node, ...]:
    """Nodes of a zoo member, in execution order.

    Args:
        entry: The member. Its ``nodes``, where declared, are checked against the network;
            otherwise they are derived by tracing.
        model: The network, if it is built already; otherwise one without weights is made.

    Returns:
        tuple[Node, ...]: Measured at the entry's input size. A name ``features.3:5`` stands
        for the modules from ``features.3`` to ``features.5``.

    Raises:
        ConfigError: A declared node does not exist, is not called once with one tensor, or is
            out of execution order.
        TraceError: Nodes must be derived and the network cannot be traced.
    """
    return _measure(entry, model) if model is not None else _nodes_of(entry)


@lru_cache(maxsize=64)
def _nodes_of(entry: ZooEntry) -> tuple[Node, ...]:
    """Remembered, for they depend on the constructor alone."""
    return _measure(entry, build_member(entry, empty=True).to('meta'))


def inout_shapes(zoo: Iterable[ZooEntry]) -> dict[str, dict[str, dict[str, list[int]]]]:
    """Input and output shapes of all nodes, as the published ``MODEL_INOUT_SHAPE.json`` holds them.

    Args:
        zoo: Entries, e.g. ``parse_zoo(...).values()``.

    Returns:
        dict: ``{key: {'in_size': {node: shape}, 'out_size': {node: shape}}}``, without the batch
        dimension.
    """
    shapes = {}
    for entry in zoo:
        nodes = member_nodes(entry)
        shapes[entry.key] = {
            'in_size': {node.name: list(node.in_shape) for node in nodes},
            'out_size': {node.name: list(node.out_shape) for node in nodes}}
    return shapes


def node_macs(entry: ZooEntry) -> tuple[int, ...]:
    """Multiply-accumulates of every node of a zoo member, at the entry's input size."""
    model = build_member(entry, empty=True).to('meta')
    counts = macs_by_module(model, entry.input_size)
    return tuple(sum(counts[name] for name in _modules_of(model, node.name)) for node in member_nodes(entry))


def _modules_of(model: nn.Module, node: str) -> list[str]:
    """Names of the modules that a node's name stands for."""
    first, last = endpoints(node)
    if first == last:
        return [first]
    parent = first.rpartition('.')[0]
    siblings = [f'{parent}.{name}'.lstrip('.') for name, _ in model.get_submodule(parent).named_children()]
    return siblings[siblings.index(first):siblings.index(last) + 1]


def _measure(entry: ZooEntry, model: nn.Module) -> tuple[Node, ...]:
    device = next((p.device for p in model.parameters()), torch.device('cpu'))
    inputs = torch.zeros(1, *entry.input_size, device=device)
    names = entry.nodes or sequence_of_nodes(model, inputs)
    return tuple(record.as_node(_params(model, record.name, inputs)) for record in _record(entry, model, names, inputs))


@dataclass
class _Record:
    """Observations of one node during a forward pass."""
    name: str
    input: Any = None
    output: Any = None
    calls: int = 0
    seen_in: list[tuple[tuple[int, ...], Layout]] = field(default_factory=list)  # by its layers: input shapes
    seen_out: list[tuple[tuple[int, ...], Layout]] = field(default_factory=list)  # by its layers: output shapes

    def as_node(self, params: int) -> Node:
        return Node(
            name=self.name,
            in_shape=tuple(self.input.shape[1:]),
            out_shape=tuple(self.output.shape[1:]),
            in_layout=_layout(self.input, self.seen_in, self.seen_out),
            out_layout=_layout(self.output, self.seen_out[::-1], self.seen_in[::-1]),
            params=params)


def _params(model: nn.Module, name: str, inputs: Tensor) -> int:
    first, last = endpoints(name)
    if first == last:
        return count_params(model.get_submodule(name))
    return count_params(slice_block(model, name, name, inputs))


def _record(entry: ZooEntry, model: nn.Module, names: Sequence[str], inputs: Tensor) -> list[_Record]:
    """Run the network once and note how each node was called, in the order of the calls."""
    modules = dict(model.named_modules())
    order: list[_Record] = []
    handles = []
    for name in names:
        for end in endpoints(name):
            if end not in modules:
                raise ConfigError(f"zoo entry '{entry.key}': there is no module '{end}'. {nearest(end, modules)}")
        handles += _watch(*(modules[end] for end in endpoints(name)), _Record(name), order)
    try:
        with torch.no_grad(), evaluating(model):
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    _check(entry, names, order)
    return order


def _watch(first: nn.Module, last: nn.Module, record: _Record, order: list[_Record]) -> list:
    def enter(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        record.calls += 1
        if record.calls == 1:
            order.append(record)
        record.input = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)

    def leave(_: nn.Module, args: tuple, output: Any) -> None:
        # Downsampling layers return the new size beside the features.
        record.output = output[0] if isinstance(output, tuple) else output

    def inside(layer: nn.Module, args: tuple, output: Any) -> None:
        given = args[0] if args else None
        layout = layer_layout(layer, given.shape) if isinstance(given, Tensor) else None
        if layout is not None and isinstance(output, Tensor):
            record.seen_in.append((tuple(given.shape), layout))
            record.seen_out.append((tuple(output.shape), layout))

    layers = {layer: None for end in (first, last) for layer in end.modules() if not list(layer.children())}
    return [first.register_forward_pre_hook(enter, with_kwargs=True), last.register_forward_hook(leave),
            *(layer.register_forward_hook(inside) for layer in layers)]


def _layout(x: Tensor, seen: Sequence[tuple], other: Sequence[tuple]) -> Layout:
    """Layout of a node's input (output): that of the first (last) layer which handles its very shape, else any."""
    if x.ndim == 3:
        return 'nlc'
    matching = [layout for shape, layout in [*seen, *other] if shape == tuple(x.shape)]
    anything = [layout for _, layout in [*seen, *other]]
    return (matching or anything or ['nchw'])[0]


def _check(entry: ZooEntry, names: Sequence[str], order: list[_Record]) -> None:
    called = [record.name for record in order]
    for name in names:
        if name not in called:
            raise ConfigError(f"zoo entry '{entry.key}': node '{name}' is never called. Remove it from nodes.")
    for record in order:
        features = (isinstance(value, Tensor) and value.ndim in (3, 4) for value in (record.input, record.output))
        if record.calls != 1 or not all(features):
            raise ConfigError(
                f"zoo entry '{entry.key}': '{record.name}' cannot be a node: it must be called once, take one map or "
                f'sequence of tokens and return one. Choose modules further out.')
    if called != list(names):
        raise ConfigError(f"zoo entry '{entry.key}': nodes are not in execution order, which is {', '.join(called)}.")
