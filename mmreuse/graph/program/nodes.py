"""The nodes of a network: its repeated body, derived from one recorded run.

A *segment* is a module's call that takes one tensor and returns one, and exactly one tensor crosses before it and
behind it. Segments nest. The rule, with no architecture in it:

1. A segment *branches* when two values are alive at once inside it and outside of its inner segments, as in a
   residual addition or a concatenation; one that ends in a product is a gate and does not count. A class of which one
   instance branches is a branching class, so an inverted residual without shortcut counts like its siblings.
2. Descend from the model, looking into everything that does not branch itself or that holds two or more segments of
   one branching class. What stops the descent is a *body module* if its class stopped it more than once, and if it
   stands in a container when most of them do.
3. Nodes are the body modules, and with them the outermost segments that hold a weight matrix and lie between the
   first and the last body module (down-sampling, transitions), or that stand as deep in a container as body modules
   do and are neither a plain ``nn.Sequential`` nor a single layer (the last convolution among MobileNetV3's blocks).

So stem, patch embedding, norms, pooling and classifier are no nodes. A network without branches (VGG) falls back to its
smallest repeated modules with a forward of their own, and if it is a flat sequence of layers, to each convolution with
the layers up to the next convolution or pooling, named ``features.0:2``.
"""
from collections import Counter
from typing import Any

from torch import fx, nn

from mmreuse.errors import SpaceError
from mmreuse.graph.program.cut import resolve
from mmreuse.graph.program.emit import Call
from mmreuse.graph.program.liveness import crossings, live_values
from mmreuse.graph.program.recording import Recording, record


def sequence_of_nodes(model: nn.Module | Any, inputs: Any = None) -> tuple[str, ...]:
    """Name the nodes of a network in execution order.

    Between consecutive nodes exactly one tensor crosses, so that any contiguous run of them is a block for
    :func:`~mmreuse.graph.program.cut.slice_block`.

    Args:
        model: A module, or a traced graph with attributes ``model`` and ``inputs``. A model on the meta device is fine.
        inputs: What the model runs on, once, unless a graph was given.

    Returns:
        tuple[str, ...]: Dotted module names. In a flat sequence of layers ``features.0:2`` stands for ``features.0``
        to ``features.2``; :func:`~mmreuse.graph.program.cut.endpoints` gives the two.

    Raises:
        SpaceError: Nowhere in the model does a single tensor pass from module to module.
        TraceError: The model cannot be recorded.
    """
    model, inputs = resolve(model, inputs)
    body = _Body(model, record(model, inputs))
    names = body.branching() or body.plain_modules() or body.layers()
    if not names:
        raise SpaceError(f'{type(model).__name__} has no nodes: nowhere does a single tensor pass from one of its '
                         'modules with weights to the next. Name the nodes of this network by hand.')
    return names


