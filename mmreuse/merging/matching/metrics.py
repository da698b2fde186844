"""Similarity of the features of one space, from their first and second moments.

All tables are exactly symmetric, of shape (O, O) over the stacked features of all models. A feature is *dead* where
what the metric divides by vanishes up to rounding. Dead features are like nothing, themselves included: similarity
0. Matchers thus take them after everything that is alike, and lose none.
"""
import torch
from torch import Tensor

from mmreuse.errors import DataError
from mmreuse.statistics import SpaceMoments
from mmreuse.utils.names import refuse_other

# Squares smaller than this, relative to the largest, are what float32 leaves of zero.
NEGLIGIBLE = 1e-12


def covariance(moments: SpaceMoments) -> Tensor:
    """Return the covariances of all stacked features, shape (O, O), float64.

    Raises:
        DataError: A moment is not finite or a variance negative: names the first such feature.
    """
    table, mean = moments.covariance.double(), moments.mean.double()
    variance = table.diagonal()
    _check(moments, ~(mean + variance).isfinite(), 'is not finite')
    _check(moments, ~table.sum(1).isfinite(), 'has a covariance that is not finite')
    _check(moments, variance < -NEGLIGIBLE * variance.abs().max(), 'has a negative variance')
    return (table + table.T).mul_(0.5)


def correlation(moments: SpaceMoments) -> Tensor:
    """Return Pearson correlations, shape (O, O), float64: within [-1, 1], and 0 with whatever does not vary.

    A feature does not vary if its variance is negligible beside the largest in the space or beside its own
    squared mean.

    Raises:
        DataError: As :func:`covariance`.
    """
    return _normalised(covariance(moments), varies(moments))


def varies(moments: SpaceMoments) -> Tensor:
    """Return whether each feature varies, see :func:`correlation`; shape (O,)."""
    variance = moments.covariance.double().diagonal()
    return variance > NEGLIGIBLE * torch.maximum(variance.max(), moments.mean.double().square())


def vanishes(moments: SpaceMoments) -> Tensor:
    """Return whether each feature is zero wherever it was seen, up to rounding; shape (O,)."""
    square = moments.covariance.double().diagonal() + moments.mean.double().square()
    return square <= NEGLIGIBLE * square.max()


def cosine(moments: SpaceMoments) -> Tensor:
    """Return the cosines of features, not centred: ``E[x y] / sqrt(E[x^2] E[y^2])``, shape (O, O), float64.

    Raises:
        DataError: As :func:`covariance`.
    """
    mean = moments.mean.double()
    table = covariance(moments).add_(torch.outer(mean, mean))
    square = table.diagonal()
    return _normalised(table, square > NEGLIGIBLE * square.max())


METRICS = {'covariance': covariance, 'correlation': correlation, 'cosine': cosine}


def similarity(moments: SpaceMoments, metric: str = 'correlation') -> Tensor:
    """Return the table of a metric by its name, shape (O, O), float64.

    Raises:
        ConfigError: There is no such metric.
        DataError: As :func:`covariance`.
    """
    refuse_other('metric', metric, METRICS)
    return METRICS[metric](moments)


def _normalised(table: Tensor, alive: Tensor) -> Tensor:
    """Divide by the roots of the diagonal, in place; dead rows and columns become 0."""
    scale = torch.where(alive, table.diagonal(), torch.inf).rsqrt()
    return table.mul_(torch.outer(scale, scale)).clamp_(-1, 1)


def _check(moments: SpaceMoments, bad: Tensor, what: str) -> None:
    if bad.any():
        first, model = int(bad.nonzero()[0]), 0
        feature = first
        while feature >= moments.sizes[model]:
            feature -= moments.sizes[model]
            model += 1
        raise DataError(f'feature {feature} of model {model} {what} ({int(bad.sum())} of {len(bad)} stacked features '
                        'are affected). Check the weights of the model and the images it was shown.')
