"""A recorded model, and modules made of spans of it."""
import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from mmreuse.errors import TraceError

#: By node: index of a number among the flattened arguments -> its values at two and at three samples.
Sizes = dict[fx.Node, dict[int, tuple[int, int]]]


@dataclass
class Call:
    """One call of a module of the model, in execution order."""
    index: int
    name: str  # dotted module name
    key: str  # the name, with '@1', '@2', ... at the second, third, ... call of the same module
    parents: tuple[int, ...]  # calls around this one, outermost (the model itself) first
    start: int  # position of the first node recorded inside
    args: tuple  # as passed, tensors being nodes
    kwargs: dict[str, Any]
    end: int = -1  # one past the position of the last node recorded inside
    outputs: tuple[fx.Node, ...] = ()  # tensors in what it returned
    returns_tensor: bool = False  # a bare tensor, not a container with one

    @property
    def inputs(self) -> tuple[fx.Node, ...]:
        """Return tensors among the arguments that depend on the model's inputs, without repetition."""
        return tuple(dict.fromkeys(node for node in _nodes_in((self.args, self.kwargs)) if node.meta['dynamic']))

    @property
    def output(self) -> fx.Node | None:
        """Return the one tensor returned that depends on the model's inputs, or None."""
        dynamic = [node for node in self.outputs if node.meta['dynamic']]
        return dynamic[0] if len(dynamic) == 1 else None


@dataclass
class Program:
    """A model recorded as a graph with free batch size; see :func:`mmreuse.graph.program.capture.capture`."""
    model: nn.Module
    graph: fx.Graph  # nodes in execution order, annotated; numbers in it are those of two samples
    calls: list[Call]
    constants: dict[str, Tensor]  # tensors that the model holds outside parameters and buffers
    sizes: Sizes = field(default_factory=dict)
    device: torch.device | None = None  # of the inputs when recorded

    def module(self) -> nn.Module:
        """Return the whole recorded model as an ordinary module that shares the model's parameters."""
        return emit(self)

    def call(self, key: str) -> Call:
        """Return the call of that key.

        Raises:
            TraceError: No such call was recorded.
        """
        for call in self.calls:
            if call.key == key:
                return call
        raise TraceError(f"{type(self.model).__name__}: no call of module '{key}' was recorded, its parent seems to "
                         'choose its children anew at every run.')


class GraphModule(nn.Module):
    """Runs an ``fx.Graph`` over modules and tensors kept under their original dotted names.

    Unlike ``torch.fx.GraphModule`` it leaves buffers as persistent as they were, so that ``state_dict`` keys are
    exactly the original ones, and survives ``copy.deepcopy`` without compiling anew.
    """

    def __init__(self, graph: fx.Graph, attributes: dict[str, nn.Module | Tensor], persistent: Iterable[str]):
        super().__init__()
        persistent = set(persistent)
        for name, value in attributes.items():
            attach(self, name, value, persistent=name in persistent)
        self._graph = graph
        source = graph.python_code('self')
        scope = dict(source.globals)
        exec(compile(source.src, '<mmreuse.graph>', 'exec'), scope)  # the code is that of the graph
        self._run = scope['forward']

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph on what the recorded span of the model takes."""
        return self._run(self, *args, **kwargs)

    @property
    def returned(self) -> int:
        """Return the number of values that a call returns."""
        values = self._graph.output_node().args[0]
        return len(values) if isinstance(values, (tuple, list)) else 1

    def returned_from(self, name: str) -> int | None:
        """Return the place in the returned tuple of a value that a module's only call gives and nothing else reads."""
        calls = [node for node in self._graph.nodes if node.op == 'call_module' and node.target == name]
        output = self._graph.output_node()
        values = output.args[0]
        if len(calls) != 1 or set(calls[0].users) != {output} or not isinstance(values, (tuple, list)):
            return None
        return list(values).index(calls[0])

    def on(self, model: nn.Module) -> 'GraphModule':
        """Return the same span of another model: of one structure with this one's, and of equal widths."""
        constants = {name: value for name, value in self._buffers.items() if name.startswith('_constant_')}
        return GraphModule(self._graph, *_attributes(model, constants, self._graph.nodes))

    def extra_repr(self) -> str:
        return f'nodes={len(self._graph.nodes)}'


