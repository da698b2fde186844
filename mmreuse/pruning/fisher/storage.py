"""Gradients of many samples, kept in whichever way takes less memory."""
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import torch
from torch import Tensor, nn

from mmreuse.pruning.fisher.layers import factors

#: Elements of a float64 work matrix: 16 MiB, beyond which allocators keep less and the time hardly falls.
WORK = 2**21
#: Elements of the windows of a kernel that are made at once: what stays in the processor's cache.
WINDOWS = 2**19
#: Elements of gradients that are made at once where only their factors are kept.
STRETCH = 2**24


@dataclass(frozen=True, eq=False)
class Kept:
    """Gradients by one weight."""
    values: Tensor  # (m, size of the weight), zero before anything is added
    mask: Tensor | None = None  # (size,), False where the weight is pruned

    def add(self, layer: nn.Module, inputs: Tensor, grads: Tensor, rows: slice, images: slice) -> None:
        """Add what one call of a layer gives.

        Args:
            layer: One that has the weight.
            inputs: See :func:`mmreuse.pruning.fisher.layers.factors`, as ``grads``.
            grads: Likewise.
            rows: Where the gradients belong.
            images: From which images they are.
        """
        for part, left, right in _factors_by_rows(layer, inputs, grads, rows.stop - rows.start):
            values = self.values[rows][part]
            values.view(len(left), left.shape[1], right.shape[1]).baddbmm_(left, right.mT)
            if self.mask is not None:
                values.mul_(self.mask)

    def columns(self, start: int, stop: int) -> Tensor:
        """Return gradients by some elements of the weight, (m, stop - start)."""
        return self.values[:, start:stop]


@dataclass(frozen=True, eq=False)
class Products:
    """Gradients by the weight of one layer that is called once, as the factors whose products they are.

    Takes less where a layer has more weights than inputs and outputs, as the late layers of convolutional networks do.
    """
    layer: nn.Module  # without groups
    inputs: Tensor  # of all images
    grads: Tensor
    rows: int  # m
    mask: Tensor | None = None

    def add(self, layer: nn.Module, inputs: Tensor, grads: Tensor, rows: slice, images: slice) -> None:
        """See :meth:`Kept.add`."""
        times = len(inputs) // (images.stop - images.start)
        part = slice(images.start * times, images.stop * times)
        self.inputs[part], self.grads[part] = inputs, grads

    def columns(self, start: int, stop: int) -> Tensor:
        """See :meth:`Kept.columns`."""
        width = self.layer.weight[0].numel()
        first, last = start // width, ceil(stop / width)
        made = self.inputs.new_empty(self.rows, last - first, width)
        for part, left, right in _factors_by_rows(self.layer, self.inputs, self.grads, self.rows):
            torch.bmm(left[:, first:last], right.mT, out=made[part])
        made = made.flatten(1)[:, start - first * width:stop - first * width]
        return made if self.mask is None else made * self.mask[start:stop]


def _factors_by_rows(layer: nn.Module, inputs: Tensor, grads: Tensor,
                     rows: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Factors of some rows at a time."""
    together = max(1, WINDOWS * rows // (layer.weight[0, 0].numel() * max(inputs.numel(), grads.numel())))
    for start in range(0, rows, together):
        part = slice(start, min(start + together, rows))
        each = slice(part.start * len(inputs) // rows, part.stop * len(inputs) // rows)
        yield part, *factors(layer, inputs[each], grads[each], part.stop - part.start)


@dataclass(frozen=True, eq=False)
class PerSampleGradients:
    """Gradients of the loss, one row per sample or group of samples, all weights behind one another in the columns."""
    samples: int  # m
    shapes: dict[str, torch.Size]  # of the weights, in the order of the columns
    stored: dict[str, Kept | Products]

    @classmethod
    def of_matrix(cls, values: Tensor, shapes: Mapping[str, torch.Size]) -> 'PerSampleGradients':
        """Return the gradients that are known: (m, D)."""
        parts = values.split([shape.numel() for shape in shapes.values()], 1)
        return cls(len(values), dict(shapes), {name: Kept(part) for name, part in zip(shapes, parts, strict=True)})

    @property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """First column of each weight, and the one behind its last."""
        ends = [0]
        for shape in self.shapes.values():
            ends.append(ends[-1] + shape.numel())
        return dict(zip(self.shapes, pairwise(ends), strict=True))

    def of(self, name: str) -> Tensor:
        """All gradients by one weight, (m, its size)."""
        return self.stored[name].columns(0, self.shapes[name].numel())

    def columns(self, start: int = 0, stop: int | None = None) -> 'Columns':
        """Some columns, made when they are asked for; None for all to the last."""
        total = sum(shape.numel() for shape in self.shapes.values())
        return Columns(self, start, total if stop is None else stop)

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """One tensor for each weight -> (D,)."""
        return torch.cat([tensors[name].flatten() for name in self.shapes])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the inverse of :meth:`flatten`."""
        parts = vector.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


@dataclass(frozen=True)
class Columns:
    """A matrix (m, B) of neighbouring columns of gradients, of which a part at a time is made."""
    gradients: PerSampleGradients
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, int]:
        """(m, B)."""
        return self.gradients.samples, self.stop - self.start

    @property
    def device(self) -> torch.device:
        """Return the device that they are on."""
        return next(iter(self.gradients.stored.values())).columns(0, 1).device

    def chunks(self, width: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """All columns in float64, ``width`` at a time (None for what 16 MiB hold), and where they stand."""
        samples, total = self.shape
        width = width or max(64, WORK // samples)
        span = max(1, STRETCH // samples // width) * width
        for first in range(0, total, span):
            made = self._make(first, min(first + span, total))
            for start in range(0, made.shape[1], width):
                part = made[:, start:start + width].double()
                yield slice(first + start, first + start + part.shape[1]), part

    def _make(self, start: int, stop: int) -> Tensor:
        start, stop = self.start + start, self.start + stop
        parts = [self.gradients.stored[name].columns(max(start, first) - first, min(stop, last) - first)
                 for name, (first, last) in self.gradients.ranges.items() if first < stop and last > start]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)  # what is kept is not copied
