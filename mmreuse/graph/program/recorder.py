"""Record one run of a model as a ``torch.fx`` graph, by running it, not by symbolic tracing.

The model runs on concrete tensors under a :class:`torch.overrides.TorchFunctionMode`, so control flow on shapes,
in-place operations and functional calls of any kind need no special treatment: what is executed is what is
recorded, with shapes as plain numbers.
"""
import functools
import itertools
import operator
import weakref
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property
from torch.utils.weak import WeakIdKeyDictionary

from mmreuse.errors import TraceError
from mmreuse.graph.program.emit import Call
from mmreuse.graph.values import tensors_in

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict, nn.Transformer,
               nn.TransformerEncoder, nn.TransformerDecoder)
_ATOMS = (int, float, complex, bool, str, type(None), type(...), torch.dtype, torch.device, torch.layout,
          torch.memory_format)
_READS = ('__bool__', '__int__', '__float__', '__index__', 'item', 'tolist', 'numpy', '__array__', 'is_nonzero',
          'equal', 'allclose')
#: Operations that make as many rows as the values say.
_BY_VALUE = ('nonzero', 'argwhere', 'masked_select', 'unique', 'unique_consecutive', 'bincount')
_SIZES = ('__len__', 'numel', 'nelement', 'size', 'unbind', '__iter__')
ADVICE = ('Make the operation a child module of its own (a module without children is recorded as one call), or cut '
           'at modules outside it')

LeafRule = Callable[[nn.Module, str], bool]


def is_leaf(module: nn.Module, name: str) -> bool:
    """Return whether a module is recorded as one call in a full recording.

    Leaves are the layers of ``torch.nn`` (but not its containers and stacks of layers), classes derived from them,
    scripted modules, and modules without children (``DropPath``, ``LayerScale``, ...): what such modules do differently
    in train mode stays with them.
    """
    if isinstance(module, _CONTAINERS):
        return False
    if isinstance(module, torch.jit.ScriptModule) or not any(True for _ in module.children()):
        return True
    return any(base.__module__.startswith('torch.nn.modules') for base in type(module).__mro__ if base is not nn.Module)


def outside(opened: set[str]) -> LeafRule:
    """Return the rule under which every module is one call except those whose names are in ``opened``."""
    return lambda module, name: name not in opened