def attach(root: nn.Module, name: str, value: nn.Module | Tensor, persistent: bool = True) -> None:
    """Put a module, parameter or buffer into ``root`` under a dotted name, making empty modules on the way."""
    *path, leaf = name.split('.')
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root._modules[part]
    if isinstance(value, nn.Module):
        root.add_module(leaf, value)
    elif isinstance(value, nn.Parameter):
        root.register_parameter(leaf, value)
    else:
        root.register_buffer(leaf, value, persistent=persistent)


def emit(program: Program, inputs: Sequence[fx.Node] | None = None, output: fx.Node | Sequence[fx.Node] | None = None,
         after: int = -1, until: int | None = None) -> GraphModule:
    """Make a module of the span of a program that computes ``output`` from ``inputs``.

    What does not depend on the model's inputs (position tables, masks, re-parameterised weights) is computed inside
    the span. Numbers that follow the batch size are read from the first input of the span.

    Args:
        program: The recorded model.
        inputs: Nodes that become the arguments; by default those of the model.
        output: The node that is returned, or several as a tuple; by default all that the model returns.
        after: In-place operations at positions up to this one belong to an earlier span.
        until: And those at later positions than this one to a later span; by default the last output's position.

    Returns:
        GraphModule: shares parameters and modules with the model.

    Raises:
        TraceError: ``output`` depends on more than ``inputs``.
    """
    nodes = list(program.graph.nodes)
    if inputs is None:
        inputs = [node for node in nodes if node.op == 'placeholder']
    ends = list(nodes[-1].all_input_nodes) if output is None else _nodes_in(output)
    span = _stretch(nodes, inputs, ends, after, until)
    writer = _Writer(program, inputs)
    for node in span:
        writer.copy(node)
    writer.graph.output(writer.arguments(nodes[-1])[0][0] if output is None
                        else fx.node.map_arg(output, writer.made.__getitem__))
    return GraphModule(writer.graph, *_attributes(program.model, program.constants, span))


def is_tensor_node(node: fx.Node) -> bool:
    """Return whether the node's value is a tensor (not a container, not None)."""
    return node.meta['shape'] is not None


def needed(targets: Iterable[fx.Node], stop: Iterable[fx.Node] = ()) -> set[fx.Node]:
    """Return ``targets`` and all nodes that they are computed from, not looking beyond ``stop``."""
    found, queue, stop = set(), list(targets), set(stop)
    while queue:
        node = queue.pop()
        if node not in found:
            found.add(node)
            if node not in stop:
                queue.extend(node.all_input_nodes)
    return found


def _stretch(nodes: list[fx.Node], inputs: Sequence[fx.Node], outputs: list[fx.Node], after: int,
             until: int | None) -> list[fx.Node]:
    last = max((node.meta['position'] for node in outputs), default=-1) if until is None else until
    if set(outputs) == set(_nodes_in(nodes[-1].args)):
        last = nodes[-1].meta['position']  # the end of the model: what it still changes in place belongs to it
    found = needed(outputs, inputs)
    impure = [node for node in nodes if node.meta['mutates']]
    for node in impure:  # an in-place operation on an activation has no user, yet what follows depends on it
        if node.meta['dynamic'] and after < node.meta['position'] <= last and node not in found:
            more = needed([node], inputs)
            if not any(part.op == 'placeholder' and part not in inputs for part in more):
                found |= more
    stray = [node for node in found if node.op == 'placeholder' and node not in inputs]
    if stray:
        names = ', '.join(str(node.target) for node in stray)
        raise TraceError(f'the span depends on more than its input: also on {names}')
    return sorted(found - set(inputs), key=lambda node: node.meta['position'])


