"""Linear maps of one feature space.

A map turns the ``n`` features of a space into ``n'``. Layers that *write* the space or
*accompany* it (norms, biases, statistics) are multiplied by ``merge`` of shape (n', n):
``f' = merge @ f``. Layers that *read* it are multiplied by ``unmerge`` of shape (n, n'):
``f ~ unmerge @ f'``, so ``W' = W @ unmerge``. For the three maps made of an index vector
both matrices follow from it and are never formed.
"""
from dataclasses import dataclass

import torch
from torch import Tensor

from mmreuse.errors import SpaceError


def _index(values: Tensor | list[int]) -> Tensor:
    index = torch.as_tensor(values)
    if index.dim() != 1 or index.is_floating_point() or index.is_complex():
        raise SpaceError(f'An index vector must be one-dimensional and of integers, got {tuple(index.shape)} '
                         f'{index.dtype}. For a mask of booleans pass `mask.nonzero().flatten()`.')
    if index.dtype == torch.bool:
        raise SpaceError('An index vector must hold integers, got booleans: pass `mask.nonzero().flatten()`.')
    return index.detach().to('cpu', torch.long)


@dataclass(frozen=True, eq=False)
class Select:
    """Keep some features, in any order: ``f'[j] = f[index[j]]``."""
    index: Tensor  # (n',), distinct members of the space

    def __post_init__(self) -> None:
        object.__setattr__(self, 'index', _index(self.index))

    @property
    def size(self) -> int:
        return len(self.index)

    def check(self, n: int) -> None:
        """Raise :class:`SpaceError` unless the map fits a space of ``n`` features."""
        if self.size == 0:
            raise SpaceError('a selection must keep at least one feature')
        if self.index.min() < 0 or self.index.max() >= n:
            raise SpaceError(f'index holds {int(self.index.min())}..{int(self.index.max())}, features are 0..{n - 1}')
        if len(self.index.unique()) != self.size:
            raise SpaceError('index names a feature twice; to copy features use Dense')

    def merge(self, x: Tensor) -> Tensor:
        """Return the rows of ``x`` of shape (n, ...) -> (n', ...)."""
        return x.index_select(0, self.index.to(x.device))

    def unmerge(self, x: Tensor) -> Tensor:
        """``unmerge.T @ x``: (n, ...) -> (n', ...), for rows that read the space."""
        return self.merge(x)

    def dense(self, n: int) -> 'Dense':
        """Return the same map as matrices, for a space of ``n`` features."""
        merge = torch.eye(n, dtype=torch.float64)[self.index]
        return Dense(merge, merge.T.contiguous())


@dataclass(frozen=True, eq=False)
class Permute(Select):
    """Reorder all features: ``f'[j] = f[index[j]]``, ``index`` of shape (n,) a permutation."""

    def check(self, n: int) -> None:
        super().check(n)
        if self.size != n:
            raise SpaceError(f'a permutation of {n} features needs {n} indices, got {self.size}; '
                             'to leave features out use Select')


@dataclass(frozen=True, eq=False)
class Scale:
    """Reorder all features and scale them: ``f'[j] = factor[j] * f[index[j]]``."""
    index: Tensor  # (n,), a permutation
    factor: Tensor  # (n,), positive

    def __post_init__(self) -> None:
        object.__setattr__(self, 'index', _index(self.index))
        object.__setattr__(self, 'factor', self.factor.detach().to('cpu', torch.float64))

    @property
    def size(self) -> int:
        return len(self.index)

    @property
    def order(self) -> Permute:
        """Return the permutation alone."""
        return Permute(self.index)

    def check(self, n: int) -> None:
        """Raise :class:`SpaceError` unless the map fits a space of ``n`` features."""
        self.order.check(n)
        if self.factor.shape != self.index.shape or not bool((self.factor > 0).all() & self.factor.isfinite().all()):
            raise SpaceError(f'{n} positive factors are needed, one for each feature')

    def merge(self, x: Tensor) -> Tensor:
        """Return reordered and scaled rows of ``x``: (n, ...) -> (n, ...)."""
        return self.order.merge(x) * self.factor.to(x).reshape(-1, *[1] * (x.dim() - 1))

    def unmerge(self, x: Tensor) -> Tensor:
        """``unmerge.T @ x``, for rows that read the space."""
        return self.order.merge(x) / self.factor.to(x).reshape(-1, *[1] * (x.dim() - 1))


