"""Give outputs of layers the statistics that those of the end models have."""
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.renormalization.affine import Affine, correction
from mmreuse.renormalization.fold_affine import fold_affine
from mmreuse.renormalization.measure import Meters, hooked, measure_ends, start
from mmreuse.renormalization.target_layers import Layers, Place
from mmreuse.renormalization.target_statistics import Statistics, check_weights, combine
from mmreuse.statistics import ChannelMoments, image_batches
from mmreuse.utils.modes import evaluating
from mmreuse.utils.names import nearest, refuse_other

logger = logging.getLogger(__name__)

ORDERS = ('simultaneous', 'sequential')


@torch.no_grad()
def renormalize(
    model: nn.Module,
    loader: Iterable,
    *,
    scale: bool,
    centre: bool,
    ends: Sequence[nn.Module] | None = None,
    targets: Sequence[Statistics] | None = None,
    weights: Sequence[float] | None = None,
    samples: int | None = None,
    order: str = 'simultaneous',
    layers: Layers | None = None,
    blocks: Sequence[str] | None = None,
    max_gain: float = 100.,
) -> dict[str, Affine]:
    """Give every layer's output the mean and deviation of the end models', in one pass, and fold that into the layers.

    While it is measured, every output is corrected at once by the statistics of the batch at hand, so that later
    layers see what they will see. What is folded are the statistics of all samples together. In ``sequential`` order
    all samples are one batch: each layer is measured behind the folded ones, exactly. That takes the memory of a
    forward pass of all samples at once.

    Running statistics of batch norms are used as they are; ``reset`` takes them anew.

    Args:
        model: The merged or pruned network; changed in place, in the mode it was in.
        loader: Batches of images, see :func:`mmreuse.statistics.passes.images_of`.
        scale: Match deviations.
        centre: Match means.
        ends: Aligned end models with the module names of ``model``, measured in a pass of their own.
        targets: In place of ``ends``, their statistics, as :func:`~mmreuse.renormalization.measure.measure_ends` gives
            them.
        weights: Of the ends; None for equal ones.
        samples: How many samples to use in each pass, to the sample; None for all.
        order: ``'simultaneous'`` or ``'sequential'``.
        layers: Names, or a regular expression that whole names fit; None for all convolutions and linear layers that
            another one comes after.
        blocks: Names of any modules, in place of layers.
        max_gain: Larger gains are clamped.

    Returns:
        dict[str, Affine]: What was folded, by module.

    Raises:
        ConfigError: An option does not exist or does not fit the others.
        SpaceError: A layer does not exist, cannot be corrected, or is of another size than its targets.
        DataError: The loader is empty or too short, or features are not finite. In all cases the model is unchanged.
    """
    _check_options(ends, targets, weights, order, samples)
    if targets is None:
        targets = measure_ends(ends, loader, samples=samples, layers=layers, blocks=blocks)
    wanted = combine(targets, weights)
    batches = image_batches(loader, [model], samples, 'statistics of the network')
    if order == 'sequential':
        batches = iter([(torch.cat([images for (images,) in batches]),)])
    places, batches = start(batches, model, layers, blocks)
    corrector = _Corrector(places, wanted, dict(scale=scale, centre=centre, max_gain=max_gain), order)
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(hooked(model, places, corrector.see, replace=True))
        for (images,) in batches:
            model(images)
    affines = corrector.result()
    fold_affine(model, places, affines)
    report(affines)
    return affines


def _check_options(
    ends: Sequence[nn.Module] | None,
    targets: Sequence[Statistics] | None,
    weights: Sequence[float] | None,
    order: str,
    samples: int | None,
) -> None:
    """Raise :class:`ConfigError` unless the options fit each other."""
    if (ends is None) == (targets is None):
        raise ConfigError('statistics of end models are needed: give either `ends` (models) or `targets` (statistics '
                          'measured on them).')
    check_weights(weights, len(ends if targets is None else targets))
    refuse_other('order', order, ORDERS)
    if order == 'sequential' and samples is None:
        raise ConfigError('the sequential order runs all samples as one batch: say how many, e.g. samples=2048.')


class _Corrector:
    """Measures the outputs of a network and hands them on corrected."""

    def __init__(self, places: Sequence[Place], targets: Mapping[str, ChannelMoments], options: dict,
                 order: str) -> None:
        missing = [place.module for place in places if place.module not in targets]
        if missing:
            raise SpaceError(f"there are no targets for '{missing[0]}'. {nearest(missing[0], targets)}")
        self.targets = targets
        self.options = options
        self.sequential = order == 'sequential'
        self.meters = Meters(places, 'the network to renormalize')

    def see(self, place: Place, features: Tensor) -> Tensor:
        """Correct one output by its own statistics."""
        goal = self.targets[place.module]
        if features.shape[place.dim] != len(goal.mean):
            raise SpaceError(f"'{place.module}' has {features.shape[place.dim]} channels and targets of "
                             f'{len(goal.mean)}: end models must be aligned to the model.')
        if features.numel() == len(goal.mean):
            raise DataError(f"'{place.module}' gave one value per channel, which has no deviation. Use batches, and a "
                            'number of samples, that leave no single sample over.')
        if self.sequential and self.meters.totals[place.module] is not None:
            raise SpaceError(f"'{place.module}' runs twice: layers cannot be corrected one after the other. Use the "
                             'simultaneous order.')
        batch = self.meters.take(place, features)
        if self.sequential:
            batch.reduce()
        return correction(_on(goal, features), batch.result(), **self.options)(features, place.dim)

    def result(self) -> dict[str, Affine]:
        """Return the corrections by the statistics of all samples."""
        return {name: correction(_on(self.targets[name], measured.mean), measured, **self.options)
                for name, measured in self.meters.result().items()}


def _on(moments: ChannelMoments, like: Tensor) -> ChannelMoments:
    return ChannelMoments(moments.count, moments.mean.to(like.device), moments.variance.to(like.device))


def report(affines: Mapping[str, Affine]) -> None:
    """Log how many channels could not be given their deviation."""
    channels = sum(len(affine.gain) for affine in affines.values())
    for what, means in (('clamped', 'are scaled by no more than max_gain'), ('constant', 'never vary; left unscaled')):
        counts = {name: getattr(affine, what) for name, affine in affines.items() if getattr(affine, what)}
        if counts:
            logger.warning('%d of %d channels %s: %s', sum(counts.values()), channels, means,
                           ', '.join(f'{count} in {name}' for name, count in counts.items()))
