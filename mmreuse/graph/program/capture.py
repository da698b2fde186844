"""Record a model as a ``torch.fx`` graph with free batch size.

One recording holds shapes as plain numbers (see :mod:`mmreuse.graph.program.recorder`). The batch size is freed by
recording
twice, on two and on three samples of different values: a number that differs between the recordings is a multiple
of the batch size, and anything else that differs is an error that names the call.
"""
import itertools
from typing import Any

import torch
from torch import Tensor, fx, nn

from mmreuse.errors import TraceError
from mmreuse.graph.program.emit import Program, emit
from mmreuse.graph.program.recorder import ADVICE, LeafRule, is_leaf
from mmreuse.graph.program.recording import Recording, record
from mmreuse.graph.values import map_tensors, tensors_in
from mmreuse.utils.modes import evaluating


def capture(model: nn.Module, inputs: Any, leaf: LeafRule = is_leaf) -> Program:
    """Record a model as a graph in which the batch size is free.

    The model runs four times on at most three samples: once to warm up (some models fill caches in their first
    evaluation), twice to record, and once more to prove the result on the second recording's inputs. On the meta
    device nothing is computed and the proof is left out.

    Args:
        model: Any module; it is put into eval mode while it runs and left as it was.
        inputs: A tensor, a tuple of arguments or a dict of keyword arguments, of any batch size; axis 0 of tensors
            is the batch. Other axes are fixed to what they are here wherever the model reads them as numbers.
        leaf: Which modules are one call; by default :func:`is_leaf`.

    Returns:
        Program: ``program.module()`` is the recorded model as an ordinary module.

    Raises:
        TraceError: A call could not be recorded, or does not depend on the batch in a way that can be followed;
            the message names module, operation and remedy.
    """
    first, second = (resample(inputs, samples) for samples in (2, 3))
    record(model, first, leaf)
    one, two = record(model, first, leaf), record(model, second, leaf)
    if one.reads:
        raise TraceError(f'{one.reads[0]}: a graph would freeze it as it was here. {ADVICE}.')
    program = Program(model=model, graph=one.graph, calls=one.calls, constants=one.constants,
                      sizes=_compare(model, one, two), device=_device(one.inputs))
    if program.device != torch.device('meta'):
        _prove(model, program, two)
    return program


def _device(inputs: tuple) -> torch.device | None:
    tensors = tensors_in(inputs)
    return tensors[0].device if tensors else None


def resample(inputs: Any, samples: int) -> Any:
    """Make inputs like the given ones with another batch size and other values.

    Floating values are drawn around the given ones; others (token ids, masks) are taken over.
    """
    def draw(given: Tensor) -> Tensor:
        if not given.ndim:
            return given
        tensor = given.detach()[torch.arange(samples, device=given.device) % len(given)]
        if not tensor.is_floating_point() or tensor.is_meta:
            return tensor
        generator = torch.Generator(tensor.device).manual_seed(samples)
        return tensor + torch.randn(tensor.shape, generator=generator, device=tensor.device, dtype=tensor.dtype)

    return map_tensors(inputs, draw)


def _compare(model: nn.Module, one: Recording, two: Recording) -> dict[fx.Node, dict[int, tuple[int, int]]]:
    """Find the numbers that follow the batch size: by node, leaf index of the argument -> its two values."""
    sizes: dict[fx.Node, dict[int, tuple[int, int]]] = {}
    for node, other in itertools.zip_longest(one.graph.nodes, two.graph.nodes):
        if node is None or other is None or (node.op, node.target) != (other.op, other.target):
            here = node or other
            raise TraceError(_at(model, here) + ' runs for some inputs and not for others: control flow depends on the '
                             f'values or the number of samples. {ADVICE}.')
        node.meta['batch_axis'] = _batch_axis(node, other)
        pairs = list(itertools.zip_longest(_flat(node), _flat(other)))
        found = {i: pair for i, pair in enumerate(pairs) if not _same(*pair)}
        if any(type(value) is not int for pair in found.values() for value in pair):
            left, right = next(iter(found.values()))
            raise TraceError(f'{_at(model, node)} gets the number {left} for one input and {right} for another: it is '
                             f'computed from values or, not as a whole number, from the batch size. {ADVICE}.')
        if found:
            sizes[node] = found
    for name, tensor in one.constants.items():
        other = two.constants[name]
        if tensor.shape != other.shape or not (tensor.is_meta or torch.equal(tensor, other)):
            user = next(node for node in one.graph.nodes if node.target == name)
            raise TraceError(f'{_at(model, next(iter(user.users)))} reads a tensor of unknown origin that differs '
                             f'between inputs (made by a scripted function or outside torch). {ADVICE}.')
    return sizes


def _batch_axis(one: fx.Node, two: fx.Node) -> int | None:
    shapes = zip(one.meta['shape'] or (), two.meta['shape'] or (), strict=False)
    return next((axis for axis, (left, right) in enumerate(shapes) if left != right and left * 3 == right * 2), None)


def _same(left: Any, right: Any) -> bool:
    return left is right or (type(left) is type(right) and left == right) or left != left


def _flat(node: fx.Node) -> list[Any]:
    leaves: list[Any] = []
    fx.node.map_aggregate((node.args, node.kwargs), lambda leaf: leaves.append(
        leaf.name if isinstance(leaf, fx.Node) else leaf))
    return leaves


def _at(model: nn.Module, node: fx.Node) -> str:
    target = node.target if isinstance(node.target, str) else getattr(node.target, '__name__', node.target)
    return f"{type(model).__name__}: operation '{target}' in module '{node.meta['module']}'"


def _prove(model: nn.Module, program: Program, run: Recording) -> None:
    with evaluating(model), torch.no_grad():
        output = emit(program)(*run.inputs)
    if not agree(run.output, output):
        raise TraceError(f'{type(model).__name__}: the recorded graph does not compute what the model computes on '
                         'another batch: some operation escapes torch (scripted functions, NumPy) or is random '
                         f'in eval mode. {ADVICE}.')


def agree(given: Any, computed: Any) -> bool:
    """Return whether two outputs are equal up to rounding."""
    first, second = tensors_in(given), tensors_in(computed)
    return len(first) == len(second) and all(map(_close, first, second))


def _close(given: Tensor, computed: Tensor) -> bool:
    scale = 0.0
    if given.numel() and given.is_floating_point():
        scale = given.abs().nan_to_num(0.0, 0.0).amax().item()
    return given.shape == computed.shape and torch.allclose(given, computed, rtol=0.0, atol=1e-4 * scale,
                                                            equal_nan=True)
