"""Element-wise combinations of two values, and what they imply for the atoms."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmreuse.graph.spaces.atoms import varying

if TYPE_CHECKING:
    from mmreuse.graph.spaces.tracer import Tracer


@dataclass(frozen=True, eq=False)
class Operand:
    """One side of an element-wise operation."""
    ids: Tensor  # settled
    shape: tuple[int, ...]  # of the value
    value: Tensor | None = None  # None or on meta: its values must be taken to vary
    frame: int = 0  # coordinates in which the features are written

    @property
    def known(self) -> bool:
        """Return whether the values can be looked at."""
        return self.value is not None and not self.value.is_meta

    def aligned(self, rank: int) -> Operand:
        """Give the operand ``rank`` axes, new ones in front."""
        missing = (1,) * (rank - len(self.shape))
        value = None if self.value is None else self.value.reshape(missing + self.shape)
        return Operand(self.ids.reshape(missing + tuple(self.ids.shape)), missing + self.shape, value, self.frame)

    def differs_along(self, dim: int) -> bool:
        """Return whether the values vary along an axis."""
        if self.shape[dim] == 1:
            return False
        return not self.known or not bool((self.value == self.value.narrow(dim, 0, 1)).all())


    def kinds_along(self, dims: list[int]) -> Tensor | None:
        """Number the places along some axes, equal where the values are; None if hardly any two are equal."""
        if not self.known:
            return None
        value = torch.view_as_real(self.value) if self.value.is_complex() else self.value
        places = value.movedim(dims, list(range(len(dims))))
        places = places.reshape(places.shape[:len(dims)].numel(), -1)
        kinds, numbers = places.unique(dim=0, return_inverse=True)
        return numbers if 2 * len(kinds) <= len(places) else None


def combine(tracer: Tracer, first: Operand, second: Operand) -> Tensor:
    """Return the ids of an element-wise combination; broadcasting as PyTorch does.

    Where both carry atoms they are tied. An operand broadcast over an axis along which the
    other varies names blocks of the other. Values without atoms that vary along an
    axis hold the other's order there.
    """
    rank = max(len(first.shape), len(second.shape))
    x, y = first.aligned(rank), second.aligned(rank)
    if not bool(x.ids.any()):
        return _meet_constant(tracer, x, y)
    if not bool(y.ids.any()):
        return _meet_constant(tracer, y, x)
    x_outer = [dim for dim in varying(x.ids) if y.shape[dim] == 1]
    y_outer = [dim for dim in varying(y.ids) if x.shape[dim] == 1]
    if x_outer and y_outer:
        reason = 'an outer product of two sets of channels'
        x_ids, y_ids = tracer.hold(x.ids, x_outer, reason), tracer.hold(y.ids, y_outer, reason)
        return combine(tracer, Operand(x_ids, x.shape, x.value), Operand(y_ids, y.shape, y.value))
    if x_outer:
        return _broadcast_over(tracer, y, x)
    if y_outer:
        return _broadcast_over(tracer, x, y)
    _meet_holes(tracer, x, y)
    _meet_holes(tracer, y, x)
    tracer.atoms.tie(x.ids, y.ids)
    x_ids, y_ids = torch.broadcast_tensors(x.ids, y.ids)
    return tracer.atoms.settle(torch.where(x_ids == 0, y_ids, x_ids))


def _broadcast_over(tracer: Tracer, small: Operand, large: Operand) -> Tensor:
    """``small`` has size 1 where ``large`` varies: each of its atoms is a block of ``large``.

    Where ``small`` is one atom with different values, what stands there in ``large`` keeps its order.
    """
    held = [dim for dim in varying(large.ids) if small.ids.size(dim) == 1 and small.differs_along(dim)]
    if held:
        outer = [dim for dim in varying(large.ids) if small.shape[dim] == 1]
        tracer.hold(tracer.atoms.blocks_over(large.ids, outer), held, 'meets one channel at several places')
    tracer.atoms.relate(large.ids, small.ids)
    return large.ids


def _meet_constant(tracer: Tracer, constant: Operand, other: Operand) -> Tensor:
    held = [dim for dim in varying(other.ids) if constant.differs_along(dim)]
    if not held:
        return other.ids
    kinds = constant.kinds_along(held)
    if kinds is not None:
        tracer.note('channels that meet different values are told apart')
        shape = [size if dim in held else 1 for dim, size in enumerate(other.ids.shape)]
        tracer.treat(other.ids, kinds.reshape(shape).expand(other.ids.shape))
        return other.ids
    reason = 'meets values that differ from channel to channel'
    outer = [dim for dim in varying(other.ids) if constant.shape[dim] == 1]
    if outer:
        tracer.hold(tracer.atoms.blocks_over(other.ids, outer), held, reason)
        return tracer.atoms.settle(other.ids)
    return tracer.hold(other.ids, held, reason)


def _meet_holes(tracer: Tracer, x: Operand, y: Operand) -> None:
    """Hold y where x carries nothing and y does (padding, say), unless the values of x are all equal there."""
    x_ids, y_ids = torch.broadcast_tensors(x.ids, y.ids)
    holes = (x_ids == 0) & (y_ids != 0)
    if not bool(holes.any()):
        return
    if x.known:
        shape = torch.broadcast_shapes(x.shape, holes.shape)
        values = x.value.expand(shape)[holes.expand(shape)]
        if bool((values == values[0]).all()):
            return
    tracer.hold_all(y_ids[holes], 'meets values that differ from channel to channel')


def combine_weight(tracer: Tracer, other: Operand, weight: Tensor) -> Tensor:
    """Return the ids of an element-wise combination with a parameter (or what was computed from one)."""
    rank = max(len(other.shape), weight.dim())
    other = other.aligned(rank)
    weight_shape = (1,) * (rank - weight.dim()) + tuple(weight.shape)
    if not bool(other.ids.any()):
        if weight.numel() == 1:
            return other.ids
        mine = Operand(tracer.ids(weight), tuple(weight.shape)).aligned(rank)
        held = [dim for dim in varying(mine.ids) if other.differs_along(dim)]
        return combine(tracer, other, Operand(tracer.atoms.tie_along(mine.ids, held), mine.shape))
    outer = [dim for dim in varying(other.ids) if weight_shape[dim] == 1]
    seen = tracer.atoms.blocks_over(other.ids, outer) if outer else other.ids
    tracer.label(weight, seen.reshape(seen.shape[rank - weight.dim():]), 'accompany')
    return tracer.atoms.settle(other.ids)
