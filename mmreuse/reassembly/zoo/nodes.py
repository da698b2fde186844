"""The nodes of a zoo member: their names, and their shapes and layouts, read off one recorded run."""
from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, fx, nn

from mmreuse.errors import ConfigError
from mmreuse.graph import Call, Recording, endpoints, guess_layout, record, sequence_of_nodes, slice_block
from mmreuse.reassembly.zoo.structures import Node
from mmreuse.reassembly.zoo.zoo import ZooEntry, build_member
from mmreuse.utils.cost.complexity import count_params, macs_by_module
from mmreuse.utils.names import nearest


def member_nodes(entry: ZooEntry, model: nn.Module | None = None) -> tuple[Node, ...]:
    """Return the nodes of a zoo member, in execution order.

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
        TraceError: The network cannot be recorded.
    """
    return _measure(entry, model) if model is not None else _nodes_of(entry)


@lru_cache(maxsize=64)
def _nodes_of(entry: ZooEntry) -> tuple[Node, ...]:
    """Remembered, for they depend on the constructor alone."""
    return _measure(entry, build_member(entry, empty=True).to('meta'))


def inout_shapes(zoo: Iterable[ZooEntry]) -> dict[str, dict[str, dict[str, list[int]]]]:
    """Return input and output shapes of all nodes, as the published ``MODEL_INOUT_SHAPE.json`` holds them.

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
    """Return the multiply-accumulates of every node of a zoo member, at the entry's input size."""
    model = build_member(entry, empty=True).to('meta')
    counts = macs_by_module(model, entry.input_size)
    return tuple(sum(counts[name] for name in _modules_of(model, node.name)) for node in member_nodes(entry))


def _modules_of(model: nn.Module, node: str) -> list[str]:
    """Return the names of the modules that a node's name stands for."""
    first, last = endpoints(node)
    if first == last:
        return [first]
    parent = first.rpartition('.')[0]
    siblings = [f'{parent}.{name}'.lstrip('.') for name, _ in model.get_submodule(parent).named_children()]
    return siblings[siblings.index(first):siblings.index(last) + 1]


def _measure(entry: ZooEntry, model: nn.Module) -> tuple[Node, ...]:
    device = next((p.device for p in model.parameters()), torch.device('cpu'))
    inputs = torch.zeros(1, *entry.input_size, device=device)
    recording = record(model, inputs)
    names = entry.nodes or sequence_of_nodes(model, inputs)
    ends = {name: [_calls(entry, model, recording, end) for end in endpoints(name)] for name in names}
    for name, (first, last) in ends.items():
        if len(first) != 1 or len(last) != 1 or not (_is_feature(first[0].inputs) and _is_feature(last[0].outputs)):
            raise ConfigError(
                f"zoo entry '{entry.key}': '{name}' cannot be a node: it must be called once, take one map or "
                f'sequence of tokens and return one. Choose modules further out.')
    ordered = sorted(names, key=lambda name: ends[name][0][0].start)
    if ordered != list(names):
        raise ConfigError(f"zoo entry '{entry.key}': nodes are not in execution order, which is {', '.join(ordered)}.")
    return tuple(_node(model, name, first.inputs[0], last.outputs[0], inputs)
                 for name, ((first,), (last,)) in ends.items())


def _calls(entry: ZooEntry, model: nn.Module, recording: Recording, module: str) -> list[Call]:
    """Return the calls of a module of a declared node."""
    known = dict(model.named_modules())
    if module not in known:
        raise ConfigError(f"zoo entry '{entry.key}': there is no module '{module}'. {nearest(module, known)}")
    calls = [call for call in recording.calls if call.name == module]
    if not calls:
        raise ConfigError(f"zoo entry '{entry.key}': node '{module}' is never called. Remove it from nodes.")
    return calls


def _is_feature(values: Sequence[fx.Node]) -> bool:
    """Return whether the first value is a map or a sequence of tokens; down-sampling gives its new size as well."""
    return bool(values) and len(values[0].meta['shape'] or ()) in (3, 4)


def _node(model: nn.Module, name: str, entering: fx.Node, leaving: fx.Node, inputs: Tensor) -> Node:
    first, last = endpoints(name)
    module = model.get_submodule(first) if first == last else slice_block(model, name, name, inputs)
    return Node(name=name, in_shape=entering.meta['shape'][1:], out_shape=leaving.meta['shape'][1:],
                in_layout=guess_layout(entering, model), out_layout=guess_layout(leaving, model),
                params=count_params(module))