class _Body:
    """The segments of a recording and the ways to choose nodes among them."""

    def __init__(self, model: nn.Module, recording: Recording):
        self.model = model
        self.recording = recording
        self.modules = {call.index: model.get_submodule(call.name) for call in recording.calls}
        places = {node for node in recording.graph.nodes if node.op == 'placeholder'} | set(crossings(recording))
        self.segments = [call for call in recording.calls if call.parents and call.output in places
                         and len(call.inputs) == 1 and call.inputs[0] in places and call.inputs[0] is not call.output]

    def branching(self) -> tuple[str, ...]:
        """Choose the body modules by rules 1 to 3."""
        classes = self._branching_classes()
        stops = self._descend(classes)
        counts = Counter(type(self.modules[call.index]) for call in stops)
        least = 2 if any(count > 1 for count in counts.values()) else 1
        body = self._in_series([call for call in stops if counts[type(self.modules[call.index])] >= least])
        return self._with_companions(body)

    def _branching_classes(self) -> set[type]:
        inner: dict[int, Call] = {}  # position -> innermost segment around it; segments come outermost first
        for call in self.segments:
            inner.update(dict.fromkeys(range(call.start, call.end), call))
        live = live_values(self.recording)
        branching = {inner[node.meta['position']].index for node, values in live.items()
                     if len(values) > 1 and node.meta['position'] in inner}
        calls = self.recording.calls
        return {type(self.modules[index]) for index in branching if not _is_product(calls[index].output)}

    def _descend(self, classes: set[type]) -> list[Call]:
        stops: list[Call] = []
        for call in self.segments:
            if type(self.modules[call.index]) not in classes or any(stop.index in call.parents for stop in stops):
                continue
            inside = Counter(type(self.modules[other.index]) for other in self.segments if call.index in other.parents)
            if not any(inside[kind] > 1 for kind in classes):
                stops.append(call)
        return stops

    def _with_companions(self, body: list[Call]) -> tuple[str, ...]:
        if not body:
            return ()
        levels = {self._level(call.name) for call in body} - {None}
        first, last = body[0].start, body[-1].end
        chosen = list(body)
        for call in self.segments:
            module = self.modules[call.index]
            taken = any(call.index in other.parents or other.index in call.parents or other is call for other in chosen)
            between = first <= call.start and call.end <= last
            beside = self._level(call.name) in levels and _has_own_forward(module)
            if not taken and has_matrix(module) and (between or beside):
                chosen.append(call)
        return tuple(call.key for call in sorted(chosen, key=lambda call: call.start))

    def _level(self, name: str) -> tuple[str, int] | None:
        container = self._container(name)
        return None if container is None else (container, name.count('.'))

    def _in_series(self, calls: list[Call]) -> list[Call]:
        """Leave out calls that stand alone when most stand in containers: a stem of the body's own class."""
        contained = [call for call in calls if self._container(call.name) is not None]
        return contained if 2 * len(contained) > len(calls) else calls

    def _container(self, name: str) -> str | None:
        """Return the outermost plain container around a module."""
        parts = name.split('.')
        for length in range(1, len(parts)):
            path = '.'.join(parts[:length])
            if isinstance(self.model.get_submodule(path), (nn.Sequential, nn.ModuleList)):
                return path
        return None

    def plain_modules(self) -> tuple[str, ...]:
        """Choose the smallest repeated modules with a forward of their own and a weight matrix, gates left out."""
        composite = [call for call in self.segments if has_matrix(self.modules[call.index])
                     and _has_own_forward(self.modules[call.index]) and not _is_product(call.output)]
        smallest = self._in_series(
            [call for call in composite if not any(call.index in other.parents for other in composite)])
        counts = Counter(type(self.modules[call.index]) for call in smallest)
        return self._with_companions([call for call in smallest if counts[type(self.modules[call.index])] > 1])

    def layers(self) -> tuple[str, ...]:
        """Choose each convolution (if there is none, each matrix but the last), with what follows it."""
        layers = [call for call in self.segments if not any(True for _ in self.modules[call.index].children())]
        matrices = [call for call in layers if has_matrix(self.modules[call.index])]
        convolutions = [call for call in matrices if has_matrix(self.modules[call.index], axes=3)]
        groups = [self._group(layers, layers.index(call)) for call in self._in_series(convolutions) or matrices[:-1]]
        return tuple(groups) if len(groups) > 1 else ()

    def _group(self, layers: list[Call], index: int) -> str:
        first = last = layers[index]
        for call in layers[index + 1:]:
            same_shape = call.output.meta['shape'] == last.output.meta['shape']
            sibling = call.name.rpartition('.')[0] == first.name.rpartition('.')[0]
            if call.inputs != (last.output,) or not same_shape or not sibling or has_matrix(self.modules[call.index]):
                break
            last = call
        return first.key if last is first else f"{first.key}:{last.key.rpartition('.')[2]}"


def has_matrix(module: nn.Module, axes: int = 2) -> bool:
    """Return whether a module holds a weight of at least ``axes`` axes, as linear maps do and norms do not."""
    return any(parameter.ndim >= axes for parameter in module.parameters())


def _is_product(node: fx.Node) -> bool:
    """Return whether a value is a product: its module gates what it was given (squeeze and excitation)."""
    return getattr(node.target, '__name__', node.target) in ('mul', 'mul_', '__mul__', '__imul__', '__rmul__')


def _has_own_forward(module: nn.Module) -> bool:
    return not isinstance(module, nn.Sequential) and any(True for _ in module.children())
