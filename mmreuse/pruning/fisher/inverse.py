"""The inverse of a damped empirical Fisher, without forming what is larger than it must be.

For the gradients ``G`` (m, B) of m samples by the B weights of a block, ``F = damp * I + G^T G / m``. Where a block has
more weights than there are samples everything follows from ``K = G G^T + damp * m * I`` of shape (m, m) (Woodbury), in
passes over chunks of columns; where it has fewer, from the Cholesky factor of F itself, many blocks at a time. Both are
exact, in float64. WoodFisher (Singh and Alistarh, 2020) gets the same inverse by m rank-one updates of a (B, B) matrix.
"""
from collections.abc import Iterator

import torch
from torch import Tensor

from mmreuse.pruning.fisher.storage import WORK, Columns


def dual_factor(gradients: Columns, damp: float, kept: Tensor | None = None) -> Tensor:
    """Cholesky factor of ``G G^T + damp * m * I`` over the kept columns, None for all.

    Args:
        gradients: (m, B), on any device; computed where they are.
        damp: Positive.
        kept: (B,), True where a column counts.

    Returns:
        Tensor: (m, m), float64, lower triangular.

    Raises:
        torch.linalg.LinAlgError: The matrix is singular or not finite.
    """
    samples = gradients.shape[0]
    gram = damp * samples * torch.eye(samples, dtype=torch.float64, device=gradients.device)
    strips = torch.arange(samples, device=gradients.device).chunk(4)
    for part, columns in gradients.chunks():
        columns = columns if kept is None else columns[:, kept[part]]
        for strip in strips:  # the lower triangle, and little above it, is all that is read
            first, stop = strip[0], strip[-1] + 1
            gram[first:stop, :stop].addmm_(columns[first:stop], columns[:stop].T)
    return torch.linalg.cholesky(gram)


def dual_diagonal(gradients: Columns, damp: float, factor: Tensor) -> Tensor:
    """Return the diagonal of the inverse of one block: ``(1 - sum_k Z_k^2) / damp`` with ``Z = L^-1 G``.

    Args:
        gradients: (m, B).
        damp: Positive.
        factor: L, see :func:`dual_factor`.

    Returns:
        Tensor: (B,), float64.
    """
    rest = [1 - torch.linalg.solve_triangular(factor, columns, upper=False).square_().sum(0)
            for _, columns in gradients.chunks()]
    # Rounding may take to zero or below what is a small positive number.
    return torch.cat(rest).clamp_(min=1e-12) / damp


def dual_solve(gradients: Columns, damp: float, factor: Tensor, vector: Tensor) -> Tensor:
    """``F^-1 v = (v - G^T K^-1 G v) / damp`` for one block; arguments as :func:`dual_diagonal`, ``v`` (B,)."""
    inner = torch.cholesky_solve(_times(gradients, vector)[:, None], factor)
    return torch.cat([vector[part] - (columns.T @ inner)[:, 0] for part, columns in gradients.chunks()]) / damp


def dual_joint(gradients: Columns, damp: float, weights: Tensor, pruned: Tensor) -> Tensor:
    """Change of one block's weights that minimises ``d^T F d`` when the pruned ones go to zero, exactly.

    ``d_R = -F^-1_RQ (F^-1_QQ)^-1 w_Q = F_RR^-1 F_RQ w_Q`` for the pruned Q and the rest R, which by Woodbury is
    ``G_R^T (G_R G_R^T + damp * m * I)^-1 G_Q w_Q``: one system of m equations.

    Args:
        gradients: (m, B).
        damp: Positive.
        weights: (B,), float64.
        pruned: (B,), True where a weight goes to zero.

    Returns:
        Tensor: (B,), float64; ``-weights`` where pruned.
    """
    inner = torch.cholesky_solve(_times(gradients, weights * pruned)[:, None], dual_factor(gradients, damp, ~pruned))
    change = torch.cat([(columns.T @ inner)[:, 0] for _, columns in gradients.chunks()])
    return torch.where(pruned, -weights, change)


def block_diagonal(gradients: Columns, size: int, damp: float) -> Tensor:
    """Return the diagonal of the inverse of all blocks of ``size`` columns, dividing B; see :func:`dual_diagonal`."""
    inverses = [torch.cholesky_inverse(torch.linalg.cholesky(fisher)).diagonal(dim1=1, dim2=2)
                for _, fisher in _fishers(gradients, size, damp)]
    return torch.cat(inverses).flatten()


def block_solve(gradients: Columns, size: int, damp: float, vector: Tensor) -> Tensor:
    """``F^-1 v`` for all blocks of ``size`` columns; see :func:`dual_solve`."""
    vectors = vector.reshape(-1, size, 1)
    return torch.cat([torch.cholesky_solve(vectors[part], torch.linalg.cholesky(fisher))
                      for part, fisher in _fishers(gradients, size, damp)]).flatten()


def block_joint(gradients: Columns, size: int, damp: float, weights: Tensor, pruned: Tensor) -> Tensor:
    """``d_R = F_RR^-1 F_RQ w_Q`` for all blocks of ``size`` columns; see :func:`dual_joint`."""
    weights, pruned = weights.reshape(-1, size), pruned.reshape(-1, size)
    changes = []
    for part, fisher in _fishers(gradients, size, damp):
        rest, gone = ~pruned[part], weights[part] * pruned[part]
        target = (fisher @ gone[..., None])[..., 0] * rest
        # Rows and columns of pruned weights become those of the identity, so that one batch fits all blocks.
        system = fisher * rest[:, :, None] * rest[:, None] + torch.diag_embed(pruned[part].to(fisher))
        changes.append(torch.cholesky_solve(target[..., None], torch.linalg.cholesky(system))[..., 0] - gone)
    return torch.cat(changes).flatten()


def _times(gradients: Columns, vector: Tensor) -> Tensor:
    """``G v``, (m,)."""
    return sum(columns @ vector[part] for part, columns in gradients.chunks())


def _fishers(gradients: Columns, size: int, damp: float) -> Iterator[tuple[slice, Tensor]]:
    """Fisher matrices (n, size, size) of some blocks at a time, and which blocks these are."""
    samples = gradients.shape[0]
    together = max(1, WORK // (size * (size + samples)))
    eye = damp * torch.eye(size, dtype=torch.float64, device=gradients.device)
    for part, columns in gradients.chunks(together * size):
        columns = columns.reshape(samples, -1, size).movedim(0, 2)  # (n, size, m)
        yield slice(part.start // size, part.stop // size), columns @ columns.mT / samples + eye