class _Writer:
    """Copies nodes into a new graph, making batch sizes and devices those of the new graph's first input."""

    def __init__(self, program: Program, inputs: Sequence[fx.Node]):
        self.program = program
        self.graph = fx.Graph()
        self.made: dict[fx.Node, fx.Node] = {}
        self.numbers: dict[Any, fx.Node] = {}
        for node in inputs:
            name = node.target if node.op == 'placeholder' else 'x' if len(inputs) == 1 else node.name
            self.made[node] = self.graph.placeholder(name)
        carriers = [node for node in inputs if node.meta.get('batch_axis') is not None]
        self.reference = carriers[0] if carriers else None

    def copy(self, node: fx.Node) -> None:
        """Append a copy of a recorded node."""
        self.made[node] = self.graph.create_node(node.op, node.target, *self.arguments(node))

    def arguments(self, node: fx.Node) -> tuple[tuple, dict]:
        """Return a recorded node's arguments in terms of the new graph."""
        sizes = self.program.sizes.get(node, {})
        position = itertools.count()

        def translate(leaf: Any) -> Any:
            index = next(position)
            if isinstance(leaf, fx.Node):
                return self.made[leaf]
            if index in sizes:
                return self.size(node, *sizes[index])
            if isinstance(leaf, torch.device) and leaf == self.program.device and self.reference is not None:
                return self.device()
            return leaf

        return fx.node.map_aggregate((node.args, node.kwargs), translate)

    def size(self, node: fx.Node, two: int, three: int) -> fx.Node:
        """Compute a number that was ``two`` at 2 samples and ``three`` at 3 from an axis of the first input."""
        where = f"{type(self.program.model).__name__}: operation '{node.name}' in module '{node.meta['module']}'"
        if self.reference is None:
            raise TraceError(f'{where} needs the batch size, but axis 0 of no input carries one. Cut elsewhere.')
        if two * 3 != three * 2:
            raise TraceError(f'{where} gets the number {two} for a batch of 2 and {three} for one of 3: not a multiple '
                             'of the batch size. Make the operation a child module of its own.')
        if two not in self.numbers:
            axis = self.reference.meta['batch_axis']
            width = self.reference.meta['shape'][axis]
            number = self.graph.call_method('size', (self.made[self.reference], axis))
            if two != width:
                number = self.graph.call_function(operator.mul, (number, two))
                number = self.graph.call_function(operator.floordiv, (number, width))
            self.numbers[two] = number
        return self.numbers[two]

    def device(self) -> fx.Node:
        """Read the device of the first input."""
        if 'device' not in self.numbers:
            self.numbers['device'] = self.graph.call_function(getattr, (self.made[self.reference], 'device'))
        return self.numbers['device']


def _attributes(model: nn.Module, constants: Mapping[str, Tensor],
                span: Iterable[fx.Node]) -> tuple[dict[str, nn.Module | Tensor], set[str]]:
    """Collect the modules and tensors that a span names, and which of the buffers are persistent."""
    names = dict.fromkeys(str(node.target) for node in span if node.op in ('call_module', 'get_attr'))
    found: dict[str, nn.Module | Tensor] = {}
    persistent = set()
    for name in names:
        if any(name.startswith(f'{module}.') for module in names):
            continue  # comes with the module
        if name in constants:
            found[name] = constants[name]
            continue
        path, _, leaf = name.rpartition('.')
        parent = model.get_submodule(path)
        found[name] = getattr(parent, leaf)
        if leaf not in parent._non_persistent_buffers_set and leaf in parent._buffers:
            persistent.add(name)
    return found, persistent


def _nodes_in(value: Any) -> list[fx.Node]:
    """Return the nodes in a nest of containers."""
    found: list[fx.Node] = []
    fx.node.map_arg(value, found.append)
    return found
