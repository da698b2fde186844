"""REPAIR, RESCALE, RESHIFT by name."""
from collections.abc import Iterable, Sequence

from torch import nn

from mmreuse.registry import RENORMALIZERS
from mmreuse.renormalization.renormalize import renormalize
from mmreuse.renormalization.target_layers import Layers
from mmreuse.renormalization.target_statistics import Statistics


@RENORMALIZERS.register_module(name='repair')
def repair(
    model: nn.Module,
    loader: Iterable,
    *,
    samples: int | None = None,
    ends: Sequence[nn.Module] | None = None,
    targets: Sequence[Statistics] | None = None,
    weights: Sequence[float] | None = None,
    order: str = 'simultaneous',
    layers: Layers | None = None,
    blocks: Sequence[str] | None = None,
    max_gain: float = 100.,
) -> None:
    """Match means and deviations: ``y = sigma* (z - mu) / sigma + mu*`` (Jordan et al., *REPAIR*, 2023).

    Arguments and errors are those of :func:`mmreuse.renormalization.renormalize.renormalize`.
    """
    renormalize(model, loader, scale=True, centre=True, samples=samples, ends=ends, targets=targets, weights=weights,
                order=order, layers=layers, blocks=blocks, max_gain=max_gain)


@RENORMALIZERS.register_module(name='rescale')
def rescale(
    model: nn.Module,
    loader: Iterable,
    *,
    samples: int | None = None,
    ends: Sequence[nn.Module] | None = None,
    targets: Sequence[Statistics] | None = None,
    weights: Sequence[float] | None = None,
    order: str = 'simultaneous',
    layers: Layers | None = None,
    blocks: Sequence[str] | None = None,
    max_gain: float = 100.,
) -> None:
    """Match deviations, let means scale along: ``y = sigma* z / sigma`` (Qu and Horvath, *Vanishing Feature*, 2025).

    Arguments and errors are those of :func:`mmreuse.renormalization.renormalize.renormalize`.
    """
    renormalize(model, loader, scale=True, centre=False, samples=samples, ends=ends, targets=targets, weights=weights,
                order=order, layers=layers, blocks=blocks, max_gain=max_gain)


@RENORMALIZERS.register_module(name='reshift')
def reshift(
    model: nn.Module,
    loader: Iterable,
    *,
    samples: int | None = None,
    ends: Sequence[nn.Module] | None = None,
    targets: Sequence[Statistics] | None = None,
    weights: Sequence[float] | None = None,
    order: str = 'simultaneous',
    layers: Layers | None = None,
    blocks: Sequence[str] | None = None,
) -> None:
    """Match means: ``y = z - mu + mu*``, one half of REPAIR.

    Arguments and errors are those of :func:`mmreuse.renormalization.renormalize.renormalize`.
    """
    renormalize(model, loader, scale=False, centre=True, samples=samples, ends=ends, targets=targets, weights=weights,
                order=order, layers=layers, blocks=blocks)
