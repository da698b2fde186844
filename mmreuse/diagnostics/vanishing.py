"""The vanishing feature: the share of a feature that depends on the input, layer by layer."""
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.renormalization import NORMS, WEIGHTED
from mmreuse.statistics import ChannelMomentAccumulator, image_batches
from mmreuse.utils.hooks import forward_hooks
from mmreuse.utils.modes import evaluating
from mmreuse.utils.names import refuse_other

METRICS = ('diff', 'ratio', 'total')
NORMS_OF_FEATURES = ('l1', 'l1_mean', 'l2', 'l2_mean')
OFFSETS = ('zero', 'mean')
#: Denominators of ratios are at least this share of the root mean square.
RATIO_FLOOR = 1e-3


@dataclass(frozen=True)
class Magnitudes:
    """Magnitudes of the features of N models at L layers (float64)."""

    layers: tuple[str, ...]  # in order of execution
    induced: Tensor    # (N, L), mean over samples of what was asked for: by default the norm of g(x)
    deviation: Tensor  # (N, L), of the same over samples
    offset: Tensor     # (N, L), norm of h
    samples: int


@torch.no_grad()
def feature_magnitudes(
    models: Sequence[nn.Module],
    loader: Iterable,
    *,
    metric: str = 'diff',
    norm: str = 'l2_mean',
    offset: str = 'zero',
    samples: int | None = None,
) -> Magnitudes:
    """Split the output of every layer into ``g(x) = f(x) - h`` and an offset ``h``, and measure both.

    ``h = f(0)`` does not depend on the input, ``g`` does. In merged and in pruned networks g shrinks from layer to
    layer and h does not (Qu and Horvath, *Vanishing Feature*, 2025). Layers are convolutions, linear layers and norms;
    a second call of one is called ``name@1``. All models see the same batches, in one pass, and features are
    reduced in the hooks. Layers that do not see the images (tables of relative positions) are left out.

    Args:
        models: Networks of one structure: end models, midpoints, pruned networks.
        loader: Batches of images, see :func:`mmreuse.statistics.passes.images_of`.
        metric: ``'diff'``: g; ``'ratio'``: g / f element by element, with denominators of at least a thousandth of
            the root mean square of f or h, whichever is larger; ``'total'``: f.
        norm: Of each sample's features: ``'l1'``, ``'l2'``, or divided by what the norm of ones would be, ``'l1_mean'``
            and ``'l2_mean'`` (root mean square).
        offset: ``'zero'``: f(0), zero being the image that normalisation makes of the mean colour; ``'mean'``: the
            mean over the images, which takes another pass.
        samples: How many samples to use, to the sample; None for all.

    Returns:
        Magnitudes: Rows in the order of the models.

    Raises:
        ConfigError: There is no model, or an option does not exist.
        SpaceError: The models have different layers, or none.
        DataError: The loader is empty or too short, or a feature is not finite (names model and layer).
    """
    for option, value, known in (('metric', metric, METRICS), ('norm', norm, NORMS_OF_FEATURES),
                                 ('offset', offset, OFFSETS)):
        refuse_other(option, value, known)
    models = list(models)
    if not models:
        raise ConfigError('there are no models to measure.')
    batches = image_batches(loader, models, samples, 'feature magnitudes')
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(evaluating(model))
        first = next(batches)
        offsets = [zero_features(model, images) for model, images in zip(models, first, strict=True)]
        _check_same(models, offsets)
        if offset == 'mean':
            offsets = _mean_features(models, loader, offsets, samples)
        layers = tuple(offsets[0])
        total = ChannelMomentAccumulator(len(models) * len(layers))
        for images in itertools.chain([first], batches):
            sizes = [_sizes(model, own, middle, metric, norm)
                     for model, own, middle in zip(models, images, offsets, strict=True)]
            total.update(_finite(torch.cat(sizes, dim=1), layers))
    total.reduce()
    moments = total.result()
    shape = len(models), len(layers)
    own = torch.stack([torch.cat([size(part.flatten()[None], norm) for part in each.values()]) for each in offsets])
    return Magnitudes(layers, moments.mean.view(shape), moments.variance.sqrt().view(shape), own.cpu(), moments.count)


def run_layers(model: nn.Module, images: Tensor, see: Callable[[str, Tensor], None]) -> None:
    """Run a model and show the output of each convolution, linear layer and norm as ``see(name, output)``.

    Outputs may be overwritten by the layers that follow once ``see`` has returned.
    """
    calls: Counter[str] = Counter()

    def hook(name: str, module: nn.Module, args: tuple, output: Tensor) -> None:
        see(f'{name}@{calls[name]}' if calls[name] else name, output)
        calls[name] += 1

    with forward_hooks({module: partial(hook, name) for name, module in model.named_modules()
                        if isinstance(module, (*WEIGHTED, *NORMS))}):
        model(images)


