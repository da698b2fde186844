"""Cut a network at places where exactly one tensor crosses, or anywhere.

A place is named by the module whose output crosses. Everything that lies on one side of the cuts stays the original
module: only modules that a cut goes through are replaced by the recorded sequence of what they do, so that train
mode, other input sizes and the printed structure remain those of the model wherever possible.
"""
import copy
import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from mmreuse.errors import SpaceError, TraceError
from mmreuse.graph.copying import refuse_opaque
from mmreuse.graph.program.capture import agree, capture, resample
from mmreuse.graph.program.emit import Call, GraphModule, Program, emit, is_tensor_node
from mmreuse.graph.program.liveness import Layout, crossings, guess_layout, live_after
from mmreuse.graph.program.recorder import outside
from mmreuse.graph.program.recording import Recording, record
from mmreuse.graph.program.sequential_block import chain_between
from mmreuse.graph.values import as_positional
from mmreuse.utils.modes import evaluating


@dataclass(frozen=True)
class CutPoint:
    """A place where exactly one tensor crosses."""
    name: str  # outermost module whose output it is ('@1', '@2', ...: of its second, third, ... call)
    shape: tuple[int, ...]  # of the tensor, without the batch
    layout: Layout | None  # None for a plain vector of features


def cut_points(model: nn.Module | Any, inputs: Any = None) -> list[CutPoint]:
    """List the places where exactly one tensor crosses, in execution order.

    Args:
        model: A module, or a traced graph with attributes ``model`` and ``inputs``.
        inputs: What the model runs on, unless a graph was given: a tensor, a tuple of arguments or a dict of keyword
            arguments; any batch size.

    Raises:
        TraceError: The model cannot be recorded.
    """
    model, inputs = resolve(model, inputs)
    recording = record(model, inputs)
    points = []
    for node, calls in places(recording).items():
        points.append(CutPoint(calls[0].key, node.meta['shape'][1:], guess_layout(node, model)))
    return points


def places(recording: Recording | Program) -> dict[fx.Node, list[Call]]:
    """Return the nodes that cross alone with the calls whose output they are, outermost first."""
    ends: dict[fx.Node, list[Call]] = {}
    for call in recording.calls:
        if call.parents and call.output is not None:
            ends.setdefault(call.output, []).append(call)
    output = next(iter(reversed(recording.graph.nodes)))
    return {node: ends[node] for node in crossings(recording) if node in ends and set(node.users) != {output}}


def cut(model: nn.Module | Any, at: str | Sequence[str], inputs: Any = None) -> tuple[nn.Module, ...]:
    """Cut a model into consecutive parts whose composition is the model, bit for bit.

    Args:
        model: A module, or a traced graph with attributes ``model`` and ``inputs``.
        at: Names of modules behind whose output to cut, in execution order or not; see :func:`cut_points`.
        inputs: What the model runs on, unless a graph was given. Its spatial size is kept by parts that a cut goes
            through and where the model computes with sizes; the batch size is free.

    Returns:
        tuple[nn.Module, ...]: one part more than cuts. They share the model's modules and parameters (deep-copy them
        for independent ones) and keep their dotted names in ``state_dict``. All but the last return one tensor.

    Raises:
        SpaceError: A name is unknown, or more than one tensor crosses there; names the nearest valid places.
        TraceError: The model cannot be recorded.
    """
    model, inputs = resolve(model, inputs)
    names = [at] if isinstance(at, str) else list(at)
    recording = record(model, inputs)
    valid = places(recording)
    nodes = {_find_place(name, model, recording, valid): None for name in names}
    calls = sorted((valid[node][0] for node in nodes), key=lambda call: call.end)
    program = capture(model, inputs, outside(_opened(recording, calls)))
    crossing = crossings(program)
    ends = [program.call(call.key).output for call in calls]
    if not all(end in crossing for end in ends):
        raise TraceError(f"{type(model).__name__} does not come apart at '{calls[0].key}': a module that is called at "
                         'several places ties both sides. Cut elsewhere.')
    parts, inputs_of_part, after = [], None, -1
    for end in [*ends, None]:
        parts.append(emit(program, inputs_of_part, end, after))
        inputs_of_part, after = [end], crossing.get(end, -1)
    _prove_parts(program, parts, inputs, [call.key for call in calls])
    return tuple(parts)


