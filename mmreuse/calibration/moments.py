"""Second moments of what layers read and of what they should give, and the ridge regressions that they solve."""
from dataclasses import dataclass

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmreuse.statistics import solve_ridge


@dataclass(eq=False)
class Regression:
    """Sums over rows, from which ``T ~ W X + b`` is solved for any ridge; G groups of channels at once.

    Products are taken in the type of the data, at least float32, and summed in float64.
    """
    count: Tensor  # () number of rows
    x: Tensor  # (G, i) sums of inputs
    t: Tensor  # (G, o) and of targets
    xx: Tensor  # (G, i, i)
    tx: Tensor  # (G, o, i)
    tt: Tensor  # (G,) sum of squares of targets

    @classmethod
    def zeros(cls, groups: int, inputs: int, outputs: int, device: torch.device | str = 'cpu') -> 'Regression':
        """Return sums over nothing."""
        return cls(*(torch.zeros(shape, dtype=torch.float64, device=device) for shape in (
            (), (groups, inputs), (groups, outputs), (groups, inputs, inputs), (groups, outputs, inputs), (groups,))))

    def add(self, x: Tensor, t: Tensor) -> None:
        """Add rows.

        Args:
            x: (n, G, i).
            t: (n, G, o).
        """
        x, t = (each.movedim(1, 0).to(torch.promote_types(each.dtype, torch.float32)) for each in (x, t))
        self.count += x.shape[1]
        for own, more in zip((self.x, self.t, self.xx, self.tx, self.tt), (
                x.sum(1), t.sum(1), x.mT @ x, t.mT @ x, t.square().sum((1, 2))), strict=True):
            own += more

    def __iadd__(self, other: 'Regression') -> 'Regression':
        """Take in the rows of another."""
        for own, more in zip(vars(self).values(), vars(other).values(), strict=True):
            own += more
        return self

    def reduce(self) -> None:
        """Add up over processes."""
        for tensor in vars(self).values():
            all_reduce(tensor)

    @property
    def finite(self) -> bool:
        """Return whether every sum is finite."""
        return all(bool(tensor.isfinite().all()) for tensor in vars(self).values())

    @property
    def spread(self) -> float:
        """Return the sum of squares of the centred targets."""
        return float((self.tt - self.t.square().sum(1) / self.count).sum())

    def solve(self, anchor: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        """Solve ``min_W ||T - W X - b||^2 + lam ||W - W_0||^2`` with ``lam = ridge * mean diag(X X^T)``, centred.

        Args:
            anchor: W_0, (G, o, i), in float64. Where it is zero, W is: a pruned weight stays pruned.
            ridge: At least 0.

        Returns:
            tuple[Tensor, Tensor]: W of shape (G, o, i) and b of (G, o), in float64.
        """
        mean_x, mean_t = self.x / self.count, self.t / self.count
        xx = self.xx - self.count * mean_x[:, :, None] * mean_x[:, None]
        tx = self.tx - self.count * mean_t[:, :, None] * mean_x[:, None]
        level = ridge * xx.diagonal(dim1=1, dim2=2).mean(1)
        solve = solve_ridge if bool((anchor != 0).all()) else _solve_where
        weight = solve(xx, tx, level, anchor)
        return weight, mean_t - (weight @ mean_x[:, :, None])[..., 0]

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """Return the sum of squares of ``T - W X - b`` over the rows."""
        fitted = ((weight @ self.xx - 2 * self.tx) * weight).sum() + self.tt.sum()
        shift = 2 * (bias * ((weight @ self.x[:, :, None])[..., 0] - self.t)).sum() + self.count * bias.square().sum()
        return float(fitted + shift)


def _solve_where(gram: Tensor, cross: Tensor, penalty: Tensor, anchor: Tensor) -> Tensor:
    """Solve for the weights that are kept, where W_0 is not zero; others are zero. Rows that keep the same go together.
    """
    weight = torch.zeros_like(cross)
    for group, kept in enumerate(anchor != 0):
        patterns, number_of = kept.unique(dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            own, rows = pattern.nonzero().flatten(), (number_of == number).nonzero()
            weight[group, rows, own] = solve_ridge(
                gram[group][own[:, None], own], cross[group, rows, own], penalty[group], anchor[group, rows, own])
    return weight
