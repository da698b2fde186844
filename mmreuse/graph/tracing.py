"""Run a network once under the tracer and derive its feature spaces."""
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mmreuse.errors import MMReuseError, TraceError
from mmreuse.graph.copying import fresh_copy, refresh, refuse_opaque
from mmreuse.graph.spaces import rules  # noqa: F401 (fills the tables)
from mmreuse.graph.spaces.coverage import cover
from mmreuse.graph.spaces.derive import Axis, derive_spaces
from mmreuse.graph.spaces.source_lines import failing_line
from mmreuse.graph.spaces.state import Activation, set_state
from mmreuse.graph.spaces.taps import operations_shown
from mmreuse.graph.spaces.tracer import Tracer
from mmreuse.graph.traced_model import Held, TracedModel
from mmreuse.graph.values import as_positional, frozen_random, map_tensors, random_like, tensors_within
from mmreuse.utils.modes import evaluating


def trace(model: nn.Module, inputs: Any, held: Sequence[Held] = ()) -> TracedModel:
    """Run a network once and derive its feature spaces.

    The run is on a copy on the CPU in evaluation mode, without gradients; values of the inputs
    do not matter, their shapes do. Nothing is kept of the run but the spaces. They are derived, not proved:
    :func:`mmreuse.graph.verified` does both.

    Args:
        model: Any network built of PyTorch operations. Lazy modules are run once to become what they are.
        inputs: What its forward takes, e.g. images of shape (1, 3, 224, 224): one argument, a tuple of them or a
            dict of keyword arguments. The smallest shape that the network accepts is enough and cheapest.
        held: What shall not move, of an earlier proof.

    Returns:
        TracedModel: With ``spaces``, ``verify()`` and ``pins``.

    Raises:
        TraceError: The network does not run, or an operation cannot be followed; names the
            operation, the module and the line.
    """
    refuse_opaque(model)
    inputs = as_positional(model, inputs)
    _materialise(model, inputs)
    tracer = follow(model, inputs)
    hold(tracer, held)
    if not held:
        _warn(model, tracer)
    spaces = derive_spaces(tracer).spaces
    pins = dict.fromkeys([*tracer.pins, *(pin for _, pin in tracer.decisions)])
    branches = tuple(dict.fromkeys(number for number, _ in tracer.decisions if number >= 0))
    unread = tuple(key for key, _ in model.named_parameters() if tracer.chooses and key not in tracer.read)
    return TracedModel(model, inputs, spaces, tuple(pins), tuple(held), branches, unread)


