"""Moments of which the right matching is known."""
import torch
from torch import Tensor

from mmreuse.statistics import SpaceMoments


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def permutation(size: int, seed: int = 0) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def features(rows: int, size: int, seed: int = 0) -> Tensor:
    """Correlated features, not centred, of differing scales, shape (rows, size)."""
    mixed = normal(rows, size, seed=seed) @ normal(size, size, seed=seed + 1)
    return (mixed + normal(size, seed=seed + 2)) * (1 + torch.arange(size))


def moments_of(*models: Tensor) -> SpaceMoments:
    """Exact joint moments of the features of models, each of shape (rows, n_i)."""
    stacked = torch.cat(models, 1).double()
    mean = stacked.mean(0)
    centred = stacked - mean
    return SpaceMoments(len(stacked), mean, centred.T @ centred / len(stacked), tuple(each.shape[1] for each in models))


def random_table(size: int, seed: int, levels: int | None = None) -> Tensor:
    """Correlations of random vectors, of both signs; with ``levels`` so coarse that most of them are ties."""
    rows = normal(size, size + 5, seed=seed)
    table = rows @ rows.T / torch.outer(rows.norm(dim=1), rows.norm(dim=1))
    table = (table + table.T) / 2
    return table if levels is None else (table * levels).round() / levels


def with_covariance(table: Tensor, *sizes: int) -> SpaceMoments:
    """Moments that have this table of covariances."""
    return SpaceMoments(1, torch.zeros(len(table), dtype=torch.float64), table, sizes)


def groups(index: Tensor) -> list[list[int]]:
    """Members of each merged feature."""
    return [(index == group).nonzero().flatten().tolist() for group in range(int(index.max()) + 1)]