def zero_features(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the outputs of layers for an input of zeros, by name in order of execution.

    Args:
        model: In evaluation mode.
        images: Of the shape of its inputs, (B, ...).

    Returns:
        dict[str, Tensor]: (1, ...) each, or (windows, ...) where a sample is several rows.
    """
    found: list[dict[str, Tensor]] = [{}, {}]
    for number, features in enumerate(found, 1):
        zeros = images.new_zeros(number, *images.shape[1:])
        run_layers(model, zeros, lambda name, output, own=features: own.update({name: output.clone()}))
    one, two = found
    return {name: output for name, output in one.items() if len(two[name]) == 2 * len(output)}


def size(features: Tensor, norm: str) -> Tensor:
    """Norm of each row: (B, D) to (B,), float64."""
    order, _, mean = norm.partition('_')
    order = int(order[1:])
    sizes = torch.linalg.vector_norm(features, order, dim=1, dtype=torch.float64)
    return sizes / features.shape[1] ** (1 / order) if mean else sizes


def _sizes(model: nn.Module, images: Tensor, offsets: Mapping[str, Tensor], metric: str, norm: str) -> Tensor:
    """Return the size of each sample (rows) at each layer (columns)."""
    found = {}

    def see(name: str, output: Tensor) -> None:
        if name in offsets:
            features, middle = output.reshape(len(images), -1), offsets[name].reshape(1, -1)
            found[name] = size(_part(features, middle, metric), norm)

    run_layers(model, images, see)
    return torch.stack([found[name] for name in offsets], dim=1).cpu()


def _part(features: Tensor, offset: Tensor, metric: str) -> Tensor:
    """g, g / f or f, as a new tensor."""
    if metric == 'total':
        return features
    induced = features - offset
    if metric == 'diff':
        return induced
    power = torch.maximum(features.square().mean(1, keepdim=True), offset.square().mean())
    floor = RATIO_FLOOR * power.sqrt() + torch.finfo(features.dtype).tiny
    return induced / torch.where(features.abs() < floor, floor.copysign(features), features)


def _mean_features(models: Sequence[nn.Module], loader: Iterable, like: Sequence[Mapping[str, Tensor]],
                   samples: int | None) -> list[dict[str, Tensor]]:
    """Return mean over samples of what layers give."""
    meters = [{name: ChannelMomentAccumulator(part.numel(), part.device) for name, part in each.items()}
              for each in like]

    def see(own: Mapping[str, ChannelMomentAccumulator], samples: int, name: str, output: Tensor) -> None:
        if name in own:
            try:
                own[name].update(output.reshape(samples, -1))
            except DataError as error:
                raise DataError(f"output of '{name}': {error}") from error

    for images in image_batches(loader, models, samples, 'mean features'):
        for model, own_images, own in zip(models, images, meters, strict=True):
            run_layers(model, own_images, partial(see, own, len(own_images)))
    for own in meters:
        for meter in own.values():
            meter.reduce()
    return [{name: meter.result().mean.to(part).view_as(part)
             for (name, meter), part in zip(own.items(), each.values(), strict=True)}
            for own, each in zip(meters, like, strict=True)]


def _check_same(models: Sequence[nn.Module], features: Sequence[Mapping[str, Tensor]]) -> None:
    first = features[0]
    if not first:
        raise SpaceError(f'{type(models[0]).__name__} runs no convolution, linear layer or norm.')
    for number, other in enumerate(features[1:], 1):
        differing = next((name for name in (*first, *other) if (name in first) != (name in other)
                          or first[name].shape != other[name].shape), None)
        if differing is not None:
            shapes = [str(tuple(each[differing].shape[1:])) if differing in each else 'absent'
                      for each in (first, other)]
            raise SpaceError(f"the models differ in '{differing}': {shapes[0]} in model 0, {shapes[1]} in model "
                             f'{number}. Compare models of one structure.')


def _finite(sizes: Tensor, layers: Sequence[str]) -> Tensor:
    broken = (~sizes.isfinite()).any(0).nonzero().flatten().tolist()
    if broken:
        model, layer = divmod(broken[0], len(layers))
        raise DataError(f"output of '{layers[layer]}' (model {model}) is not finite (NaN or infinity).")
    return sizes


# -- curves over depth -------------------------------------------------------------------


def normalised(merged: Tensor, ends: Tensor) -> Tensor:
    """``E_l``: magnitudes of a merged or pruned network over the mean of its end models.

    Args:
        merged: (L,).
        ends: (N, L), for pruning the dense network alone.

    Returns:
        Tensor: (L,); 1 where there is nothing in either.

    Raises:
        DataError: There is nothing in the ends, but something in the merged network.
    """
    whole = ends.mean(0)
    lost = ((whole == 0) & (merged != 0)).nonzero().flatten().tolist()
    if lost:
        raise DataError(f'at layer {lost[0]} (of {len(merged)}) the end models have no feature to compare with.')
    return torch.where(whole == 0, 1., merged / whole)


def envelope(values: Tensor) -> Tensor:
    """Return the published smooth bound of ``E``, which grows a little from each layer to the one before it.

    ``eps_{L-1} = E_{L-1}``, ``eps_i = max(E_i, eps_{i+1} (1 + 0.4 / (L - i + 1)))``. It exceeds 1 where E does not,
    and towards the input it mostly extrapolates: look at E as well.

    Args:
        values: E, (L,).

    Returns:
        Tensor: (L,).
    """
    number = len(values)
    growth = 1 + .4 / (number + 1 - torch.arange(number - 1, dtype=values.dtype))
    scale = torch.cat([growth.new_ones(1), growth.cumprod(0)]).to(values)
    # Unrolled: eps_i is the largest over j >= i of E_j times the growth of all steps from j back to i.
    return (values * scale).flip(0).cummax(0).values.flip(0) / scale


def by_depth(values: Sequence[float] | Tensor, points: int = 20) -> tuple[list[float], list[float]]:
    """Put networks of different depth on one axis: layer i of L stands at depth (i + 1) / L.

    Args:
        values: Of L layers.
        points: How many equal steps of depth.

    Returns:
        tuple: Depths, the last of which is 1, and values there, interpolated linearly; in front of the first layer its
        own value.
    """
    depths = np.arange(1, points + 1) / points
    at = np.arange(1, len(values) + 1) / len(values)
    return depths.tolist(), np.interp(depths, at, np.asarray(values, dtype=float)).tolist()
