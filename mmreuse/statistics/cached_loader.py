"""Data that is read and prepared once and passed over many times."""
from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from mmreuse.statistics.data import batches
from mmreuse.statistics.passes import images_of, labelled

#: Bytes of images that are kept: 80 000 of 3 x 32 x 32, 1600 of 3 x 224 x 224.
LIMIT = 2**30


class CachedLoader:
    """Prepared batches, kept from the first pass over them for those that follow.

    A pass that ends early keeps what it has seen; the next one reads on from there. So all passes see the same images,
    however they were augmented. Beyond ``limit`` nothing is kept, and every pass reads the loader anew.

    Args:
        loader: Images, or images and labels, see :func:`mmreuse.statistics.data.batches`.
        model: Says how they are prepared, and on which device they are kept.
        labelled: Whether batches are ``(images, labels)``, or images alone.
        limit: Of the images, in bytes.
    """

    def __init__(self, loader: Iterable, model: nn.Module, *, labelled: bool = False, limit: int = LIMIT) -> None:
        self.loader = batches(loader)
        self.model = model
        self.labelled = labelled
        self.room = limit
        self.kept: list[Tensor | tuple[Tensor, Tensor]] | None = []
        self._rest: Iterator | None = None

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        if self.kept is None:
            yield from map(self.prepare, self.loader)
            return
        if self._rest is None:
            self._rest = map(self.prepare, self.loader)
        kept, number = self.kept, 0
        while True:
            if number == len(kept):
                batch = next(self._rest, None)
                if batch is None:
                    return
                self._keep(batch)
                if self.kept is None:
                    yield batch
                    yield from self._rest
                    return
            yield kept[number]
            number += 1

    def _keep(self, batch: Tensor | tuple[Tensor, Tensor]) -> None:
        self.room -= (batch[0] if self.labelled else batch).nbytes
        if self.room < 0:
            self.kept = None
        else:
            self.kept.append(batch)

    def prepare(self, batch: object) -> Tensor | tuple[Tensor, Tensor]:
        """Return the images of a batch of the loader, and their labels if these are wanted."""
        return labelled(batch, self.model) if self.labelled else images_of(batch, self.model)
