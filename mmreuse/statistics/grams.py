"""Grams of pooled features, minibatch by minibatch: all that CKA and linear regression between layers need.

With ``X`` (n, d) the pooled features of one minibatch at one place of a network and ``m`` their
mean, what is kept is ``Kc = (X - m)(X - m)'`` (n, n), ``r = (X - m) m'`` (n,) and ``m m'``,
from which the uncentred Gram is ``X X' = Kc + r 1' + 1 r' + m m'``. Its size does not depend on
the width ``d``, and the features themselves are never stored.
"""
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from torch import Tensor, nn
from torch.nn import functional

from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import Layout, endpoints
from mmreuse.statistics.data import batches
from mmreuse.statistics.passes import images_of
from mmreuse.statistics.taps import observed
from mmreuse.utils.modes import evaluating
from mmreuse.utils.names import refuse_other
from mmreuse.utils.precision import full_precision

logger = logging.getLogger(__name__)

#: The unbiased estimate of HSIC divides by n - 3.
MIN_SAMPLES = 4
_RESOLUTION = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Grams:
    """Grams of one network at R places (row 0: input of its first node, row i + 1: output of node i).

    Minibatches shorter than b (the last one) are padded with zeros.
    """
    centred: Tensor  # (R, B, b, b) float32, features centred over their minibatch
    cross: Tensor  # (R, B, b) float32, centred features times the minibatch mean
    mean_square: Tensor  # (R, B) float32, squared norm of the minibatch mean
    sizes: tuple[int, ...]  # samples in each of the B minibatches


def pool(features: Tensor, layout: str) -> Tensor:
    """Average over positions, class token included.

    Args:
        features: (N, C, H, W) in layout ``'nchw'``; (N, H, W, C) or (N, L, C) in ``'nhwc'``, ``'nlc'``; or
            (N, C) in any.
        layout: One of those names.

    Returns:
        Tensor: (N, C) float32.

    Raises:
        ConfigError: The layout is unknown.
    """
    refuse_other('layout', layout, get_args(Layout))
    features = features.float()
    if features.ndim == 2:
        return features
    return features.flatten(2).mean(2) if layout == 'nchw' else features.flatten(1, -2).mean(1)


class GramAccumulator:
    """Makes the Grams of one network from its pooled features as they come.

    Rows are gathered into minibatches of exactly ``batch`` samples whatever the batches they
    come in, so the result does not depend on the loader's batch size.

    Args:
        rows: Places R at which the network is observed.
        batch: Samples b in a minibatch.

    Raises:
        ConfigError: ``batch`` is smaller than the unbiased HSIC allows.
    """

    def __init__(self, rows: int, batch: int = 256) -> None:
        if batch < MIN_SAMPLES:
            raise ConfigError(f'Gram minibatch of {batch} samples: the unbiased HSIC needs at least {MIN_SAMPLES}.')
        self.rows = rows
        self.batch = batch
        self._parts: list[tuple[Tensor, Tensor, Tensor, int]] = []
        self._waiting: list[Tensor] | None = None

    def update(self, features: Sequence[Tensor]) -> None:
        """Add samples.

        Args:
            features: For each of the R places, pooled features (n, d_i).

        Raises:
            DataError: Other than R tensors are given, or their numbers of samples differ.
        """
        if len(features) != self.rows or len({len(item) for item in features}) != 1:
            raise DataError(f'{self.rows} feature matrices of equally many samples are needed, '
                            f'not {[tuple(item.shape) for item in features]}.')
        features = list(features)
        if self._waiting is not None:
            features = [torch.cat(pair) for pair in zip(self._waiting, features, strict=True)]
        while len(features[0]) >= self.batch:
            self._parts.append(self._minibatch([item[:self.batch] for item in features]))
            features = [item[self.batch:] for item in features]
        # Cloned, so that a few waiting rows do not keep a whole batch alive.
        self._waiting = [item.clone() for item in features]

    def parts(self) -> list[tuple[Tensor, Tensor, Tensor, int]]:
        """All minibatches so far, the short last one included: (R, b, b), (R, b), (R,), samples."""
        left = 0 if self._waiting is None else len(self._waiting[0])
        if left >= MIN_SAMPLES:
            return [*self._parts, self._minibatch(self._waiting)]
        if left:
            logger.warning('The last %d samples are left out of the Grams: a minibatch needs at least %d.',
                           left, MIN_SAMPLES)
        return list(self._parts)

    def result(self) -> Grams:
        """Return the Grams of all samples seen; fewer than four samples left over are left out, which is logged.

        Raises:
            DataError: Fewer than four samples were seen.
        """
        return stack_minibatches(self.parts())

    def _minibatch(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, int]:
        size = len(features[0])
        pad = self.batch - size
        grams, crosses, squares = [], [], []
        for item in features:
            # The mean may be far larger than the spread: it is taken out in float64.
            item = item.double()
            mean = item.mean(0)
            item = item - mean
            crosses.append(functional.pad((item @ mean).float(), (0, pad)).cpu())
            squares.append(mean.square().sum().float().cpu())
            # What varies by less than float32 resolves is constant: no Gram of rounding errors.
            item = item.float() * (item.square().sum() > size * mean.square().sum() * _RESOLUTION**2)
            with full_precision(item.device.type):
                grams.append(functional.pad(item @ item.T, (0, pad, 0, pad)).cpu())
        return torch.stack(grams), torch.stack(crosses), torch.stack(squares), size


