"""What is known about a tensor while a network is traced."""
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmreuse.graph.atoms import narrow

_ATTRIBUTE = '_mmreuse_state'


@dataclass(frozen=True, eq=False)
class Activation:
    """A value computed from the input."""
    ids: Tensor  # shape of the value, expanded along the axes where nothing varies


@dataclass(frozen=True, eq=False)
class Source:
    """Which element of a parameter stands where in a value computed from parameters only."""
    key: str  # state-dict key of the parameter
    shape: tuple[int, ...]  # of the parameter
    elements: Tensor | None = None  # shape of the value: flat element numbers or -1; None: the parameter itself
    partial: bool = False  # a reduction stands there, named by one of the elements it was made of
    base: Tensor | None = None  # (numel,) storage of which ``elements`` may be a view

    def map(self, function: Callable[[Tensor], Tensor], partial: bool = False) -> 'Source':
        """Apply a layout operation to the element numbers."""
        if self.elements is None:
            base = torch.arange(torch.Size(self.shape).numel())
            return replace(self, elements=function(base.reshape(self.shape)), partial=partial, base=base)
        return replace(self, elements=function(self.elements), partial=self.partial or partial)

    def visited(self) -> Tensor | None:
        """Which elements of the parameter stand here, (shape of it) of bool; None for all of them."""
        if self.elements is None:
            return None
        elements = narrow(self.elements)
        seen = torch.zeros(torch.Size(self.shape).numel(), dtype=torch.bool)
        seen[elements[elements >= 0]] = True
        return None if bool(seen.all()) else seen.reshape(self.shape)

    def vector(self, ids: Tensor) -> Tensor | None:
        """Bring ids that vary along one axis back to an axis of the parameter, where slices and transpositions led.

        Returns:
            Tensor: Ids with the axes of the parameter, all of size 1 but one; None where it is not so simple.
        """
        dims = [dim for dim, size in enumerate(ids.shape) if size > 1]
        elements = self.elements
        if len(dims) != 1 or elements.untyped_storage().data_ptr() != self.base.untyped_storage().data_ptr():
            return None
        length, stride = elements.shape[dims[0]], elements.stride(dims[0])
        step = self.base.numel()
        for axis, size in enumerate(self.shape):
            step //= size
            start = elements.storage_offset() // step % size
            if size > 1 and stride == step and start + length <= size:
                out = torch.zeros(size, dtype=torch.long)
                out[start:start + length] = ids.flatten()
                return out.reshape([size if dim == axis else 1 for dim in range(len(self.shape))])
        return None


@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter, or a value that depends on parameters but not on the input."""
    sources: tuple[Source, ...]

    @property
    def direct(self) -> bool:
        """Whether this is a parameter itself, not something computed from it."""
        return len(self.sources) == 1 and self.sources[0].elements is None

    def map(self, function: Callable[[Tensor], Tensor], partial: bool = False) -> 'Weight':
        """Apply a layout operation to every source."""
        return Weight(tuple(source.map(function, partial) for source in self.sources))


class Constant:
    """A value that depends neither on the input nor on parameters."""


CONSTANT = Constant()
State = Activation | Weight | Constant


def get_state(tensor: Tensor) -> State | None:
    """The state of a traced tensor, None for one that was never seen."""
    return getattr(tensor, _ATTRIBUTE, None)


def set_state(tensor: Tensor, state: State) -> None:
    """Attach a state; it lives as long as the tensor."""
    setattr(tensor, _ATTRIBUTE, state)
