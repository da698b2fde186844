"""Inputs and outputs of networks: tensors in nests of containers, dataclasses and other objects."""
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import TraceError


def map_tensors(values: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor in nested lists, tuples, named tuples, dicts and dataclasses."""
    if isinstance(values, Tensor):
        return function(values)
    if isinstance(values, (list, tuple)):
        items = [map_tensors(value, function) for value in values]
        return type(values)(*items) if hasattr(values, '_fields') else type(values)(items)
    if isinstance(values, dict):
        mapped = copy.copy(values)
        for key, value in values.items():
            mapped[key] = map_tensors(value, function)
        return mapped
    if is_dataclass(values) and not isinstance(values, type):
        mapped = copy.copy(values)
        for part in fields(values):
            object.__setattr__(mapped, part.name, map_tensors(getattr(values, part.name), function))
        return mapped
    return values


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in a nest of containers and dataclasses; see :func:`tensors_within` for other objects."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, part.name) for part in fields(value)]
    elif not isinstance(value, (tuple, list)) or isinstance(value, torch.Size):
        return []
    return [tensor for item in value for tensor in tensors_in(item)]


def tensors_within(value: Any, seen: set[int] | None = None) -> Iterator[Tensor]:
    """Yield the tensors in what a network takes or returns, also those in the attributes of any object."""
    seen = set() if seen is None else seen
    if isinstance(value, Tensor):
        yield value
        return
    if id(value) in seen or isinstance(value, (type, nn.Module, str)) or callable(value):
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, (list, tuple, set)):
        parts = value
    elif is_dataclass(value):
        parts = [getattr(value, part.name) for part in fields(value)]
    else:
        parts = list(getattr(value, '__dict__', {}).values())
    for part in parts:
        yield from tensors_within(part, seen)


def as_positional(model: nn.Module, inputs: Any) -> tuple[Any, ...]:
    """Bring inputs into the order of a network's arguments.

    Args:
        model: Its ``forward`` says what the arguments are.
        inputs: One argument (such as a tensor), a tuple or list of arguments, or a dict of keyword arguments. A named
            tuple is one argument where its fields are not what ``forward`` takes.

    Raises:
        TraceError: ``forward`` does not take these keywords, or takes them by name only.
    """
    if isinstance(inputs, dict):
        return _bound(model, inputs)
    if hasattr(inputs, '_fields'):
        try:
            inspect.signature(model.forward).bind(*inputs)
        except TypeError:
            return (inputs,)
        return tuple(inputs)
    return tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)


def _bound(model: nn.Module, keywords: dict[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of ``forward`` up to the last that is given, defaults between them."""
    signature = inspect.signature(model.forward)
    try:
        bound = signature.bind(**keywords)
    except TypeError as error:
        raise TraceError(f'{type(model).__name__}.forward{signature} does not take the inputs '
                         f'{", ".join(keywords)}: {error}.') from error
    last = list(bound.arguments)[-1:]
    bound.apply_defaults()
    if bound.kwargs:
        given = [name for name in bound.kwargs if name in keywords]
        if given:
            raise TraceError(f'{type(model).__name__}.forward takes {", ".join(given)} by keyword only, and inputs are '
                             'handed on by position: wrap the network in a module whose forward takes them in order.')
    names = list(bound.arguments)
    return tuple(bound.arguments[name] for name in names[:names.index(last[0]) + 1]) if last else ()


def random_like(inputs: Any, seed: int = 0, device: str | None = None) -> Any:
    """Return inputs of the same shapes with random floating-point values, on their own device or another."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor) -> Tensor:
        values = torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor.clone()
        return values.to(device or tensor.device, tensor.dtype)

    return map_tensors(inputs, draw)


@contextmanager
def frozen_random(seed: int) -> Iterator[None]:
    """Draw the same random numbers in every run, and leave the global generators, of all devices, as they were."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        # torch.manual_seed would also seed devices that are used later, which nobody restores.
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield
