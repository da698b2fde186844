"""REPAIR without running the network: its statistics follow from how the ends' features go together."""
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import Tap
from mmreuse.registry import RENORMALIZERS
from mmreuse.renormalization.affine import Affine, correction
from mmreuse.renormalization.fold_affine import fold_affine
from mmreuse.renormalization.measure import first_images
from mmreuse.renormalization.renormalize import report
from mmreuse.renormalization.target_layers import Flow, Layers, find_places
from mmreuse.renormalization.target_statistics import check_weights, combine
from mmreuse.statistics import ChannelMoments, SpaceMoments, collect_taps
from mmreuse.utils.names import nearest


@dataclass(frozen=True)
class MatchedMoments:
    """Moments of matched channels of N end models, each channel on its own (float64)."""
    count: int
    mean: Tensor        # (N, n)
    covariance: Tensor  # (N, N, n), divided by count


def matched(moments: SpaceMoments, orders: Sequence[Tensor | None] | None = None) -> MatchedMoments:
    """Pick what matched channels have to do with each other out of joint moments.

    Args:
        moments: Of one layer's output in N models of equal width.
        orders: For each model, which of its channels is matched to each of the first one's (see
            :func:`mmreuse.renormalization.target_statistics.output_orders`); None where they are in order.

    Raises:
        SpaceError: The models have different widths.
    """
    sizes = moments.sizes
    if len(set(sizes)) > 1:
        raise SpaceError(f'matched channels need models of equal width, these have {sizes}.')
    size, device = sizes[0], moments.mean.device
    rows = torch.stack([(torch.arange(size) if order is None else order).to(device) + number * size
                        for number, order in enumerate(orders or [None] * len(sizes))])
    return MatchedMoments(moments.count, moments.mean[rows], moments.covariance[rows[:, None], rows[None]])


def measure_together(
    ends: Sequence[nn.Module],
    loader: Iterable,
    *,
    samples: int | None = None,
    layers: Layers | None = None,
) -> dict[str, SpaceMoments]:
    """Return the joint moments of the outputs of layers of N models, in one pass. They need not be aligned yet.

    Args:
        ends: Models of one structure.
        loader: Batches of images, which can be iterated over again.
        samples: How many samples to use, to the sample; None for all.
        layers: As :func:`mmreuse.renormalization.target_layers.find_places` takes them.

    Raises:
        SpaceError: A layer does not exist.
        ConfigError: A layer does not exist in all ends.
        DataError: The loader is empty or too short, or features are not finite.
    """
    places = find_places(Flow(ends[0], first_images(loader, ends[0])), layers)
    taps = [{place.module: Tap(place.module, 'output', place.dim, _channels(end, place.module)) for place in places}
            for end in ends]
    return collect_taps(ends, loader, taps, samples=samples)


def _channels(end: nn.Module, layer: str) -> Tensor:
    modules = dict(end.named_modules())
    if layer not in modules:
        raise SpaceError(f"{type(end).__name__} has no layer '{layer}'. {nearest(layer, modules)}")
    return torch.arange(len(modules[layer].weight))


@RENORMALIZERS.register_module(name='closed_form_repair', needs=('samples', 'ends', 'moments', 'weights', 'layers'))
@torch.no_grad()
def closed_form_repair(
    model: nn.Module,
    loader: Iterable,
    *,
    samples: int | None = None,
    ends: Sequence[nn.Module] | None = None,
    moments: Mapping[str, MatchedMoments] | None = None,
    weights: Sequence[float] | None = None,
    layers: Layers | None = None,
    max_gain: float = 100.,
) -> None:
    """Give layers' outputs the mean and deviation of the end models' without a pass over the network.

    If the outputs of the averaged network are the averages of the ends' outputs, then
    ``sigma^2 = sum_ij a_i a_j rho_ij sigma_i sigma_j`` for matched channels of correlation ``rho_ij``, and
    ``y = sigma* (z - mu*) / sigma + mu*`` corrects them (Jordan et al., *REPAIR*, 2023, in its
    published code).

    Args:
        model: The ends' parameters, averaged with ``weights``; changed in place.
        loader: Its first images say what runs. Only without ``moments`` are statistics taken on it, of the ends.
        samples: How many samples to use for them, to the sample; None for all.
        ends: Aligned end models.
        moments: In place of ``ends``, by layer, what :func:`matched` makes of :func:`measure_together`.
        weights: a_k; None for equal ones.
        layers: As for :func:`mmreuse.renormalization.renormalize.renormalize`.
        max_gain: Larger gains are clamped.

    Raises:
        ConfigError: Neither or both of ``ends`` and ``moments`` are given, or the weights do not fit.
        SpaceError: A layer does not exist, has no moments or cannot be corrected.
        DataError: The loader is empty or too short, or features are not finite. In all cases the model is unchanged.
    """
    if (ends is None) == (moments is None):
        raise ConfigError('give either `ends` (models) or `moments` (of their matched channels).')
    if moments is None:
        joint = measure_together(ends, loader, samples=samples, layers=layers)
        moments = {name: matched(each) for name, each in joint.items()}
    places = find_places(Flow(model, first_images(loader, model)), layers)
    affines = {place.module: _correction(model, place.module, moments, weights, max_gain) for place in places}
    fold_affine(model, places, affines)
    report(affines)


def _correction(
    model: nn.Module,
    layer: str,
    moments: Mapping[str, MatchedMoments],
    weights: Sequence[float] | None,
    max_gain: float,
) -> Affine:
    if layer not in moments:
        raise SpaceError(f"there are no moments of '{layer}'. {nearest(layer, moments)}")
    own = moments[layer]
    channels = len(model.get_submodule(layer).weight)
    if own.mean.shape[1] != channels:
        raise SpaceError(f"'{layer}' has {channels} channels and moments of {own.mean.shape[1]}: align the ends "
                         'before.')
    shares = torch.tensor(check_weights(weights, len(own.mean)), dtype=torch.float64, device=own.mean.device)
    parts = [{layer: ChannelMoments(own.count, mean, own.covariance[number, number])}
             for number, mean in enumerate(own.mean)]
    goal = combine(parts, weights)[layer]
    variance = torch.einsum('i,j,ijn->n', shares, shares, own.covariance).clamp(min=0)
    return correction(goal, ChannelMoments(own.count, goal.mean, variance), scale=True, centre=True, max_gain=max_gain)
