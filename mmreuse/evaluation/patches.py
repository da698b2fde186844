"""Distances of the patches of two images, or sets of images."""
import torch
import torch.nn.functional as F
from torch import Tensor

from mmreuse.errors import DataError


def patches(images: Tensor, size: int = 7) -> Tensor:
    """All patches of images, as rows.

    Args:
        images: (N, C, H, W).
        size: Side of a patch in pixels.

    Returns:
        Tensor: (N * (H - size + 1) * (W - size + 1), C * size * size).

    Raises:
        DataError: The images are smaller than a patch.
    """
    if min(images.shape[-2:]) < size:
        raise DataError(f'images of {tuple(images.shape[-2:])} pixels have no patches of {size} x {size}')
    return F.unfold(images, size).transpose(1, 2).flatten(0, 1)


def sliced_wasserstein(first: Tensor, second: Tensor, directions: int = 128, seed: int = 0) -> float:
    """Distance between two sets of vectors: of their projections, averaged over directions.

    As Karras et al. (*Progressive Growing of GANs*, 2018, section 5) compare patches. The Wasserstein-1 distance of
    two sets of numbers is the mean difference of their quantiles, here as many as the larger set has members: exact
    if its size is a multiple of the other's.

    Args:
        first: (P, D).
        second: (Q, D).
        directions: Number of random directions.
        seed: Of the directions.

    Returns:
        float: In the unit of the vectors.
    """
    generator = torch.Generator().manual_seed(seed)
    lines = F.normalize(torch.randn(first.shape[1], directions, generator=generator, dtype=torch.float64), dim=0)
    count = max(len(first), len(second))
    quantiles = [_quantiles(rows.double().cpu() @ lines, count) for rows in (first, second)]
    return float((quantiles[0] - quantiles[1]).abs().mean())


def _quantiles(values: Tensor, count: int) -> Tensor:
    """``count`` evenly spaced quantiles of each column."""
    middles = (torch.arange(count) + 0.5) / count
    return values.sort(dim=0).values[(middles * len(values)).long()]
