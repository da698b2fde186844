"""Mergers that look at the singular values and vectors of task matrices."""
import torch
from torch import Tensor

from mmreuse.registry import MERGERS


@MERGERS.register_module(name='iso_c', needs=('task_matrices',))
def iso_c(task_matrices: Tensor) -> Tensor:
    """Give all directions of the sum one strength (Marczak et al., *No task left behind*, 2025).

    With ``sum_t D_t = U S V^T`` it is ``mean(S) U V^T``.

    Args:
        task_matrices: (n, ..., out, in).

    Returns:
        Tensor: (..., out, in).
    """
    left, strengths, right = torch.linalg.svd(task_matrices.sum(0), full_matrices=False)
    return strengths.mean(-1)[..., None, None] * (left @ right)


@MERGERS.register_module(name='tsv', needs=('task_matrices',))
def tsv(task_matrices: Tensor) -> Tensor:
    """Give each task its share of the rank, in directions that do not interfere (Gargiulo et al., *TSV-Merge*, 2025).

    Of ``D_t = U_t S_t V_t^T`` the first ``rank / n`` triplets are kept. All left singular vectors stand side by side in
    one matrix, all right ones in another; each is replaced by the closest matrix with orthonormal columns (Procrustes),
    and the result is their product with the singular values between.

    Args:
        task_matrices: (n, ..., out, in).

    Returns:
        Tensor: (..., out, in).
    """
    kept = max(1, min(task_matrices.shape[-2:]) // len(task_matrices))
    left, strengths, right = torch.linalg.svd(task_matrices, full_matrices=False)
    left = torch.cat(list(left[..., :kept]), -1)
    strengths = torch.cat(list(strengths[..., :kept]), -1)
    right = torch.cat(list(right[..., :kept, :]), -2)
    return _orthonormal(left) * strengths[..., None, :] @ _orthonormal(right)


def _orthonormal(matrix: Tensor) -> Tensor:
    """Return the closest matrix whose columns, or rows if there are fewer, are orthonormal."""
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right
