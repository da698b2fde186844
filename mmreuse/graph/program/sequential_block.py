"""Blocks made of modules that run strictly in sequence."""
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from mmreuse.graph.program.emit import Call, attach
from mmreuse.graph.program.recording import Recording

#: Height and width of the map that a sequence of tokens stands for.
#: Height and width of the map that a feature tensor stands for.
Size = tuple[int, int]


class Chain(nn.Module):
    """Modules in sequence, like ``nn.Sequential``, under the dotted names they have in the network they come from.

    Args:
        modules: The network's modules by dotted name, in execution order; a name may come again.
    """

    def __init__(self, modules: Sequence[tuple[str, nn.Module]]):
        super().__init__()
        self.names = tuple(name for name, _ in modules)
        for name, module in modules:
            attach(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        """Run what the first module takes through all modules."""
        for name in self.names:
            x = self.get_submodule(name)(x)
        return x


class SizedChain(Chain):
    """Modules in sequence of which some take, and may return, the size of the map that the tokens stand for.

    Args:
        modules: The network's modules by dotted name, in execution order.
        sizes: By module name, the parameter of its ``forward`` that takes ``(height, width)``.
    """

    def __init__(self, modules: Sequence[tuple[str, nn.Module]], sizes: dict[str, str]):
        super().__init__(modules)
        self.sizes = sizes

    def forward(self, x: Tensor, hw: Size) -> tuple[Tensor, Size]:
        """Run tokens of shape (N, h * w, C) through all modules.

        Returns:
            tuple: Tokens (N, h' * w', C') and (h', w').
        """
        for name in self.names:
            module = self.get_submodule(name)
            x = module(x, **{self.sizes[name]: hw}) if name in self.sizes else module(x)
            if isinstance(x, tuple):
                x, hw = x[0], tuple(x[1])
        return x, hw


@dataclass
class _Links:
    """The calls that a chain consists of."""
    calls: list[Call]
    sizes: dict[str, str]  # by module name: the parameter that takes the size of the map

    def build(self, model: nn.Module) -> Chain:
        modules = [(call.name, model.get_submodule(call.name)) for call in self.calls]
        return SizedChain(modules, self.sizes) if self.sizes else Chain(modules)


def chain_between(recording: Recording, model: nn.Module, first: Call, last: Call) -> _Links | None:
    """Find the modules that run in sequence from ``first`` to ``last``, the outermost ones where there is a choice.

    Returns:
        _Links | None: None unless each of them consumes only its predecessor's output.
    """
    links = _Links([], {})
    here = first
    while True:
        parameter = size_parameter(here, model)
        if parameter is None and not is_plain(here, model):
            return None
        if parameter is not None:
            links.sizes[here.name] = parameter
        links.calls.append(here)
        if here is last:
            return links
        here = _following(recording, model, here, last)
        if here is None:
            return None


def _following(recording: Recording, model: nn.Module, here: Call, last: Call) -> Call | None:
    """Return the outermost call that starts from what ``here`` returned and ends no later than ``last``."""
    for call in recording.calls:  # a call comes before those inside it
        inside = call.index <= last.index and call.end >= last.end and call is not last
        if call.start >= here.end and call.end <= last.end and not inside and call.inputs == (here.output,) \
                and (is_plain(call, model) or size_parameter(call, model)):
            return call
    return None


def is_plain(call: Call, model: nn.Module) -> bool:
    """Return whether the call can be repeated as ``module(x)``: one tensor in, one out, all else at its default."""
    if not call.returns_tensor or call.output is None or len(call.inputs) != 1:
        return False
    bound = _bind(call, model)
    if bound is None:
        return False
    first, *rest = bound.arguments.items()
    defaults = bound.signature.parameters
    return isinstance(first[1], fx.Node) and all(
        not isinstance(value, fx.Node) and _is_default(value, defaults[name]) for name, value in rest)


def size_parameter(call: Call, model: nn.Module) -> str | None:
    """Return the parameter through which the call got the size of its tokens' map, or None.

    It is recognised by its value: a pair of whole numbers whose product is the number of tokens (N, h * w, C).
    """
    bound = _bind(call, model) if len(call.inputs) == 1 and call.output is not None else None
    if bound is None:
        return None
    (_, tokens), *rest = bound.arguments.items()
    shape = tokens.meta['shape'] if isinstance(tokens, fx.Node) else None
    if shape is None or len(shape) != 3:
        return None
    defaults = bound.signature.parameters
    others = [(name, value) for name, value in rest if not _is_default(value, defaults[name])]
    if len(others) == 1 and _is_size_of(others[0][1], shape[1]):
        return others[0][0]
    return None


def _is_size_of(value: Any, tokens: int) -> bool:
    pair = isinstance(value, (tuple, list)) and len(value) == 2 and all(type(side) is int for side in value)
    return pair and value[0] * value[1] == tokens


def _is_default(value: Any, parameter: inspect.Parameter) -> bool:
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        return not value
    return value is parameter.default or (type(value) is type(parameter.default) and value == parameter.default)


def _bind(call: Call, model: nn.Module) -> inspect.BoundArguments | None:
    try:
        bound = inspect.signature(model.get_submodule(call.name).forward).bind(*call.args, **call.kwargs)
    except (TypeError, ValueError):  # scripted or wrapped forward
        return None
    return bound if bound.arguments else None
