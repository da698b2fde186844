"""Second moments of what layers read and of what they miss, and the ridge regressions that they solve."""
from dataclasses import dataclass

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmreuse.statistics import solve_ridge

#: So many columns of a symmetric product are computed at once, up to the diagonal.
_COLUMNS = 512


@dataclass(eq=False)
class Regression:
    """Sums over rows, from which ``T ~ W X + b`` is solved for any ridge; G groups of channels at once.

    What is summed is the rest ``R = T - W_0 X - b_0`` that the layer as it is leaves of its targets, and what is solved
    for is the change of W_0: rounding then matters as much as there is to change, and not at all where nothing is.
    Products are taken in the type of the data, at least float32, and summed in float64.
    """
    weight: Tensor  # W_0, (G, o, i); where it is zero, W is: a pruned weight stays pruned
    bias: Tensor  # b_0, (G, o)
    count: Tensor  # () number of rows
    x: Tensor  # (G, i) sums of inputs
    r: Tensor  # (G, o) of rests
    t: Tensor  # (G, o) and of targets
    xx: Tensor  # (G, i, i)
    rx: Tensor  # (G, o, i)
    rr: Tensor  # () sum of squares of rests
    tt: Tensor  # () and of targets

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor) -> 'Regression':
        """Return sums over nothing, for a layer with weight W_0 (G, o, i) and bias b_0 (G, o)."""
        groups, outputs, inputs = weight.shape
        return cls(weight, bias, *(torch.zeros(shape, dtype=torch.float64, device=weight.device) for shape in (
            (), (groups, inputs), (groups, outputs), (groups, outputs), (groups, inputs, inputs),
            (groups, outputs, inputs), (), ())))

    @property
    def sums(self) -> list[Tensor]:
        """Return what rows are added up in."""
        return [getattr(self, name) for name in ('count', 'x', 'r', 't', 'xx', 'rx', 'rr', 'tt')]

    def add(self, x: Tensor, t: Tensor) -> None:
        """Add rows.

        Args:
            x: (n, G, i).
            t: (n, G, o).
        """
        x, t = (each.movedim(1, 0).to(torch.promote_types(each.dtype, torch.float32)) for each in (x, t))
        r = t - torch.baddbmm(self.bias.to(x)[:, None], x, self.weight.to(x).mT)
        self.count += x.shape[1]
        for own, more in ((self.x, x), (self.r, r), (self.t, t)):
            own += more.sum(1)
        _add_gram(self.xx, x)
        self.rx += r.mT @ x
        self.rr += r.square().sum()
        self.tt += t.square().sum()

    def __iadd__(self, other: 'Regression') -> 'Regression':
        """Take in the rows of another of the same layer."""
        for own, more in zip(self.sums, other.sums, strict=True):
            own += more
        return self

    def reduce(self) -> None:
        """Add up over processes."""
        for tensor in self.sums:
            all_reduce(tensor)

    @property
    def finite(self) -> bool:
        """Return whether every sum is finite."""
        return all(bool(tensor.sum().isfinite()) for tensor in self.sums)

    @property
    def spread(self) -> float:
        """Return the sum of squares of the centred targets."""
        return float(self.tt - self.t.square().sum() / self.count)

    def solve(self, ridge: float) -> tuple[Tensor, Tensor]:
        """Solve ``min_W ||T - W X - b||^2 + lam ||W - W_0||^2`` with ``lam = ridge * mean diag(X X^T)``, centred.

        Args:
            ridge: At least 0.

        Returns:
            tuple[Tensor, Tensor]: W of shape (G, o, i) and b of (G, o), in float64.
        """
        mean_x, mean_r = self.x / self.count, self.r / self.count
        xx = self.xx.baddbmm(self.x[:, :, None], mean_x[:, None], alpha=-1)
        rx = self.rx.baddbmm(self.r[:, :, None], mean_x[:, None], alpha=-1)
        level = ridge * xx.diagonal(dim1=1, dim2=2).mean(1)
        kept = self.weight != 0
        change = solve_ridge(xx, rx, level) if bool(kept.all()) else _solve_where(kept, xx, rx, level)
        return self.weight + change, self.bias + mean_r - (change @ mean_x[:, :, None])[..., 0]

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """Return the sum of squares of ``T - W X - b`` over the rows."""
        weight, bias = weight - self.weight, bias - self.bias
        fitted = ((weight @ self.xx - 2 * self.rx) * weight).sum() + self.rr
        shift = 2 * (bias * ((weight @ self.x[:, :, None])[..., 0] - self.r)).sum() + self.count * bias.square().sum()
        return float(fitted + shift)


def _add_gram(sums: Tensor, x: Tensor) -> None:
    """Add X^T X of (G, n, i) to sums (G, i, i), at little more than half the operations of the whole product."""
    for start in range(0, x.shape[-1], _COLUMNS):
        stop = start + _COLUMNS
        part = x[..., start:stop].mT @ x[..., :stop]
        sums[:, start:stop, :stop] += part
        sums[:, :start, start:stop] += part[..., :start].mT


def _solve_where(kept: Tensor, gram: Tensor, cross: Tensor, penalty: Tensor) -> Tensor:
    """Solve for the weights that are kept; others are zero. Rows that keep the same go together.

    Args:
        kept: (G, o, i).
        gram: (G, i, i).
        cross: (G, o, i).
        penalty: (G,).
    """
    weight = torch.zeros_like(cross)
    for group, own in enumerate(kept):
        patterns, number_of = own.unique(dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            columns, rows = pattern.nonzero().flatten(), (number_of == number).nonzero()
            weight[group, rows, columns] = solve_ridge(
                gram[group][columns[:, None], columns], cross[group, rows, columns], penalty[group])
    return weight
