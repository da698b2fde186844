"""The inverse of a damped empirical Fisher, without forming what is larger than it must be.

For the gradients ``G`` (m, B) of m samples by the B weights of a block, ``F = damp * I + G^T G / m``. Where a block has
more weights than there are samples everything follows from ``K = G G^T + damp * m * I`` of shape (m, m) (Woodbury), in
passes over chunks of columns; where it has fewer, from the Cholesky factor of F itself, many blocks at a time. Both are
exact, in float64. WoodFisher (Singh and Alistarh, 2020) gets the same inverse by m rank-one updates of a (B, B) matrix.
"""
from collections.abc import Iterator

import torch
from torch import Tensor

#: Elements of a float64 work matrix: 16 MiB, beyond which allocators keep less and the time hardly falls.
WORK = 2**21


def dual_diagonal(gradients: Tensor, damp: float) -> Tensor:
    """Diagonal of the inverse of one block: ``(1 - sum_k Z_k^2) / damp`` with ``Z = L^-1 G``, ``K = L L^T``.

    Args:
        gradients: (m, B), on any device; computed where they are.
        damp: Positive.

    Returns:
        Tensor: (B,), float64.

    Raises:
        torch.linalg.LinAlgError: K is singular or not finite.
    """
    factor = torch.linalg.cholesky(_gram(gradients, damp))
    rest = [1 - torch.linalg.solve_triangular(factor, columns, upper=False).square_().sum(0)
            for _, columns in _chunks(gradients)]
    # Rounding may take to zero or below what is a small positive number.
    return torch.cat(rest).clamp_(min=1e-12) / damp


def dual_solve(gradients: Tensor, damp: float, vector: Tensor) -> Tensor:
    """``F^-1 v = (v - G^T K^-1 G v) / damp`` for one block; arguments as :func:`dual_diagonal`, ``v`` (B,)."""
    factor = torch.linalg.cholesky(_gram(gradients, damp))
    inner = torch.cholesky_solve(_times(gradients, vector)[:, None], factor)
    return torch.cat([vector[part] - (columns.T @ inner)[:, 0] for part, columns in _chunks(gradients)]) / damp


def dual_joint(gradients: Tensor, damp: float, weights: Tensor, pruned: Tensor) -> Tensor:
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
    factor = torch.linalg.cholesky(_gram(gradients, damp, ~pruned))
    inner = torch.cholesky_solve(_times(gradients, weights * pruned)[:, None], factor)
    change = torch.cat([(columns.T @ inner)[:, 0] for _, columns in _chunks(gradients)])
    return torch.where(pruned, -weights, change)


def block_diagonal(gradients: Tensor, size: int, damp: float) -> Tensor:
    """Diagonal of the inverse of all blocks of ``size`` columns, dividing B; see :func:`dual_diagonal`."""
    inverses = [torch.cholesky_inverse(torch.linalg.cholesky(fisher)).diagonal(dim1=1, dim2=2)
                for _, fisher in _fishers(gradients, size, damp)]
    return torch.cat(inverses).flatten()


def block_solve(gradients: Tensor, size: int, damp: float, vector: Tensor) -> Tensor:
    """``F^-1 v`` for all blocks of ``size`` columns; see :func:`dual_solve`."""
    vectors = vector.reshape(-1, size, 1)
    return torch.cat([torch.cholesky_solve(vectors[part], torch.linalg.cholesky(fisher))
                      for part, fisher in _fishers(gradients, size, damp)]).flatten()


def block_joint(gradients: Tensor, size: int, damp: float, weights: Tensor, pruned: Tensor) -> Tensor:
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


def _chunks(gradients: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Columns in float64, a chunk at a time, and where they stand."""
    width = max(64, WORK // len(gradients))
    for start in range(0, gradients.shape[1], width):
        part = slice(start, min(start + width, gradients.shape[1]))
        yield part, gradients[:, part].double()


def _gram(gradients: Tensor, damp: float, kept: Tensor | None = None) -> Tensor:
    """``G G^T + damp * m * I`` over the kept columns."""
    samples = len(gradients)
    gram = damp * samples * torch.eye(samples, dtype=torch.float64, device=gradients.device)
    for part, columns in _chunks(gradients):
        columns = columns if kept is None else columns[:, kept[part]]
        gram.addmm_(columns, columns.T)
    return gram


def _times(gradients: Tensor, vector: Tensor) -> Tensor:
    """``G v``, (m,)."""
    return sum(columns @ vector[part] for part, columns in _chunks(gradients))


def _fishers(gradients: Tensor, size: int, damp: float) -> Iterator[tuple[slice, Tensor]]:
    """Fisher matrices (n, size, size) of some blocks at a time, and which blocks these are."""
    samples, count = len(gradients), gradients.shape[1] // size
    together = max(1, WORK // (size * (size + samples)))
    eye = damp * torch.eye(size, dtype=torch.float64, device=gradients.device)
    for start in range(0, count, together):
        part = slice(start, min(start + together, count))
        columns = gradients[:, part.start * size:part.stop * size].double()
        columns = columns.reshape(samples, -1, size).movedim(0, 2)  # (n, size, m)
        yield part, columns @ columns.mT / samples + eye