def _materialise(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Run lazy modules once, so that they have their parameters."""
    if any(is_lazy(tensor) for tensor in [*model.parameters(), *model.buffers()]):
        try:
            with evaluating(model), torch.no_grad(), frozen_random(0):
                model(*map_tensors(inputs, torch.clone))
        except Exception as error:
            raise TraceError(f'{type(model).__name__} has lazy modules and does not run: {type(error).__name__}: '
                             f'{error} ({failing_line(error)}). Give inputs that it accepts.') from error


def _warn(model: nn.Module, tracer: Tracer) -> None:
    """Warn where a network decides by values or draws random numbers."""
    where = {'branches': [pin for _, pin in tracer.decisions], 'random': tracer.random}
    for kind, pins in where.items():
        places = '; '.join(dict.fromkeys(f"'{pin.operation}' in module '{pin.module}' ({pin.line})" for pin in pins))
        if kind == 'branches' and pins:
            warnings.warn(f'{type(model).__name__} branches on computed values: {places}. The way that was not taken '
                          'is unknown to the trace; mmreuse.graph.verified tries it and holds what it changes.',
                          stacklevel=3)
        elif pins:
            warnings.warn(f'{type(model).__name__} draws random numbers in evaluation mode: {places}. If this is '
                          'dropout, hand it training=self.training.', stacklevel=3)


def hold(tracer: Tracer, held: Sequence[Held], key_of: Callable[[str], str] = str) -> None:
    """Keep features of a traced network in their places.

    Args:
        tracer: After the run, before spaces are derived.
        held: What to keep.
        key_of: From a parameter's name in the run to its name in ``held``.
    """
    for item in held:
        pairs = [pair for axis in item.axes for label in tracer.labels if key_of(label.key) == axis.tensor
                 for pair in _atoms_of(tracer, label, axis)]
        if not pairs:
            continue
        atoms, members = torch.stack(pairs).unique(dim=0).T
        cells = item.cells.unique(return_inverse=True)[1][members]
        sizes = torch.bincount(item.cells.unique(return_inverse=True)[1])
        if item.together and len(sizes) > 1:
            first = torch.zeros(len(sizes), dtype=torch.long).scatter_reduce(0, cells, atoms, 'amax')
            tracer.atoms.tie(atoms, first[cells])
            continue
        alone = (sizes[cells] == 1) | item.together
        tracer.atoms.pin(atoms[alone])
        keys = tracer.atoms.fresh(len(sizes))
        tracer.atoms.pin(keys)
        tracer.atoms.relate(atoms[~alone], keys[cells[~alone]])


def _atoms_of(tracer: Tracer, label: Any, axis: Axis) -> list[Tensor]:
    """Pairs (atom, member) where an axis holds one atom for each member."""
    ids, members = torch.broadcast_tensors(tracer.atoms.settle(label.ids), axis.members(label.shape))
    present = (ids != 0) & (members >= 0)
    pairs = torch.stack([ids[present], members[present]], 1).unique(dim=0)
    return list(pairs) if len(pairs) == len(pairs[:, 1].unique()) else []


def follow(model: nn.Module, inputs: tuple[Any, ...]) -> Tracer:
    """Run a copy of a network under a tracer and hold the outputs in place.

    Raises:
        TraceError: As for :func:`trace`.
    """
    twin = fresh_copy(model).cpu()
    values = random_like(inputs, device='cpu')
    tracer = Tracer(twin)
    for tensor in tensors_within(values):
        set_state(tensor, Activation(torch.zeros((1,) * tensor.dim(), dtype=torch.long).expand(tensor.shape)))
    try:
        with torch.no_grad(), frozen_random(0), tracer.watch, tracer, \
                operations_shown(twin, tracer.see_operation):
            refresh(twin)
            output = twin(*values)
    except MMReuseError:
        raise
    except Exception as error:
        if tracer.watch.found is not None:
            raise tracer.watch.found from error
        raise TraceError(_failure(model, inputs, tracer, error)) from error
    finally:
        tracer.close()
    for tensor in tensors_within(output):
        tracer.atoms.pin(tracer.ids(tensor))
    tracer.labels = cover(tracer.atoms, tracer.labels)
    return tracer


def _failure(model: nn.Module, inputs: tuple[Any, ...], tracer: Tracer, error: Exception) -> str:
    """Explain why a network could not be traced: it does not run at all, or something in it cannot be followed."""
    name, line = type(model).__name__, failing_line(error)
    place = f"module '{tracer.place}'{f' ({line})' if line else ''}"
    try:
        with torch.no_grad(), frozen_random(0):
            fresh_copy(model).cpu()(*random_like(inputs, device='cpu'))
    except Exception as own:
        shapes = ', '.join(str(tuple(tensor.shape)) for tensor in tensors_within(inputs))
        return (f'{name} does not run in evaluation mode: {type(own).__name__}: {own} in {place}. Give other inputs '
                f'than these of shapes {shapes}, or mend the network.')
    operation = f"operation '{tracer.current.name}'" if tracer.current else 'the first operation'
    return (f'{name} runs, but could not be traced: {type(error).__name__}: {error} in {place}, after {operation}. '
            'This is a limit of tracing: write that line with other torch operations.')
