"""Taps: places where the features of a space are seen while a network runs, at modules and operations between them."""
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmreuse.graph.spaces.operations import Seen, plain_name

#: Where a tap shows fewer positions than a layer reads by this factor they were pooled; a stride or padding is less.
POOLED = 4


@dataclass(frozen=True, eq=False)
class Tap:
    """A place where features of a space are seen: input or output of a module, or the result of an operation in it."""
    module: str  # dotted name, '' is the model
    side: Literal['output', 'input']
    dim: int
    index: Tensor  # (length of the axis,) member of the space, or -1
    operation: str = ''  # name without underscores of the operation of which it is the output; '' for the module itself
    number: int = 0  # of the operation among those of its name, in one call of the module

    @property
    def where(self) -> str:
        """Return the place in words."""
        module = self.module or 'the model'
        return f'{self.operation} {self.number} in {module}' if self.operation else f'{self.side} of {module}'


class Operations(TorchFunctionMode):
    """Shows the operations of a network as it runs: module, name, number in one call of the module, and result.

    What operations consist of is not shown, so that numbers are the same whoever follows the run.

    Args:
        see: Called with (module, name, number, result) after every operation inside a module.
    """

    def __init__(self, see: Callable[[str, str, int, Any], None]) -> None:
        super().__init__()
        self.see = see
        self.stack: list[tuple[str, Counter]] = []

    def __torch_function__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if self.stack and isinstance(result, Tensor):
            module, counts = self.stack[-1]
            name = plain_name(function)
            with torch._C.DisableTorchFunction():
                self.see(module, name, counts[name], result)
            counts[name] += 1
        return result


@contextmanager
def operations_shown(model: nn.Module, see: Callable[[str, str, int, Any], None]) -> Iterator[None]:
    """Show what runs in the block, see :class:`Operations`."""
    mode = Operations(see)

    def leave(*_: Any) -> None:
        mode.stack.pop()

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.enter_context(module.register_forward_pre_hook(
                lambda *_, name=name: mode.stack.append((name, Counter()))))
            stack.enter_context(module.register_forward_hook(leave))
        stack.enter_context(mode)
        yield


@dataclass(frozen=True, eq=False)
class _Sight:
    """A place where all of a space is seen, in order of time."""
    tap: Tap
    positions: int


def taps_of(seen: list[Seen], read: Callable[[Tensor], tuple[list[int], dict[int, Tensor]]],
            sizes: Mapping[int, int]) -> dict[int, list[Tap]]:
    """Return places where all of a space is seen, by number of the space; the last is the one that tells most.

    That is the last one before positions are pooled away: what the last layers read, behind activations, and at the
    end of a residual stream what they would read if there were another block. So it does not matter which operations
    are modules of their own.

    Args:
        seen: Of a traced run, in order of time.
        read: Says of ids along which axes features stand, and by space which member stands at every place.
        sizes: By number of the space, how many members it has.
    """
    visits = Counter(_key(each) for each in seen)
    sights: dict[int, list[_Sight]] = defaultdict(list)
    wanted: Counter = Counter()  # most positions at which a layer reads
    for each in seen:
        dims, members = read(each.ids)
        if len(dims) != 1:
            continue
        for number, index in members.items():
            here = index[index >= 0]
            if len(here.unique()) < sizes[number]:
                continue
            positions = torch.Size(each.shape).numel() // len(index) * len(here) // sizes[number]
            if each.side == 'read':
                wanted[number] = max(wanted[number], positions)
            elif visits[_key(each)] == 1:
                tap = Tap(each.module, each.side, dims[0], index, each.operation, each.number)
                sights[number].append(_Sight(tap, positions))
    return {number: _up_to_the_last(found, wanted[number] or max(each.positions for each in found))
            for number, found in sights.items()}


def _key(seen: Seen) -> tuple:
    return seen.module, seen.side, seen.operation, seen.number


def _up_to_the_last(sights: list[_Sight], wanted: int) -> list[Tap]:
    """Return taps at modules, and the last of all at which positions are not pooled."""
    last = max((number for number, each in enumerate(sights) if POOLED * each.positions > wanted),
               default=len(sights) - 1)
    return [each.tap for each in sights[:last] if not each.tap.operation] + [sights[last].tap]
