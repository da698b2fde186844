"""REPAIR, RESCALE, RESHIFT by name."""
from collections.abc import Iterable
from typing import Any

from torch import nn

from mmreuse.registry import RENORMALIZERS
from mmreuse.renormalization.renormalize import renormalize
from mmreuse.utils.configs.methods import options_of

NEEDS = ('samples', 'ends', 'targets', 'weights', 'layers')


@RENORMALIZERS.register_module(name='repair', needs=NEEDS)
@options_of(renormalize, without=('scale', 'centre'))
def repair(model: nn.Module, loader: Iterable, **options: Any) -> None:
    """Match means and deviations: ``y = sigma* (z - mu) / sigma + mu*`` (Jordan et al., *REPAIR*, 2023).

    Options and errors are those of :func:`mmreuse.renormalization.renormalize.renormalize`.
    """
    renormalize(model, loader, scale=True, centre=True, **options)


@RENORMALIZERS.register_module(name='rescale', needs=NEEDS)
@options_of(renormalize, without=('scale', 'centre'))
def rescale(model: nn.Module, loader: Iterable, **options: Any) -> None:
    """Match deviations, let means scale along: ``y = sigma* z / sigma`` (Qu and Horvath, *Vanishing Feature*, 2025).

    Options and errors are those of :func:`mmreuse.renormalization.renormalize.renormalize`.
    """
    renormalize(model, loader, scale=True, centre=False, **options)


@RENORMALIZERS.register_module(name='reshift', needs=NEEDS)
@options_of(renormalize, without=('scale', 'centre', 'max_gain'))
def reshift(model: nn.Module, loader: Iterable, **options: Any) -> None:
    """Match means: ``y = z - mu + mu*``, one half of REPAIR.

    Options and errors are those of :func:`mmreuse.renormalization.renormalize.renormalize`; nothing is scaled, so that
    there is no ``max_gain``.
    """
    renormalize(model, loader, scale=False, centre=True, **options)
