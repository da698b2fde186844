"""Features of the models' own fronts, cached so that merged rests can be measured on them again and again."""
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmreuse.errors import SpaceError
from mmreuse.statistics import image_batches
from mmreuse.utils.modes import evaluating

#: What the front of one model gives for one batch.
Values = tuple[Tensor, ...]
#: From what a model's front up to one place gives to what its front up to a later place gives.
Stage = Callable[..., Values]


@dataclass(frozen=True)
class Unpack:
    """Stands in for a model's front: finds what it gave in rows that hold what all fronts gave, side by side."""
    first: int  # column
    shapes: tuple[tuple[int, ...], ...]  # of the tensors for one sample, the first axis being 1, or more for windows

    def __call__(self, rows: Tensor) -> Values:
        """Take rows of shape (samples, columns) apart."""
        found, start = [], self.first
        for shape in self.shapes:
            end = start + math.prod(shape)
            found.append(rows[:, start:end].reshape(-1, *shape[1:]))
            start = end
        return tuple(found)


@dataclass(frozen=True)
class _Batch:
    samples: int
    values: list[Values]  # by model
    labels: Tensor | None

    def bytes(self) -> int:
        """Return the bytes in memory; models share their images."""
        return sum({tensor.data_ptr(): tensor.nbytes for values in self.values for tensor in values}.values())


class CachedFeatures:
    """A loader of what the fronts of N models give, packed into rows of shape (samples, columns).

    Starts at the images and moves on through the models, stage by stage. What the last stages gave is kept if it fits
    into memory; otherwise they run in every pass, from where it last did fit.

    Args:
        models: The models, which see the same images.
        loader: Batches of images, prepared, or of images and labels; the same in every pass.
        samples: How many images to use; None for all.
        labelled: Whether batches are ``(rows, labels)``, or rows alone; all samples are used if so.
        memory: Bytes that may be kept; twice as much for a moment while they are replaced.

    Raises:
        DataError: The loader is empty or has fewer samples.
    """

    def __init__(self, models: Sequence[nn.Module], loader: Iterable, samples: int | None = None, *,
                 labelled: bool = False, memory: float = 2e9) -> None:
        self.models = list(models)
        self.loader = loader
        self.samples = samples
        self.labelled = labelled
        self.memory = memory
        self.stages: list[Sequence[Stage]] = []  # that are to be run behind what is kept
        self.kept: list[_Batch] | None = None

    def advance(self, stages: Sequence[Stage]) -> None:
        """Move on to another place.

        Args:
            stages: One per model, from the last place to the new one.
        """
        self.stages.append(stages)
        kept, size = [], 0
        for batch in self._batches():
            kept.append(batch)
            size += batch.bytes()
            if size > self.memory:
                return
        self.kept, self.stages = kept, []

    def unpack(self) -> list[Unpack]:
        """Return, for each model, the function that finds its own features in a row."""
        batch, first, found = next(self._batches()), 0, []
        for values in batch.values:
            shapes = tuple((len(tensor) // batch.samples, *tensor.shape[1:]) for tensor in values)
            found.append(Unpack(first, shapes))
            first += sum(map(math.prod, shapes))
        return found

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        for batch in self._batches():
            rows = torch.cat([tensor.reshape(batch.samples, -1) for values in batch.values for tensor in values], 1)
            yield (rows, batch.labels) if self.labelled else rows

    def _batches(self) -> Iterator[_Batch]:
        for batch in self._images() if self.kept is None else self.kept:
            yield self._through(batch) if self.stages else batch

    def _images(self) -> Iterator[_Batch]:
        if self.labelled:
            batches = self.loader
        else:
            batches = ((*each, None) for each in image_batches(self.loader, self.models[:1], self.samples, 'images'))
        for images, labels in batches:
            yield _Batch(len(images), [(images,)] * len(self.models), labels)

    @torch.no_grad()
    def _through(self, batch: _Batch) -> _Batch:
        """Run a batch through the stages that are to be run."""
        values = [tuple(tensor.clone() for tensor in own) for own in batch.values]  # stages may change them in place
        with ExitStack() as stack:
            for model in self.models:
                stack.enter_context(evaluating(model))
            for stages in self.stages:
                values = [stage(*own) for stage, own in zip(stages, values, strict=True)]
        for tensor in (tensor for own in values for tensor in own):
            if not tensor.is_floating_point() or len(tensor) % batch.samples:
                raise SpaceError(f'a tensor of shape {tuple(tensor.shape)} and type {tensor.dtype} crosses the end of '
                                 'the front, which are no features of the images. Preserve up to another module.')
        return _Batch(batch.samples, values, batch.labels)
