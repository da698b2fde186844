"""Statistics of the outputs of layers, in one pass."""
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.renormalization.target_layers import Flow, Layers, Place, find_places
from mmreuse.statistics import ChannelMomentAccumulator, ChannelMoments, batches, image_batches, images_of
from mmreuse.utils.modes import evaluating
from mmreuse.utils.names import nearest


@torch.no_grad()
def measure_ends(
    ends: Sequence[nn.Module],
    loader: Iterable,
    *,
    samples: int | None = None,
    layers: Layers | None = None,
    blocks: Sequence[str] | None = None,
) -> list[dict[str, ChannelMoments]]:
    """Return the mean and variance of each channel of each layer's output, over samples and positions, in one pass.

    What is measured once serves every renormalizer, every interpolation between the same ends and, through
    :func:`mmreuse.renormalization.target_statistics.permuted`, every alignment of them.

    Args:
        ends: End models of one structure; they run as they are, in evaluation mode.
        loader: Batches of images, see :func:`mmreuse.statistics.passes.images_of`.
        samples: How many samples to use, to the sample; None for all.
        layers: As :func:`mmreuse.renormalization.target_layers.find_places` takes them.
        blocks: Likewise.

    Returns:
        list[dict[str, ChannelMoments]]: One mapping per end.

    Raises:
        ConfigError: There is no end model.
        SpaceError: A layer does not exist, or not in all ends.
        DataError: The loader is empty or too short, or features are not finite (names layer and end).
    """
    ends = list(ends)
    if not ends:
        raise ConfigError('there are no end models to take statistics of.')
    places, batches = start(image_batches(loader, ends, samples, 'statistics of end models'), ends[0], layers, blocks)
    meters = [Meters(places, f'end {number}') for number in range(len(ends))]
    with ExitStack() as stack:
        for end, meter in zip(ends, meters, strict=True):
            stack.enter_context(evaluating(end))
            stack.enter_context(hooked(end, places, meter.take))
        for images in batches:
            for end, own in zip(ends, images, strict=True):
                end(own)
    return [meter.result() for meter in meters]


def start(
    batches: Iterator[tuple[Tensor, ...]],
    model: nn.Module,
    layers: Layers | None,
    blocks: Sequence[str] | None,
) -> tuple[list[Place], Iterator[tuple[Tensor, ...]]]:
    """Find the places of a model with the first images of a pass; hand back the whole pass."""
    first = next(batches)
    return find_places(Flow(model, first[0][:2]), layers, blocks), itertools.chain([first], batches)


def first_images(loader: Iterable, model: nn.Module) -> Tensor:
    """Return the first two images at most of a loader, to see what runs in a model.

    Raises:
        DataError: The loader is empty, or its batches hold no images.
    """
    for batch in batches(loader):
        return images_of(batch, model)[:2]
    raise DataError('the data loader is empty: its first images say what runs in the network.')


class Meters:
    """Accumulates moments of channels at several places.

    Args:
        places: Where.
        owner: Of the features, for error messages.
    """

    def __init__(self, places: Sequence[Place], owner: str) -> None:
        self.owner = owner
        self.totals: dict[str, ChannelMomentAccumulator | None] = {place.module: None for place in places}

    def take(self, place: Place, features: Tensor) -> ChannelMomentAccumulator:
        """Take in one output; returns the moments of it alone.

        Raises:
            DataError: A feature is not finite.
        """
        rows = features.movedim(place.dim, -1).reshape(-1, features.shape[place.dim])
        batch = ChannelMomentAccumulator(rows.shape[1], rows.device)
        try:
            batch.update(rows)
        except DataError as error:
            raise DataError(f"output of '{place.module}' ({self.owner}): {error}") from error
        total = self.totals[place.module]
        if total is None:
            total = self.totals[place.module] = ChannelMomentAccumulator(rows.shape[1], rows.device)
        total.merge(batch)
        return batch

    def result(self) -> dict[str, ChannelMoments]:
        """Return moments over all processes.

        Raises:
            SpaceError: A layer did not run.
        """
        idle = [name for name, total in self.totals.items() if total is None]
        if idle:
            raise SpaceError(f'{self.owner}: {", ".join(map(repr, idle))} did not run.')
        for total in self.totals.values():
            total.reduce()
        return {name: total.result() for name, total in self.totals.items()}


@contextmanager
def hooked(
    model: nn.Module,
    places: Sequence[Place],
    see: Callable[[Place, Tensor], object],
    replace: bool = False,
) -> Iterator[None]:
    """Call ``see(place, output)`` in the block whenever a module runs; its result replaces the output if asked.

    Raises:
        SpaceError: The model has no such module.
    """
    modules = dict(model.named_modules())
    with ExitStack() as stack:
        for place in places:
            if place.module not in modules:
                raise SpaceError(f"{type(model).__name__} has no module '{place.module}': end models have the "
                                 f'structure of the model. {nearest(place.module, modules)}')
            hook = partial(_call, see, place, replace)
            stack.callback(modules[place.module].register_forward_hook(hook).remove)
        yield


def _call(see: Callable, place: Place, replace: bool, module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
    result = see(place, output.detach())
    return result if replace else None