def stack_minibatches(parts: Sequence[tuple[Tensor, Tensor, Tensor, int]]) -> Grams:
    """Put minibatches from :meth:`GramAccumulator.parts` together, in the order given.

    Raises:
        DataError: There are none.
    """
    if not parts:
        raise DataError(f'The data set is empty: Grams need at least {MIN_SAMPLES} samples.')
    centred, cross, mean_square, sizes = zip(*parts, strict=True)
    return Grams(torch.stack(centred, 1), torch.stack(cross, 1), torch.stack(mean_square, 1), tuple(sizes))


@torch.no_grad()
def collect_grams(
    model: nn.Module,
    loader: Iterable[Any],
    names: Sequence[str],
    layouts: Sequence[str],
    batch: int = 256,
) -> Grams:
    """Make the Grams of a network in one pass over the data; features are pooled and used up on the way.

    Run under ``torch.distributed``, every rank is given the *whole* loader, computes each
    world-size-th minibatch, and gets the same result as a single process.

    Args:
        model: The network; it runs in eval mode and is left in the modes it was in.
        loader: Batches as :func:`~mmreuse.statistics.passes.images_of` takes them.
        names: Names of the nodes, in execution order (see :func:`mmreuse.graph.endpoints`).
        layouts: Layouts (see :func:`pool`) of the first node's input and of every node's output, len(names) + 1.
        batch: Samples in a Gram minibatch. It bounds what linear regression can tell (see the similarity ``lr``).

    Returns:
        Grams: R = len(names) + 1 places.

    Raises:
        ConfigError: A node is not a module of the network, or the layouts do not fit the names.
        DataError: The data is empty, a node did not run, or a feature is not finite (names node and batch).
    """
    if not names or len(layouts) != len(names) + 1:
        raise ConfigError(f'{len(layouts)} layouts for {len(names)} nodes: one is needed for the input of the first '
                          f'node and one for the output of each.')
    places = [_Place(endpoints(names[0])[0], 'input'), *(_Place(endpoints(name)[1], 'output') for name in names)]
    rank, world = get_rank(), get_world_size()
    accumulator = GramAccumulator(len(places), batch)
    pooled: dict[_Place, Tensor] = {}
    layout_of = dict(zip(places, layouts, strict=True))

    def see(_: str, place: _Place, features: Tensor) -> None:
        pooled[place] = pool(features, layout_of[place])

    error = None
    with evaluating(model), observed(model, {str(place): [place] for place in places}, see):
        try:
            for index, kept, images in _share(loader, model, batch, rank, world):
                pooled.clear()
                model(images)
                features = _checked(pooled, places, index)
                accumulator.update([item[kept] for item in features])
        except DataError as raised:
            # Every rank must hear of it, or the others would wait for this one for ever.
            error = raised
    outcomes = all_gather_object((error, accumulator.parts() if error is None else []))
    for failed, _ in outcomes:
        if failed is not None:
            raise failed
    longest = max(len(parts) for _, parts in outcomes)
    return stack_minibatches([parts[turn] for turn in range(longest) for _, parts in outcomes if turn < len(parts)])


@dataclass(frozen=True)
class _Place:
    """The part of a tap that hooks need; pooling goes by the layout instead of a channel dimension."""
    module: str
    side: str

    def __str__(self) -> str:
        return f"{self.side} of '{self.module}'"


def _share(loader: Iterable[Any], model: nn.Module, batch: int, rank: int,
           world: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the batches that hold rows of this rank's Gram minibatches: index, positions of those rows, images."""
    seen = 0
    for index, item in enumerate(batches(loader)):
        images = images_of(item, model)
        minibatch = torch.arange(seen, seen + len(images)) // batch
        kept = torch.nonzero(minibatch % world == rank).flatten()
        seen += len(images)
        if len(kept):
            yield index, kept.to(images.device), images


def _checked(pooled: Mapping[_Place, Tensor], places: Sequence[_Place], index: int) -> list[Tensor]:
    missing = [place for place in places if place not in pooled]
    if missing:
        raise DataError(f'batch {index}: the network ran without its {missing[0]}; a node must run in every forward '
                        'pass.')
    features = [pooled[place] for place in places]
    finite = torch.stack([item.isfinite().all() for item in features]).tolist()
    if not all(finite):
        raise DataError(f'batch {index}: the {places[finite.index(False)]} is not finite (NaN or infinity). Check the '
                        f'weights, the inputs and the precision the network runs in.')
    return features
