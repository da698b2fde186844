"""Variance collapse: what is left of the variance of layers after merging or pruning."""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmreuse.diagnostics.vanishing import normalised
from mmreuse.errors import ConfigError
from mmreuse.renormalization import Flow, first_images, measure_ends


@dataclass(frozen=True)
class VarianceRatio:
    """Variance of layers, mean over channels (float64)."""

    layers: tuple[str, ...]
    merged: Tensor  # (L,)
    ends: Tensor    # (N, L)
    ratio: Tensor   # (L,), merged over the mean of the ends


def variance_ratio(
    merged: nn.Module,
    ends: Sequence[nn.Module],
    loader: Iterable,
    *,
    samples: int | None = None,
) -> VarianceRatio:
    """Compare the variance of the outputs of all convolutions and linear layers, over samples and positions.

    Only what comes from the input varies, so this is the vanishing feature seen channel by channel (Jordan et al.,
    *REPAIR*, 2023, section 3: variance collapse).

    Args:
        merged: The merged or pruned network.
        ends: Its end models, aligned or not; for pruning the dense network alone.
        loader: Batches of images, which all see in one pass.
        samples: How many to use, to the sample; None for all.

    Raises:
        ConfigError: There are no ends.
        SpaceError: The ends lack a layer of the merged network.
        DataError: The loader is empty or too short, or a feature is not finite.
    """
    if not ends:
        raise ConfigError('there are no end models to compare with.')
    layers = Flow(merged, first_images(loader, merged)).layers()
    statistics = measure_ends([merged, *ends], loader, samples=samples, layers=layers)
    means = torch.stack([torch.stack([each[name].variance.mean() for name in layers]) for each in statistics]).cpu()
    return VarianceRatio(tuple(layers), means[0], means[1:], normalised(means[0], means[1:]))
