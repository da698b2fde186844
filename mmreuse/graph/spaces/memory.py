"""Tensors that share memory: what is written into one is seen by all."""
from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from mmreuse.graph.spaces.state import Activation, get_state

if TYPE_CHECKING:
    from mmreuse.graph.spaces.tracer import Tracer


class SharedMemory:
    """The views of every tensor of which views were taken."""

    def __init__(self) -> None:
        self._views = WeakIdKeyDictionary()  # base -> weak references to its views

    def add(self, tensors: list[Tensor]) -> None:
        """Remember which of these tensors are views."""
        for tensor in tensors:
            if tensor._base is not None:
                self._views.setdefault(tensor._base, []).append(weakref.ref(tensor))

    def written(self, tensor: Tensor, tracer: Tracer) -> None:
        """Tell what shares memory with a tensor about the atoms that were written into it."""
        base = tensor if tensor._base is None else tensor._base
        views = [view for view in (reference() for reference in self._views.get(base, ())) if view is not None]
        sharing = [other for other in (base, *views) if other is not tensor]
        if not any(isinstance(get_state(other), Activation) for other in (tensor, *sharing)):
            return
        if any(other.dtype != base.dtype for other in (tensor, *sharing)):
            for other in (tensor, *sharing):
                tracer.hold_all(tracer.ids(other), 'written through a view as another type')
            return
        ids = torch.empty_strided(base.shape, base.stride(), dtype=torch.long)
        ids.copy_(tracer.ids(base).expand(base.shape))

        def part(other: Tensor) -> Tensor:
            return ids.as_strided(other.shape, other.stride(), other.storage_offset() - base.storage_offset())

        part(tensor).copy_(tracer.ids(tensor).expand(tensor.shape))
        for other in sharing:
            before = get_state(other)
            tracer.set(other, part(other).clone())
            if isinstance(before, Activation):
                after = get_state(other)
                tracer.frames.join(before.frame, before.ids, after.frame, after.ids, tracer.current.allowed or 0)