def cut_across(model: nn.Module | Any, at: str | Sequence[str], inputs: Any = None) -> tuple[GraphModule, ...]:
    """Cut a model behind any modules, however many tensors cross there, also in the middle of a residual block.

    Args:
        model: A module, or a traced graph with attributes ``model`` and ``inputs``.
        at: Names of modules behind which to cut, in execution order; '' stands for the model's inputs.
        inputs: As for :func:`cut`.

    Returns:
        tuple[GraphModule, ...]: one part more than cuts, sharing modules and parameters as those of :func:`cut` do. All
        but the last return a tuple of tensors, which the next takes as its arguments:
        ``parts[1](*parts[0](x))`` is the model, bit for bit.

    Raises:
        SpaceError: A name is unknown, out of order, or nothing is computed behind it.
        TraceError: The model cannot be recorded.
    """
    model, inputs = resolve(model, inputs)
    names = [at] if isinstance(at, str) else list(at)
    recording = record(model, inputs)
    calls = {name: find_call(name, model, recording) for name in names if name}
    program = capture(model, inputs, outside(_opened(recording, list(calls.values()))))
    entries = [node for node in program.graph.nodes if node.op == 'placeholder']
    ends = [program.call(calls[name].key).end - 1 if name else len(entries) - 1 for name in names]
    _check_order(names, ends, program)
    crossing = live_after(program)
    parts, inputs_of_part, after = [], entries, -1
    for name, end in zip(names, ends, strict=True):
        live = crossing[end]
        if not live or not all(is_tensor_node(node) for node in live):
            raise SpaceError(f"{type(model).__name__} cannot be cut behind '{name}': what crosses there are not only "
                             f'tensors. {_nearest(name, recording)}')
        parts.append(emit(program, inputs_of_part, tuple(live), after, end))
        inputs_of_part, after = live, end
    parts.append(emit(program, inputs_of_part, None, after))
    _prove_parts(program, parts, inputs, names)
    return tuple(parts)


def _prove_parts(program: Program, parts: Sequence[GraphModule], inputs: Any, names: Sequence[str]) -> None:
    """Compare the parts one after another with the model on values and a number of samples that were not recorded.

    Raises:
        SpaceError: They differ; names where the network was cut and what it writes in place.
    """
    if program.device == torch.device('meta'):
        return
    fresh = resample(as_positional(program.model, inputs), 5)
    with evaluating(program.model), torch.no_grad():
        expected = program.model(*copy.deepcopy(fresh))
        values = parts[0](*fresh)
        for part in parts[1:]:
            values = part(*values) if isinstance(values, tuple) else part(values)
    if not agree(expected, values):
        writes = [f"'{node.name}' in '{node.meta['module']}'" for node in program.graph.nodes if node.meta['mutates']]
        raise SpaceError(f'{type(program.model).__name__}, cut behind {_quoted(names)}, does not compute on five fresh '
                         'inputs what it computes as a whole: it depends on values or the number of samples, or what '
                         f"it writes in place crosses the cut ({', '.join(writes[:5]) or 'it writes nothing'}). Cut at "
                         'modules around these operations.')


def _check_order(names: list[str], ends: list[int], program: Program) -> None:
    """Every part must compute something."""
    whole = type(program.model).__name__
    for (first, start), (second, end) in itertools.pairwise(zip(names, ends, strict=True)):
        if start >= end:
            raise SpaceError(f"'{second}' does not run behind '{first}' in {whole}: name places in execution order.")
    behind = [node for node in program.graph.nodes if node.meta['position'] > ends[-1] and node.op != 'output']
    if not behind:
        raise SpaceError(f"nothing is computed behind '{names[-1]}' in {whole}; cut at an earlier module.")


