"""The empirical Fisher of a network and what WoodFisher takes from its inverse."""
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from mmreuse.errors import ConfigError, DataError
from mmreuse.pruning.fisher import inverse
from mmreuse.pruning.fisher.storage import Columns, PerSampleGradients

RULES = ('summed', 'joint')


@dataclass(frozen=True, eq=False)
class Fisher:
    """``damp * I + 1/m sum_k g_k g_k^T``, in blocks along its diagonal (Singh and Alistarh, 2020, section 3).

    Where a block has more weights than there are samples, its inverse is taken in the space of samples, see
    :mod:`mmreuse.pruning.fisher.inverse`, and the factor of its matrix (m, m) is kept.

    Args:
        gradients: Of m samples.
        damp: Added to the diagonal.
        block: None: every weight tensor is one block. A number: consecutive blocks of so many weights within each
            tensor, the last one smaller. ``'model'``: all tensors are one block.

    Raises:
        ConfigError: ``damp`` or ``block`` is not positive.
    """
    gradients: PerSampleGradients
    damp: float = 1e-5
    block: int | Literal['model'] | None = None
    factors: dict[tuple[int, int], Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_fisher(self.damp, self.block)

    @cached_property
    def inverse_diagonal(self) -> dict[str, Tensor]:
        """Return the diagonal of the inverse, float64, for each weight."""
        return self._by_blocks(lambda columns: inverse.dual_diagonal(columns, self.damp, self._factor(columns)),
                               inverse.block_diagonal)

    def solve(self, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the inverse times a vector, given and returned as one tensor for each weight (float64)."""
        def dual(columns: Columns, vector: Tensor) -> Tensor:
            return inverse.dual_solve(columns, self.damp, self._factor(columns), vector)

        return self._by_blocks(dual, inverse.block_solve, vectors)

    def compensate(self, weights: Mapping[str, Tensor], pruned: Mapping[str, Tensor],
                   rule: str = 'summed') -> dict[str, Tensor]:
        """Change of all weights that makes up for the pruned ones (optimal brain surgeon).

        Args:
            weights: As they are.
            pruned: True where a weight goes.
            rule: ``'summed'``: as published, the sum of the changes that each pruned weight would need if it went
                alone, ``-F^-1 (pruned * w / diag F^-1)``. ``'joint'``: the minimum of the quadratic when all go.

        Returns:
            dict: float64, ``-weights`` where pruned; of what was zero before nothing changes, as its gradients are
            zero.

        Raises:
            ConfigError: There is no such rule.
        """
        check_rule(rule)
        weights = {name: weight.detach().double() for name, weight in weights.items()}
        if rule == 'joint':
            return self._by_blocks(lambda columns, *each: inverse.dual_joint(columns, self.damp, *each),
                                   inverse.block_joint, weights, pruned)
        alone = {name: weight * pruned[name] / self.inverse_diagonal[name] for name, weight in weights.items()}
        changes = self.solve(alone)
        return {name: torch.where(pruned[name], -weights[name], -change) for name, change in changes.items()}

    def _factor(self, columns: Columns) -> Tensor:
        key = columns.start, columns.stop
        if key not in self.factors:
            self.factors[key] = inverse.dual_factor(columns, self.damp)
        return self.factors[key]

    def _by_blocks(self, dual: Callable, primal: Callable, *vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Apply one of two functions to every block, by its size, and put the results together."""
        flat = [self.gradients.flatten(vector).to(self.gradients.columns().device) for vector in vectors]
        results = []
        for name, start, stop, size in self._blocks():
            columns = self.gradients.columns(start, stop)
            parts = [vector[start:stop] for vector in flat]
            try:
                if size > self.gradients.samples:
                    results.append(dual(columns, *parts))
                else:
                    results.append(primal(columns, size, self.damp, *parts))
            except torch.linalg.LinAlgError as error:
                largest = max(float(part.abs().max()) for _, part in columns.chunks())
                raise DataError(
                    f'the Fisher of {name} cannot be inverted with damp={self.damp} ({error}). Its largest gradient '
                    f'is {largest:.3g}; a larger damp keeps it from being singular.') from error
        return self.gradients.unflatten(torch.cat(results))

    def _blocks(self) -> Iterator[tuple[str, int, int, int]]:
        """Name, first and last column of spans, and the size of the equal blocks in each.

        Blocks larger than the number of samples come one by one.
        """
        samples, total = self.gradients.columns().shape
        if self.block == 'model':
            yield 'the model', 0, total, total
            return
        for name, (start, stop) in self.gradients.ranges.items():
            size = min(self.block or stop - start, stop - start)
            whole = stop - (stop - start) % size
            if size > samples:
                yield from ((f"'{name}'", first, first + size, size) for first in range(start, whole, size))
            else:
                yield f"'{name}'", start, whole, size
            if whole < stop:
                yield f"'{name}'", whole, stop, stop - whole


def check_fisher(damp: float, block: int | str | None) -> None:
    """Raise :class:`ConfigError` unless a Fisher can be built with these."""
    if not 0 < damp < float('inf'):
        raise ConfigError(f'damp={damp} must be positive and finite: with fewer samples than weights the Fisher itself '
                          'is singular. 1e-5 is usual.')
    if not (block in (None, 'model') or isinstance(block, int) and block > 0):
        raise ConfigError(f"block={block!r} is neither a positive number of weights, nor 'model', nor None.")


def check_rule(rule: str) -> None:
    """Raise :class:`ConfigError` unless there is such a rule of updating."""
    if rule not in RULES:
        raise ConfigError(f"there is no update '{rule}'. Take 'summed' (as published) or 'joint' (the exact minimum).")
