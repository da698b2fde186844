"""One run of a model, recorded as a ``torch.fx`` graph."""
import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from mmreuse.errors import TraceError
from mmreuse.graph.copying import refuse_opaque
from mmreuse.graph.program.emit import Call
from mmreuse.graph.program.recorder import LeafRule, Recorder, is_leaf
from mmreuse.graph.values import as_positional, tensors_in, tensors_within
from mmreuse.utils.modes import evaluating


@dataclass
class Recording:
    """One concrete run: nodes in execution order, with what is needed to compare it with another run."""
    graph: fx.Graph
    calls: list[Call]
    constants: dict[str, Tensor]
    reads: list[str]  # where control flow or numbers were taken from values that depend on the inputs
    inputs: tuple[Any, ...]
    output: Any  # what the model returned


def record(model: nn.Module, inputs: Any, leaf: LeafRule = is_leaf) -> Recording:
    """Run a model once in eval mode and record what it does.

    Args:
        model: Left as it was, its mode included. May live on the meta device, together with ``inputs``.
        inputs: A tensor, a tuple of arguments or a dict of keyword arguments; axis 0 of tensors is the batch.
        leaf: Which modules are one call.

    Returns:
        Recording: shapes in it are concrete numbers, those of ``inputs``.

    Raises:
        TraceError: The model fails on ``inputs``, does not take them by position, or an argument cannot be recorded.
    """
    refuse_opaque(model)
    inputs = as_positional(model, inputs)
    if not list(tensors_within(inputs)):
        raise TraceError('inputs must be a tensor, a tuple of arguments or a dict of keyword arguments with one. An '
                         'image classifier needs e.g. torch.zeros(1, 3, 224, 224).')
    recorder = Recorder(model, leaf)
    for name, value in zip(_argument_names(model, len(inputs)), inputs, strict=True):
        recorder.add('placeholder', name, (), {}, value)
    with evaluating(model), torch.no_grad(), _patched_calls(recorder), recorder:
        try:
            output = model(*inputs)
        except TraceError:
            raise
        except Exception as error:
            shapes = ', '.join(str(tuple(tensor.shape)) for tensor in tensors_in(inputs))
            raise TraceError(f'{recorder.where()} fails while the model runs on inputs of shape {shapes}: '
                             f'{type(error).__name__}: {error}\nGive inputs that the model accepts, on its device.'
                             ) from error
        recorder.graph.output(recorder.argument(output))
    last = next(iter(reversed(recorder.graph.nodes)))
    last.meta.update(position=len(recorder.graph.nodes) - 1, dynamic=True, mutates=(), stack=(), module='', shape=None)
    return Recording(recorder.graph, recorder.calls, recorder.constants, recorder.reads, inputs, output)


def _argument_names(model: nn.Module, count: int) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = [name for name, parameter in inspect.signature(model.forward).parameters.items()
             if parameter.kind in kinds]
    return [known[i] if i < len(known) else f'input_{i}' for i in range(count)]


@contextlib.contextmanager
def _patched_calls(recorder: Recorder) -> Iterator[None]:
    original = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return recorder.call_module(module, original, args, kwargs)

    nn.Module.__call__ = call
    try:
        yield
    finally:
        nn.Module.__call__ = original