def slice_block(model: nn.Module | Any, first: str, last: str, inputs: Any = None) -> nn.Module:
    """Take modules ``first`` to ``last`` (both included) out of a network.

    Where modules from ``first`` to ``last`` run strictly in sequence, the block is a
    :class:`~mmreuse.graph.program.sequential_block.Chain` of the original modules, good for any input size they
    accept. If some of them
    take the spatial size of their tokens as an argument, it is a
    :class:`~mmreuse.graph.program.sequential_block.SizedChain`, called
    ``x, hw = block(x, hw)``. Otherwise the block is the recorded span of the model, whose input size is fixed where
    the model computes with sizes.

    Args:
        model: A module, or a traced graph with attributes ``model`` and ``inputs``.
        first: Dotted name of a module, or ``a:b`` for several in sequence, as
            :func:`~mmreuse.graph.program.nodes.sequence_of_nodes` names them.
        last: Likewise; may be ``first``.
        inputs: What the model runs on, unless a graph was given.

    Returns:
        nn.Module: given what ``first`` gets inside the model, returns what ``last`` returns there. Shares modules and
        parameters with the model and keeps their dotted names in ``state_dict``.

    Raises:
        SpaceError: A name is unknown, ``last`` runs before ``first``, or more than one tensor enters or leaves.
        TraceError: The model cannot be recorded.
    """
    model, inputs = resolve(model, inputs)
    recording = record(model, inputs)
    start = find_call(endpoints(first)[0], model, recording)
    end = find_call(endpoints(last)[1], model, recording)
    if start.start >= end.end:
        raise SpaceError(f"'{last}' runs before '{first}' in {type(model).__name__}: a block goes from first to last.")
    chain = chain_between(recording, model, start, end)
    if chain is not None:
        return chain.build(model)
    program = capture(model, inputs, outside(_opened(recording, [start, end])))
    entry, leave = program.call(start.key).inputs, program.call(end.key).output
    if len(entry) != 1 or leave is None:
        raise SpaceError(f"{type(model).__name__}: more than one tensor {'enters' if leave else 'leaves'} "
                         f"'{(start if leave else end).key}'. {_nearest(first, recording)}")
    try:
        block = emit(program, entry, leave, after=entry[0].meta['position'])
        _prove_block(program, block, entry[0], leave, inputs, (first, last))
        return block
    except TraceError as error:
        raise SpaceError(f"{type(model).__name__}, '{first}' to '{last}': {error}. "
                         f'{_nearest(first, recording)}') from error


def _prove_block(program: Program, block: GraphModule, entry: fx.Node, leave: fx.Node, inputs: Any,
                 names: Sequence[str]) -> None:
    """As :func:`_prove_parts`, for a block from one value inside the network to another."""
    if program.device == torch.device('meta'):
        return
    fresh = resample(as_positional(program.model, inputs), 5)
    with evaluating(program.model), torch.no_grad():
        given, expected = (emit(program, output=end)(*copy.deepcopy(fresh)) for end in (entry, leave))
        computed = block(given)
    if not agree(expected, computed):
        raise SpaceError(f"{type(program.model).__name__}: '{names[0]}' to '{names[1]}' does not compute on five fresh "
                         'inputs what it computes inside the network; choose other ends.')


def endpoints(name: str) -> tuple[str, str]:
    """Return the first and the last module that a node's name stands for.

    ``layer1.0`` is a module, both first and last; ``features.0:2`` stands for ``features.0`` to ``features.2``.
    """
    first, _, last = name.partition(':')
    return first, (f"{first.rpartition('.')[0]}.{last}".lstrip('.') if last else first)


def resolve(model: nn.Module | Any, inputs: Any) -> tuple[nn.Module, Any]:
    """Return module and inputs of a traced graph, or what was given.

    Raises:
        TraceError: There is nothing to run the model on.
    """
    if isinstance(model, nn.Module) or not hasattr(model, 'inputs'):
        refuse_opaque(model)
    else:
        model, inputs = model.model, model.inputs if inputs is None else inputs
    if inputs is None:
        raise TraceError(f'{type(model).__name__}: inputs are needed to see what the model does; an image classifier '
                         'takes e.g. inputs=torch.zeros(1, 3, 224, 224).')
    return model, inputs


def find_call(name: str, model: nn.Module, recording: Recording) -> Call:
    """Return the (first) call of a module.

    Raises:
        SpaceError: No such module runs; names the nearest ones.
    """
    by_key = {call.key: call for call in recording.calls if call.parents}
    if name not in by_key:
        near = difflib.get_close_matches(name, by_key, n=3, cutoff=0.3) or list(by_key)[:3]
        fate = 'does not run' if name in dict(model.named_modules()) else 'does not exist'
        raise SpaceError(f"module '{name}' {fate} in {type(model).__name__}. Nearest: {_quoted(near)}.")
    return by_key[name]


def _find_place(name: str, model: nn.Module, recording: Recording, valid: dict[fx.Node, list[Call]]) -> fx.Node:
    find_call(name, model, recording)
    for node, calls in valid.items():
        if name in {call.key for call in calls}:
            return node
    raise SpaceError(f"{type(model).__name__} does not come apart behind '{name}': more than one tensor crosses there, "
                     f'or nothing follows. {_nearest(name, recording)}')


def _nearest(name: str, recording: Recording) -> str:
    names = [call.key for calls in places(recording).values() for call in calls]
    return f'Nearest places where one tensor crosses: {_quoted(difflib.get_close_matches(name, names, 3, 0.3))}.'


def _quoted(names: Sequence[str]) -> str:
    return ', '.join(f"'{name}'" for name in names) or 'none'


def _opened(recording: Recording, calls: Sequence[Call]) -> set[str]:
    """Name the modules that have to be looked into so that the given calls are seen."""
    return {recording.calls[index].name for call in calls for index in call.parents}
