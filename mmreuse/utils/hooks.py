"""Hooks of modules that last as long as a block."""
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn


@contextmanager
def forward_hooks(hooks: Mapping[nn.Module, Callable]) -> Iterator[None]:
    """Call ``hooks[module](module, inputs, output)`` in the block after each of the modules has run."""
    with ExitStack() as stack:
        for module, hook in hooks.items():
            stack.enter_context(module.register_forward_hook(hook))
        yield


@contextmanager
def linear_calls(model: nn.Module, most: int | None = None) -> Iterator[deque[tuple[nn.Linear, tuple, Any]]]:
    """Give a queue that holds, once the model has run in the block, its linear layers, their inputs and outputs.

    Args:
        model: Any.
        most: So many of the last calls are held; None for all.
    """
    calls: deque[tuple[nn.Linear, tuple, Any]] = deque(maxlen=most)

    def note(*call: Any) -> None:
        calls.append(call)

    with forward_hooks({module: note for module in model.modules() if isinstance(module, nn.Linear)}):
        yield calls


@contextmanager
def running_modules(model: nn.Module) -> Iterator[list[str]]:
    """Give a list that holds, while the model runs in the block, the names of the modules that run, outermost first."""
    names: list[str] = []

    def leave(*_: Any) -> None:
        names.pop()

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.enter_context(module.register_forward_pre_hook(lambda *_, name=name: names.append(name)))
            stack.enter_context(module.register_forward_hook(leave))
        yield names
