"""First and second moments in one pass, exact however far the mean lies from zero.

Every chunk of rows is shifted by its own mean before its products are formed, so that
nothing cancels even where the mean is a hundred standard deviations (or more) from zero:
the subtraction of two close float32 numbers is exact. The products of the shifted rows
are one float32 matrix product, fast everywhere; chunks are then merged in float64 by the
pairwise update of Chan, Golub and LeVeque (1979), which also merges processes.
"""
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmreuse.errors import DataError
from mmreuse.statistics.ridge import solve_ridge
from mmreuse.utils.precision import full_precision

# Rows of one float32 product. Longer sums lose digits, shorter ones spend their time in the float64 merge.
CHUNK_ROWS = 8192


@dataclass(frozen=True)
class SpaceMoments:
    """Moments of the features of one space, over samples and positions (float64)."""

    count: int
    mean: Tensor        # (n,)
    covariance: Tensor  # (n, n), divided by count
    sizes: tuple[int, ...] = ()  # features of each model, their sum is n; () means one model
    samples: int | None = None  # that the count rows are positions of, where that is known

    def __post_init__(self) -> None:
        object.__setattr__(self, 'sizes', tuple(self.sizes) or (len(self.mean),))
        if sum(self.sizes) != len(self.mean):
            raise DataError(f'moments of {len(self.mean)} features cannot be of models of {self.sizes} features.')


@dataclass(frozen=True)
class ChannelMoments:
    """Mean and variance of each channel on its own (float64)."""

    count: int
    mean: Tensor      # (n,)
    variance: Tensor  # (n,), divided by count


@dataclass(frozen=True)
class CrossMoments:
    """Moments for a linear regression of y on x (float64)."""

    count: int
    mean_x: Tensor         # (p,)
    mean_y: Tensor         # (q,)
    covariance_xx: Tensor  # (p, p), divided by count
    covariance_xy: Tensor  # (p, q), divided by count


Moments = TypeVar('Moments')


