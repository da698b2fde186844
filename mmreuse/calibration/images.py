"""The images that a network is calibrated on, and what is drawn for each of them."""
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from mmengine.dist import all_gather_object
from torch import Tensor, nn

from mmreuse.errors import DataError
from mmreuse.statistics.passes import image_batches

#: For each image the number of the source that knows it, or what tells these numbers (B,) from images (B, ...).
Owners = Sequence[int] | Callable[[Tensor], Tensor]

#: Fewer say too little, however many positions they have.
LEAST_IMAGES = 16
#: Each of so many images is held out to choose the ridge by.
_FOLDS = 5
#: A batch is no larger, as all that a network makes of one is held at once.
_BATCH = 32


class CalibrationImages:
    """Images with what depends on each alone, so that neither batches nor processes make a difference.

    Args:
        images: See :func:`mmreuse.statistics.data.batches`.
        network: That will see them.
        samples: How many to use, over all processes; None for all.
        seed: Of the positions.
        owners: Who knows which image; None: all sources' mean.

    Raises:
        DataError: There are too few, or not one owner for each.
    """

    def __init__(self, images: Iterable, network: nn.Module, samples: int | None, seed: int,
                 owners: Owners | None = None) -> None:
        found = [each for each, in image_batches(images, [network], samples, 'calibration images')]
        self.batches = [part for each in found for part in each.split(_BATCH)]
        self.seed = seed
        self.keys = [[_key(image) for image in batch] for batch in self.batches]
        own = [key for keys in self.keys for key in keys]
        self.all_keys = sorted(key for keys in all_gather_object(own) for key in keys)
        if len(self.all_keys) < LEAST_IMAGES:
            raise DataError(f'calibrate: {len(self.all_keys)} images are too few to fit layers to. Give at least '
                            f'{LEAST_IMAGES}; some hundred are better.')
        held = {key for number, key in enumerate(sorted(set(self.all_keys))) if number % _FOLDS == _FOLDS - 1}
        self._held = [torch.tensor([key in held for key in keys]) for keys in self.keys]
        if callable(owners):
            owners = [int(owner) for batch in self.batches for owner in owners(batch)]
        if owners is not None and len(owners) != len(own):
            raise DataError(f'calibrate: {len(owners)} owners for {len(own)} images. Give one for each.')
        self.all_owners = None if owners is None else sorted(
            pair for pairs in all_gather_object(list(zip(own, map(int, owners), strict=True))) for pair in pairs)
        self._owners = None if owners is None else [
            torch.tensor(part) for part in _split(owners, map(len, self.batches))]
        self._drawn: dict[tuple[int, int, int, int], Tensor] = {}

    @property
    def own(self) -> int:
        """Return the number of images on this process."""
        return sum(map(len, self.batches))

    def held(self, batch: int, rows: int) -> Tensor:
        """Return which rows of a batch belong to held-out images, (rows,)."""
        return self._held[batch][self._image_of(batch, rows)]

    def owners(self, batch: int, rows: int) -> Tensor | None:
        """Return the source of each row that a batch became, (rows,); None where all count alike."""
        return None if self._owners is None else self._owners[batch][self._image_of(batch, rows)]

    def draw(self, batch: int, rows: int, total: int, positions: int | None) -> Tensor | None:
        """Draw positions of each row that a batch became; the same for an image in any batch.

        Args:
            batch: Its number.
            rows: As many as images, or several for each (windows).
            total: Positions that a row has.
            positions: How many of each image; None for all.

        Returns:
            Tensor | None: (rows, n); None for all positions.
        """
        images = len(self.keys[batch])
        wanted = total if positions is None else max(1, positions * images // rows)
        if wanted >= total:
            return None
        place = batch, rows, total, wanted
        if place not in self._drawn:
            generator, chosen = torch.Generator(), []
            for row, image in enumerate(self._image_of(batch, rows).tolist()):
                generator.manual_seed(self.keys[batch][image] + 1000003 * self.seed + row % max(1, rows // images))
                chosen.append(torch.randperm(total, generator=generator)[:wanted])
            self._drawn[place] = torch.stack(chosen).to(self.batches[batch].device)
        return self._drawn[place]

    def _image_of(self, batch: int, rows: int) -> Tensor:
        return torch.arange(rows) * len(self.keys[batch]) // rows


def _split(values: Sequence[int], sizes: Iterable[int]) -> list[Sequence[int]]:
    ends = list(itertools.accumulate(sizes))
    return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _key(image: Tensor) -> int:
    content = image.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=7).digest())
