"""States of tensors while a network is traced."""
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmreuse.graph.spaces.atoms import narrow

_ATTRIBUTE = '_mmreuse_state'


@dataclass(frozen=True, eq=False)
class Activation:
    """A value computed from the input."""
    ids: Tensor  # shape of the value, expanded along the axes where nothing varies
    frame: int = 0  # coordinates in which the features are written
    square: int = 0  # frame of what this is the square of


@dataclass(frozen=True, eq=False)
class Source:
    """Positions of a parameter's elements in a value computed from parameters only."""
    key: str  # state-dict key of the parameter
    shape: tuple[int, ...]  # of the parameter
    elements: Tensor | None = None  # shape of the value: flat element numbers or -1; None: the parameter itself
    partial: bool = False  # a reduction stands there, named by one of the elements it was made of
    base: Tensor | None = None  # (numel,) storage of which ``elements`` may be a view
    codes: Tensor | None = None  # (numel,) hash of what was done to single elements of the parameter
    summed: int | None = None  # axis of the parameter that was summed over in a product: stands for itself as a whole

    def map(self, function: Callable[[Tensor], Tensor], partial: bool = False) -> 'Source':
        """Apply a layout operation to the element numbers."""
        if self.elements is None:
            base = torch.arange(torch.Size(self.shape).numel())
            return replace(self, elements=function(base.reshape(self.shape)), partial=partial, base=base)
        return replace(self, elements=function(self.elements), partial=self.partial or partial)

    def visited(self) -> Tensor | None:
        """Return a mask of the parameter's elements that stand here, bool of its shape; None for all of them."""
        if self.elements is None or self.summed is not None:
            return None
        elements = narrow(self.elements)
        if self._is_view() and elements.numel() >= self.base.numel():
            return None
        seen = torch.zeros(torch.Size(self.shape).numel(), dtype=torch.bool)
        seen[elements[elements >= 0]] = True
        return None if bool(seen.all()) else seen.reshape(self.shape)

    def _is_view(self) -> bool:
        """Return whether slices and transpositions alone led here."""
        return self.elements.untyped_storage().data_ptr() == self.base.untyped_storage().data_ptr()

    def treated(self, code: int) -> 'Source':
        """Note an operation that was done to some of the parameter's elements only."""
        visited = self.visited()
        if visited is None:
            return self
        codes = torch.zeros(torch.Size(self.shape).numel(), dtype=torch.long) if self.codes is None else self.codes
        codes = torch.where(visited.flatten(), codes * 3 + code, codes)
        return replace(self, codes=codes)

    def axis_along(self, dim: int) -> int | None:
        """Axis of the parameter along which an axis of the value runs, where slices and transpositions led."""
        if not self._is_view():
            return None
        elements, step = self.elements, self.base.numel()
        for axis, size in enumerate(self.shape):
            step //= size
            if size > 1 and elements.stride(dim) == step and self._start(step, size) + elements.size(dim) <= size:
                return axis
        return None

    def _start(self, step: int, size: int) -> int:
        return self.elements.storage_offset() // step % size

    def vector(self, ids: Tensor) -> tuple[Tensor, tuple[int, int, int] | None] | None:
        """Bring ids that vary along one axis back to an axis of the parameter, where slices and transpositions led.

        Returns:
            tuple: Ids with the axes of the parameter, all of size 1 but one, and the part of another axis that they
            hold for: its number, first and last place, or None for all of it. None where it is not so simple.
        """
        dims = [dim for dim, size in enumerate(ids.shape) if size > 1]
        axis = self.axis_along(dims[0]) if len(dims) == 1 else None
        if axis is None:
            return None
        steps = [torch.Size(self.shape[number + 1:]).numel() for number in range(len(self.shape))]
        elements, length = narrow(self.elements), ids.numel()
        runs = {elements.stride(dim): size for dim, size in enumerate(elements.shape) if dim != dims[0] and size > 1}
        lengths = {other: runs.get(steps[other], 1) for other, size in enumerate(self.shape)
                   if other not in (axis, self.summed) and size > 1}
        others = elements.numel() // elements.size(dims[0])
        parts = [other for other, size in lengths.items() if size < self.shape[other]]
        if others == torch.Size([self.shape[other] for other in lengths]).numel():
            parts = []
        elif others != torch.Size(lengths.values()).numel() or len(parts) > 1:
            return None
        start = self._start(steps[axis], self.shape[axis])
        out = torch.zeros(self.shape[axis], dtype=torch.long)
        out[start:start + length] = ids.flatten()
        region = None
        if parts:
            first = self._start(steps[parts[0]], self.shape[parts[0]])
            region = parts[0], first, first + lengths[parts[0]]
        return out.reshape([-1 if number == axis else 1 for number in range(len(self.shape))]), region


@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter, or a value that depends on parameters but not on the input."""
    sources: tuple[Source, ...]
    computed: bool = False  # other numbers than the parameters', not only laid out in another way

    @property
    def direct(self) -> bool:
        """Return whether this is a parameter itself, not something computed from it."""
        return len(self.sources) == 1 and self.sources[0].elements is None

    def map(self, function: Callable[[Tensor], Tensor], partial: bool = False) -> 'Weight':
        """Apply a layout operation to every source."""
        return Weight(tuple(source.map(function, partial) for source in self.sources), self.computed)


    def treated(self, code: int) -> 'Weight':
        """Note an operation on a value that holds parts of parameters."""
        return Weight(tuple(source.treated(code) for source in self.sources), self.computed)


class Constant:
    """A value that depends neither on the input nor on parameters."""


CONSTANT = Constant()
State = Activation | Weight | Constant


def get_state(tensor: Tensor) -> State | None:
    """Return the state of a traced tensor, None for one that was never seen."""
    return getattr(tensor, _ATTRIBUTE, None)


def set_state(tensor: Tensor, state: State) -> None:
    """Attach a state; it lives as long as the tensor."""
    setattr(tensor, _ATTRIBUTE, state)