class Recorder(TorchFunctionMode):
    """Turn the calls made while the mode is active into nodes of an ``fx.Graph``.

    Every node has in ``meta``: ``position`` in execution order, ``shape`` and ``dtype`` (None unless its value is a
    tensor), ``module`` (dotted name of the innermost module that made the call), ``stack`` (indices of the
    enclosing module calls), ``dynamic`` (depends on the model's inputs), ``ragged`` (its number of rows depends on
    values) and ``mutates`` (nodes whose values the operation changed in place).
    """

    def __init__(self, model: nn.Module, leaf: LeafRule):
        super().__init__()
        self.model = model
        self.leaf = leaf
        self.graph = fx.Graph()
        self.calls: list[Call] = []
        self.constants: dict[str, Tensor] = {}
        self.reads: list[str] = []
        self.paused = False  # inside a leaf
        self.stack: list[Call] = []
        self.nodes = WeakIdKeyDictionary()  # tensor object -> node
        self.views = WeakIdKeyDictionary()  # tensor object -> weak references to its views
        self.names = {module: name for name, module in model.named_modules()}
        self.attributes = _tensor_names(model)
        self.counts: dict[str, int] = {}

    # ---- nodes -------------------------------------------------------------------------------------------------
    def add(self, op: str, target: Any, args: tuple, kwargs: dict, value: Any, mutates: tuple = ()) -> fx.Node:
        """Append a node and bind the tensors of ``value`` to it or to items of it."""
        node = self.graph.create_node(op, target, args, kwargs)
        stack = self.stack
        dynamic = op == 'placeholder' or any(source.meta['dynamic'] for source in node.all_input_nodes)
        node.meta.update(
            position=len(self.graph.nodes) - 1, shape=None, dtype=None, dynamic=dynamic, mutates=mutates,
            module=stack[-1].name if stack else '', stack=tuple(call.index for call in stack))
        node.meta['ragged'] = dynamic and _is_ragged(node, value)
        self.bind(value, node)
        return node

    def bind(self, value: Any, node: fx.Node) -> None:
        """Remember that ``value`` is what ``node`` computes; items of containers become nodes of their own."""
        if isinstance(value, Tensor):
            self.nodes[value] = node
            base = self._base(value)
            if base is not value:
                self.views.setdefault(base, []).append(weakref.ref(value))
            node.meta['shape'], node.meta['dtype'] = tuple(value.shape), value.dtype
        elif isinstance(value, dict):
            self._bind_items(operator.getitem, value.items(), node)
        elif isinstance(value, (tuple, list)):
            self._bind_items(operator.getitem, enumerate(value), node)
        elif is_dataclass(value) and not isinstance(value, type):
            self._bind_items(getattr, ((part.name, getattr(value, part.name)) for part in fields(value)), node)

    def _bind_items(self, getter: Callable, items: Any, node: fx.Node) -> None:
        for key, item in items:
            if tensors_in(item):
                self.add('call_function', getter, (node, key), {}, item)

    def argument(self, value: Any, strict: bool = True) -> Any:
        """Translate a call's argument: tensors become nodes, containers are copied.

        Raises:
            TraceError: The value is of a kind that a graph cannot hold (only if ``strict``).
        """
        if isinstance(value, Tensor):
            return self.nodes.get(value) or self._attribute(value)
        if isinstance(value, (tuple, list)):
            items = [self.argument(item, strict) for item in value]
            if hasattr(value, '_fields'):
                return type(value)(*items)
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, dict):
            return {key: self.argument(item, strict) for key, item in value.items()}
        if is_dataclass(value) and not isinstance(value, type) and strict:
            parts = {part.name: self.argument(getattr(value, part.name)) for part in fields(value)}
            return self.add('call_function', type(value), (), parts, None)
        if isinstance(value, slice):
            return slice(*(self.argument(item, strict) for item in (value.start, value.stop, value.step)))
        if isinstance(value, _ATOMS) or not strict:
            return value
        raise TraceError(f'{self.where()}: an argument of type {type(value).__name__} cannot be recorded. {ADVICE}.')

    def _base(self, tensor: Tensor) -> Tensor:
        """Return the tensor whose memory a view shows, or the tensor itself; to ask is no call to record."""
        paused, self.paused = self.paused, True
        base = tensor._base
        self.paused = paused
        return tensor if base is None else base

    def _bind_written(self, tensors: list[Tensor], write: fx.Node) -> None:
        """Give tensors whose memory an operation changed, beside its result, a node for what they are from now on."""
        for tensor in tensors:
            base = self._base(tensor)
            for other in (tensor, base, *(reference() for reference in self.views.get(base, ()))):
                node = None if other is None else self.nodes.get(other)
                if node is not None and node is not write and write not in node.args:
                    self.add('call_function', after, (node, write), {}, other)

    def _attribute(self, tensor: Tensor) -> fx.Node:
        name = self.attributes.get(tensor)
        if name is None:
            name = f'_constant_{len(self.constants)}'
            self.constants[name] = tensor
        return self.add('get_attr', name, (), {}, tensor)

    def where(self) -> str:
        """Return the name of the module that is being run."""
        stack = self.stack
        module = f"module '{stack[-1].name}'" if stack and stack[-1].name else 'the model itself'
        return f'{type(self.model).__name__}: {module}'

    # ---- calls -------------------------------------------------------------------------------------------------
    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        tensors = tensors_in((args, kwargs))
        versions = [tensor._version for tensor in tensors]
        result = func(*args, **kwargs)
        changed = [tensor for tensor, version in zip(tensors, versions, strict=True) if tensor._version != version]
        if not changed and not tensors_in(result):
            name = getattr(func, '__name__', '')
            if name in _SIZES and self._reads_rows(name, args):
                self.reads.append(f"{self.where()} counts rows that were chosen by value ('{name}')")
            if name in _READS and any(self.argument(tensor).meta['dynamic'] for tensor in tensors):
                self.reads.append(f"{self.where()} takes a Python number or decision from values ('{name}')")
            return result
        op, target, positional = _operation(func, args)
        nodes = (tuple(self.argument(arg) for arg in positional),
                 {key: self.argument(value) for key, value in kwargs.items()})
        node = self.add(op, target, *nodes, result, mutates=tuple(self.argument(tensor) for tensor in changed))
        self._bind_written(changed, node)
        return result

    def _reads_rows(self, name: str, args: tuple) -> bool:
        """Return whether a number that Python gets tells how many rows were chosen by value."""
        node = self.nodes.get(args[0]) if isinstance(args[0], Tensor) else None
        return node is not None and node.meta['ragged'] and (name != 'size' or args[1:2] == (0,) or args[0].ndim == 1)

    def call_module(self, module: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> Any:
        """Record a module's call, as one node if it is a leaf, else by what happens inside."""
        name = self.names.get(module)
        if self.paused or name is None:  # inside a leaf, or a throw-away module made during the forward pass
            return forward(module, *args, **kwargs)
        leaf = module is not self.model and self.leaf(module, name)
        call = self._enter(name, leaf, args, kwargs)
        run = functools.partial(self._run_leaf, forward) if leaf else forward
        result = run(module, *args, **kwargs)
        call.outputs = tuple(dict.fromkeys(
            node for node in (self.nodes.get(tensor) for tensor in tensors_in(result)) if node is not None))
        call.returns_tensor = isinstance(result, Tensor)
        call.end = len(self.graph.nodes)
        self.stack.pop()
        return result

    def _enter(self, name: str, leaf: bool, args: tuple, kwargs: dict) -> Call:
        count = self.counts.get(name, 0)
        self.counts[name] = count + 1
        stack = self.stack
        arguments = self.argument((args, kwargs), strict=leaf)
        call = Call(index=len(self.calls), name=name, key=f'{name}@{count}' if count else name,
                    parents=tuple(call.index for call in stack), start=len(self.graph.nodes),
                    args=arguments[0], kwargs=arguments[1])
        self.calls.append(call)
        stack.append(call)
        return call

    def _run_leaf(self, forward: Callable, module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
        call = self.stack[-1]
        inputs = tensors_in((args, kwargs))
        versions = [tensor._version for tensor in inputs]
        self.paused = True
        try:
            result = forward(module, *args, **kwargs)
            if isinstance(result, Tensor) and any(result is tensor for tensor in inputs):
                # An Identity, a Dropout at rest or an in-place activation: give the result an object of its own, so
                # that whoever still holds the input goes on meaning the input.
                result = result.view_as(result)
        finally:
            self.paused = False
        changed = [tensor for tensor, version in zip(inputs, versions, strict=True) if tensor._version != version]
        node = self.add('call_module', call.name, call.args, call.kwargs, result,
                        mutates=tuple(self.argument(tensor) for tensor in changed))
        self._bind_written(changed, node)
        return result


def _is_ragged(node: fx.Node, value: Any) -> bool:
    """Return whether a new node's number of rows depends on values: chosen by value, or made of rows that were."""
    sources = node.all_input_nodes
    name = node.target if isinstance(node.target, str) else getattr(node.target, '__name__', '')
    if name in _BY_VALUE or name == 'where' and len(node.args) == 1:
        return True
    if name in ('__getitem__', 'getitem') and any(source.meta['dtype'] == torch.bool for source in sources[1:]):
        return True
    if not isinstance(value, Tensor) or not value.ndim or not sources:
        return False
    first = sources[0].meta
    if first['shape'] == tuple(value.shape) and not first['ragged']:
        return False  # laid into something whose size is given
    return any(source.meta['ragged'] and (not source.meta['shape'] or source.meta['shape'][0] == len(value))
               for source in sources)


def after(value: Any, write: Any) -> Any:
    """Return a value as it is once an operation has written into its memory."""
    return value


def _operation(func: Callable, args: tuple) -> tuple[str, Any, tuple]:
    """Translate what the mode is given into the operation, target and arguments of an fx node."""
    if getattr(func, '__name__', None) == '__get__':
        return 'call_function', getattr, (args[0], func.__self__.__name__)
    if is_tensor_method_or_property(func):
        return 'call_method', func.__name__, args
    return 'call_function', func, args


def _tensor_names(model: nn.Module) -> WeakIdKeyDictionary:
    names = WeakIdKeyDictionary()
    for prefix, module in model.named_modules():
        for name, tensor in itertools.chain(module._parameters.items(), module._buffers.items(),
                                            vars(module).items()):
            if isinstance(tensor, Tensor):
                names.setdefault(tensor, f'{prefix}.{name}' if prefix else name)
    return names