class _Accumulator(ABC, Generic[Moments]):
    """Count, mean and scatter (sum of centred products) of rows; what a product is, subclasses say."""

    def __init__(self, size: int, scatter_shape: tuple[int, ...], device: torch.device | str) -> None:
        self.size = size
        self.count = 0
        self.mean = torch.zeros(size, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(scatter_shape, dtype=torch.float64, device=device)

    @abstractmethod
    def _products(self, left: Tensor, right: Tensor) -> Tensor:
        """Sum over rows (r, size) of the products kept, in the rows' precision."""

    def update(self, rows: Tensor) -> None:
        """Take in rows of shape (rows, size).

        Raises:
            DataError: The shape is another, or a value is not finite.
        """
        if rows.ndim != 2 or rows.shape[1] != self.size:
            raise DataError(f'features have shape {tuple(rows.shape)}; (rows, {self.size}) was expected.')
        rows = rows.detach()
        if rows.dtype != torch.float64:
            rows = rows.float()
        with full_precision(rows.device.type):
            for chunk in rows.split(CHUNK_ROWS):
                if len(chunk):
                    self._add_chunk(chunk)

    def _add_chunk(self, rows: Tensor) -> None:
        count = len(rows)
        shift = rows.mean(0)
        shifted = rows - shift
        products = self._products(shifted, shifted)
        if not torch.isfinite(products.sum()):
            raise DataError('features are not finite (NaN or infinity, or squares beyond float32). Check the weights '
                            'of the network and the images.')
        # The shift is the mean only up to rounding; the remainder is corrected in float64.
        remainder = shifted.sum(0).to(self.mean) / count
        difference = shift.to(self.mean) + remainder - self.mean
        total = self.count + count
        weighted = torch.stack([difference * (self.count * count / total), remainder * -count])
        self.scatter += products.to(self.scatter.device)
        self.scatter += self._products(weighted, torch.stack([difference, remainder]))
        self.mean += difference * (count / total)
        self.count = total

    def merge(self, other: Self) -> None:
        """Take in all that another accumulator of the same kind has seen."""
        if other.count == 0:
            return
        total = self.count + other.count
        difference = (other.mean - self.mean)[None]
        self.scatter += other.scatter
        self.scatter += self._products(difference * (self.count * other.count / total), difference)
        self.mean += difference[0] * (other.count / total)
        self.count = total

    def reduce(self) -> None:
        """Merge what all processes saw; afterwards each holds the moments of everything.

        Every process must call it, one that saw no rows included. Nothing happens without
        ``torch.distributed``.
        """
        total = torch.tensor(self.count, dtype=torch.float64, device=self.mean.device)
        mean = self.mean * self.count
        all_reduce(total)
        all_reduce(mean)
        mean = mean / total.clamp(min=1)
        # Each process's scatter, moved to the common mean, adds up to the whole.
        difference = (self.mean - mean)[None]
        scatter = self.scatter + self._products(self.count * difference, difference)
        all_reduce(scatter)
        self.count, self.mean, self.scatter = int(total), mean, scatter

    def result(self) -> Moments:
        """Return the moments so far.

        Raises:
            DataError: No row was seen.
        """
        if self.count == 0:
            raise DataError('moments of no rows: the data is empty.')
        return self._moments(self.scatter / self.count)

    @abstractmethod
    def _moments(self, covariance: Tensor) -> Moments:
        """Return the moments of the subclass's kind, from the scatter divided by the count."""


class MomentAccumulator(_Accumulator[SpaceMoments]):
    """Mean and covariance of rows of features.

    Args:
        size: Number of features n.
        device: Where the (n, n) float64 sums are kept.
    """

    def __init__(self, size: int, device: torch.device | str = 'cpu') -> None:
        super().__init__(size, (size, size), device)

    def _products(self, left: Tensor, right: Tensor) -> Tensor:
        return left.T @ right

    def _moments(self, covariance: Tensor) -> SpaceMoments:
        return SpaceMoments(self.count, self.mean.clone(), covariance)


class ChannelMomentAccumulator(_Accumulator[ChannelMoments]):
    """Mean and variance of each of n channels, without their covariances.

    Args:
        size: Number of channels n.
        device: Where the float64 sums are kept.
    """

    def __init__(self, size: int, device: torch.device | str = 'cpu') -> None:
        super().__init__(size, (size,), device)

    def _products(self, left: Tensor, right: Tensor) -> Tensor:
        return (left * right).sum(0)

    def _moments(self, variance: Tensor) -> ChannelMoments:
        return ChannelMoments(self.count, self.mean.clone(), variance)


class CrossMomentAccumulator(_Accumulator[CrossMoments]):
    """Covariances of x with itself and with y: the normal equations of a regression of y on x.

    Args:
        size_x: Number of regressors p.
        size_y: Number of targets q.
        device: Where the (p, p + q) float64 sums are kept.
    """

    def __init__(self, size_x: int, size_y: int, device: torch.device | str = 'cpu') -> None:
        super().__init__(size_x + size_y, (size_x, size_x + size_y), device)
        self.size_x = size_x

    def _products(self, left: Tensor, right: Tensor) -> Tensor:
        return left[:, :self.size_x].T @ right

    def update(self, x: Tensor, y: Tensor) -> None:
        """Take in x of shape (rows, p) and y of shape (rows, q), row by row of the same sample.

        Raises:
            DataError: The shapes are others, or a value is not finite.
        """
        size_y = self.size - self.size_x
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or (x.shape[1], y.shape[1]) != (self.size_x, size_y):
            raise DataError(f'x has shape {tuple(x.shape)} and y {tuple(y.shape)}; (rows, {self.size_x}) and '
                            f'(rows, {size_y}) with equal rows were expected.')
        super().update(torch.cat([x, y.to(x)], dim=1))

    def _moments(self, covariance: Tensor) -> CrossMoments:
        p = self.size_x
        return CrossMoments(self.count, self.mean[:p].clone(), self.mean[p:].clone(),
                            covariance[:, :p], covariance[:, p:])


def least_squares(moments: CrossMoments, ridge: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the affine map ``y ~ x @ weight.T + bias`` of least squared error.

    Solves ``(C_xx + ridge * tr(C_xx) / p * I) W' = C_xy``. Directions in which x varies by less
    than a millionth of its largest variance count as constant (the least-norm solution): float32
    features carry no more than that.

    Args:
        moments: Covariances of x (p) and y (q).
        ridge: Penalty relative to the mean variance of x.

    Returns:
        tuple: weight of shape (q, p) and bias of shape (q,), float64.
    """
    penalty = ridge * moments.covariance_xx.diagonal().mean()
    weight = solve_ridge(moments.covariance_xx, moments.covariance_xy.T, penalty)
    return weight, moments.mean_y - weight @ moments.mean_x
