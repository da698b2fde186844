"""Second moments of what layers read and of what they should give, and the ridge regressions that they solve."""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.dist import all_reduce
from torch import Tensor


@dataclass(eq=False)
class Regression:
    """Sums over rows, from which ``T ~ W X + b`` is solved for any ridge; G groups of channels at once.

    Products are taken in the type of the data and summed in float64.
    """
    count: Tensor  # () number of rows
    x: Tensor  # (G, i) sums of inputs
    t: Tensor  # (G, o) and of targets
    xx: Tensor  # (G, i, i)
    tx: Tensor  # (G, o, i)
    tt: Tensor  # (G,) sum of squares of targets

    @classmethod
    def zeros(cls, groups: int, inputs: int, outputs: int) -> 'Regression':
        """Return sums over nothing."""
        return cls(*(torch.zeros(shape, dtype=torch.float64) for shape in (
            (), (groups, inputs), (groups, outputs), (groups, inputs, inputs), (groups, outputs, inputs), (groups,))))

    def add(self, x: Tensor, t: Tensor) -> None:
        """Add rows.

        Args:
            x: (G, n, i).
            t: (G, n, o).
        """
        self.count += x.shape[1]
        for own, more in zip((self.x, self.t, self.xx, self.tx, self.tt), (
                x.sum(1), t.sum(1), x.mT @ x, t.mT @ x, t.square().sum((1, 2))), strict=True):
            own += more.double().cpu()

    def reduce(self) -> None:
        """Add up over processes."""
        for tensor in vars(self).values():
            all_reduce(tensor)

    @property
    def finite(self) -> bool:
        """Whether every sum is."""
        return all(bool(tensor.isfinite().all()) for tensor in vars(self).values())

    @property
    def weight(self) -> float:
        """One over the norm of the centred inputs' moments: a network with loud activations does not count for more."""
        norm = float(self._centred()[0].norm())
        return 1 / norm if norm > 0 else 0.

    def _centred(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean_x, mean_t = self.x / self.count, self.t / self.count
        xx = self.xx - self.count * mean_x[:, :, None] * mean_x[:, None]
        tx = self.tx - self.count * mean_t[:, :, None] * mean_x[:, None]
        return xx, tx, mean_x, mean_t

    def solve(self, anchor: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        """Solve ``min_W ||T - W X - b||^2 + lam ||W - W_0||^2`` with ``lam = ridge * mean diag(X X^T)``, centred.

        Args:
            anchor: W_0, (G, o, i), in float64. Where it is zero, W is: a pruned weight stays pruned.
            ridge: At least 0.

        Returns:
            tuple[Tensor, Tensor]: W of shape (G, o, i) and b of (G, o), in float64.
        """
        xx, tx, mean_x, mean_t = self._centred()
        level = ridge * xx.diagonal(dim1=1, dim2=2).mean(1)
        level = torch.where(level > 0, level, 1e-12)[:, None, None]
        left, right = xx + level * torch.eye(xx.shape[-1], dtype=torch.float64), tx + level * anchor
        weight = torch.linalg.solve(left, right, left=False) if bool((anchor != 0).all()) else \
            _solve_where(anchor != 0, left, right)
        return weight, mean_t - (weight @ mean_x[:, :, None])[..., 0]

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """Return the sum of squares of ``T - W X - b`` over the rows."""
        fitted = (weight @ self.xx * weight).sum() - 2 * (weight * self.tx).sum() + self.tt.sum()
        shift = 2 * (bias * ((weight @ self.x[:, :, None])[..., 0] - self.t)).sum() + self.count * bias.square().sum()
        return float(fitted + shift)


def _solve_where(kept: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Solve ``W left = right`` row by row for the weights that are kept; others are zero."""
    weight = torch.zeros_like(right)
    for group, row in kept.any(2).nonzero().tolist():
        own = kept[group, row].nonzero().flatten()
        weight[group, row, own] = torch.linalg.solve(left[group][own[:, None], own], right[group, row, own])
    return weight


def sum_of(parts: Sequence[Regression]) -> Regression:
    """Return the sums over the rows of all parts."""
    return mean_of(parts, [1.] * len(parts))


def mean_of(parts: Sequence[Regression], weights: Sequence[float]) -> Regression:
    """Return the weighted sum of sums."""
    return Regression(*(sum(weight * each for weight, each in zip(weights, own, strict=True))
                        for own in zip(*(vars(part).values() for part in parts), strict=True)))
