"""The traced network."""
import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import MMReuseError, TraceError
from mmreuse.graph import (  # noqa: F401
    decompose,
    rules_elementwise,
    rules_layout,
    rules_linear,
    rules_recurrent,
    rules_reduce,
)
from mmreuse.graph.spaces import FeatureSpace, derive_spaces
from mmreuse.graph.state import Activation, set_state
from mmreuse.graph.taps import operations_shown
from mmreuse.graph.tracer import Pin, Tracer, tensors_in


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as feature spaces.

    Attributes:
        model: The network as it was given.
        inputs: Arguments of its forward, as they were given.
        spaces: By name, in the order in which they are first written.
        pins: What was kept from moving, and by which operation.
    """
    model: nn.Module
    inputs: tuple[Any, ...]
    spaces: dict[str, FeatureSpace]
    pins: tuple[Pin, ...]

    def verify(self, seed: int = 0) -> 'VerifyReport':  # noqa: F821
        """Prove the spaces: see :func:`mmreuse.graph.verify.verify`."""
        from mmreuse.graph.verify import verify
        return verify(self, seed=seed)

    def __str__(self) -> str:
        return '\n'.join(str(space) for space in self.spaces.values())


def trace(model: nn.Module, inputs: Tensor | tuple[Any, ...]) -> Graph:
    """Run a network once and derive its feature spaces.

    The run is on a copy on the CPU in evaluation mode, without gradients; values of the inputs
    do not matter, their shapes do. Nothing is kept of the run but the spaces.

    Args:
        model: Any network built of PyTorch operations.
        inputs: What its forward takes, e.g. images of shape (1, 3, 224, 224). The smallest shape
            that the network accepts is enough and cheapest.

    Returns:
        Graph: With ``spaces``, ``verify()`` and ``pins``.

    Raises:
        TraceError: The network does not run, or an operation cannot be followed; names the
            operation and the module.
    """
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    tracer = follow(model, inputs)
    return Graph(model, inputs, derive_spaces(tracer).spaces, tuple(tracer.pins))


def follow(model: nn.Module, inputs: tuple[Any, ...]) -> Tracer:
    """Run a copy of a network under a tracer and hold the outputs in place.

    Raises:
        TraceError: As for :func:`trace`.
    """
    try:
        twin = fresh_copy(model).cpu()
    except Exception as error:
        raise TraceError(f'{type(model).__name__} cannot be copied ({error}); trace it before it is compiled, '
                         'scripted or wrapped.') from error
    values = random_like(inputs, device='cpu')
    tracer = Tracer(twin)
    for tensor in tensors_in(values):
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
        operation = f"operation '{tracer.current.name}'" if tracer.current else 'the first operation'
        raise TraceError(f"{type(model).__name__} could not be traced: {type(error).__name__}: {error} in module "
                         f"'{tracer.place}', after {operation}. Check that model(*inputs) runs on inputs of "
                         'these shapes in evaluation mode.') from error
    finally:
        tracer.close()
    for tensor in tensors_in(output):
        tracer.atoms.pin(tracer.ids(tensor))
    tracer.cover()
    return tracer


def fresh_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, in which nothing is left of what modules computed from other parameters."""
    twin = copy.deepcopy(model).eval()
    refresh(twin)
    return twin


def refresh(model: nn.Module) -> None:
    """Make modules compute anew what they keep for evaluation (a bias gathered from a table, say)."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    model.eval()
    for module, mode in modes:
        module.training = mode


def random_like(inputs: Any, seed: int = 0, device: str | None = None) -> Any:
    """Inputs of the same shapes with random values in place of floating-point ones; on their own device or another."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(inputs, Tensor):
        values = torch.randn(inputs.shape, generator=generator) if inputs.is_floating_point() else inputs.clone()
        return values.to(device or inputs.device, inputs.dtype)
    if isinstance(inputs, (list, tuple)):
        return type(inputs)(random_like(item, seed + number, device) for number, item in enumerate(inputs))
    if isinstance(inputs, dict):
        return {key: random_like(value, seed, device) for key, value in inputs.items()}
    return inputs


@contextmanager
def frozen_random(seed: int) -> Iterator[None]:
    """Draw the same random numbers in every run, and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