@dataclass(frozen=True, eq=False)
class Assign:
    """Put every old feature into a new one: ``f'[j]`` is the weighted sum of ``f[i]`` with ``index[i] == j``.

    Readers see ``f[i] ~ f'[index[i]]``. Without ``weight`` the new feature is the plain mean.
    """
    index: Tensor  # (n,), new feature of every old one, or -1: left out
    size: int  # n'
    weight: Tensor | None = None  # (n,), share of the old feature in the new one

    def __post_init__(self) -> None:
        object.__setattr__(self, 'index', _index(self.index))
        if self.weight is None:
            counts = torch.bincount(self.index[self.index >= 0], minlength=self.size)
            share = torch.where(self.index >= 0, 1 / counts.double()[self.index.clamp(min=0)], 0.)
            object.__setattr__(self, 'weight', share)
        object.__setattr__(self, 'weight', self.weight.detach().to('cpu', torch.float64))

    def check(self, n: int) -> None:
        """Raise :class:`SpaceError` unless the map fits a space of ``n`` features."""
        if len(self.index) != n or self.weight.shape != self.index.shape:
            raise SpaceError(f'an assignment of {n} features needs {n} indices and weights, got {len(self.index)} '
                             f'and {tuple(self.weight.shape)}')
        if self.index.max() >= self.size or self.index.min() < -1:
            raise SpaceError(f'index holds {int(self.index.min())}..{int(self.index.max())}, '
                             f'new features are 0..{self.size - 1}')

    def _sum(self, x: Tensor, share: Tensor) -> Tensor:
        kept = self.index >= 0
        out = x.new_zeros((self.size, *x.shape[1:]))
        rows = x[kept.to(x.device)] * share[kept].to(x).reshape(-1, *[1] * (x.dim() - 1))
        return out.index_add_(0, self.index[kept].to(x.device), rows)

    def merge(self, x: Tensor) -> Tensor:
        """Return the weighted sums of rows of ``x``: (n, ...) -> (n', ...)."""
        return self._sum(x, self.weight)

    def unmerge(self, x: Tensor) -> Tensor:
        """``unmerge.T @ x``, plain sums of rows: (n, ...) -> (n', ...)."""
        return self._sum(x, torch.ones_like(self.weight))

    def dense(self, n: int) -> 'Dense':
        """Return the same map as matrices, for a space of ``n`` features."""
        eye = torch.eye(n, dtype=torch.float64)
        return Dense(self.merge(eye), self.unmerge(eye).T.contiguous())

    def split(self, sizes: list[int]) -> list['Assign']:
        """One map per model, for features of several models stacked in this order."""
        return [Assign(index, self.size, weight)
                for index, weight in zip(self.index.split(sizes), self.weight.split(sizes), strict=True)]


@dataclass(frozen=True, eq=False)
class Dense:
    """Any linear map, as two matrices."""
    merge_matrix: Tensor  # (n', n)
    unmerge_matrix: Tensor  # (n, n')

    def __post_init__(self) -> None:
        for name in ('merge_matrix', 'unmerge_matrix'):
            object.__setattr__(self, name, getattr(self, name).detach())

    @property
    def size(self) -> int:
        return self.merge_matrix.shape[0]

    def check(self, n: int) -> None:
        """Raise :class:`SpaceError` unless the map fits a space of ``n`` features."""
        shapes = tuple(self.merge_matrix.shape), tuple(self.unmerge_matrix.shape)
        if self.merge_matrix.dim() != 2 or shapes != ((self.size, n), (n, self.size)):
            raise SpaceError(f"merge must be (n', {n}) and unmerge ({n}, n'), got {shapes[0]} and {shapes[1]}")
        if not (self.merge_matrix.isfinite().all() and self.unmerge_matrix.isfinite().all()):
            raise SpaceError('merge or unmerge holds a number that is not finite')

    def merge(self, x: Tensor) -> Tensor:
        """``merge @ x``: (n, ...) -> (n', ...)."""
        return torch.tensordot(self.merge_matrix.to(x), x, dims=1)

    def unmerge(self, x: Tensor) -> Tensor:
        """``unmerge.T @ x``: (n, ...) -> (n', ...)."""
        return torch.tensordot(self.unmerge_matrix.T.to(x), x, dims=1)

    def dense(self, n: int) -> 'Dense':
        """Return the map itself."""
        return self

    def split(self, sizes: list[int]) -> list['Dense']:
        """One map per model, for features of several models stacked in this order."""
        return [Dense(merge, unmerge) for merge, unmerge in
                zip(self.merge_matrix.split(sizes, 1), self.unmerge_matrix.split(sizes), strict=True)]


SpaceMap = Permute | Select | Scale | Assign | Dense
