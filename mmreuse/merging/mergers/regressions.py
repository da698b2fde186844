"""Means of matrices, each weighted by second moments of the inputs that it was trained for, or by a guess at them."""
import torch
from torch import Tensor

from mmreuse.errors import ConfigError
from mmreuse.registry import MERGERS

#: Directions in which the summed second moments are below this share of the largest are rounding noise.
_TOLERANCE = 1e-7


@MERGERS.register_module(name='regmean', needs=('matrices', 'grams'))
def regmean(matrices: Tensor, grams: Tensor, *, off_diagonal: float = 0.9) -> Tensor:
    """Solve for the layer that is closest to each network's own on its inputs (Jin et al., *RegMean*, 2023).

    ``W = sum_t W_t G_t (sum_t G_t)^-1``, the minimum of ``sum_t ||W X_t - W_t X_t||^2`` where nothing is shrunk.

    Args:
        matrices: (n, ..., out, in).
        grams: (n, ..., in, in), ``X_t X_t^T`` over the number of columns.
        off_diagonal: What off-diagonal numbers of the Grams are multiplied by.

    Returns:
        Tensor: (..., out, in).

    Raises:
        ConfigError: The factor is not in [0, 1].
    """
    if not 0 <= off_diagonal <= 1:
        raise ConfigError(f"merger 'regmean': off_diagonal={off_diagonal} must be in [0, 1].")
    diagonal = torch.diag_embed(grams.diagonal(dim1=-2, dim2=-1))
    return weighted_mean(matrices, off_diagonal * grams + (1 - off_diagonal) * diagonal)


@MERGERS.register_module(name='wudi', needs=('task_matrices',))
def wudi(task_matrices: Tensor) -> Tensor:
    """Disturb each task vector least in the inputs that it stands for (Cheng et al., *WUDI-Merging*, 2025).

    The rows of ``D_t`` span what its inputs spanned, so the minimum of ``sum_t ||(D - D_t) D_t^T||^2 / ||D_t||^2`` is
    looked for. The paper descends to it; here it is solved for: ``D sum_t G_t = sum_t D_t G_t`` with
    ``G_t = D_t^T D_t / ||D_t||^2``, zero where no row of a task vector points.

    Args:
        task_matrices: (n, ..., out, in).

    Returns:
        Tensor: (..., out, in).
    """
    squares = task_matrices.square().sum((-2, -1), keepdim=True)
    return weighted_mean(task_matrices, task_matrices.mT @ task_matrices / torch.where(squares > 0, squares, 1))


@MERGERS.register_module(name='ace', needs=('task_matrices',))
def ace(task_matrices: Tensor) -> Tensor:
    """Run RegMean with ``D_t^T D_t`` in place of inputs' second moments (Xu et al., *ACE-Merging*, 2026).

    A step of gradient descent is a sum of outer products with inputs, whose covariance the task vector so tells. Of
    the paper this is the estimate and the closed form, not its normalisation, common prior and spectral refinement.

    Args:
        task_matrices: (n, ..., out, in).

    Returns:
        Tensor: (..., out, in).
    """
    return weighted_mean(task_matrices, task_matrices.mT @ task_matrices)


def weighted_mean(matrices: Tensor, metrics: Tensor) -> Tensor:
    """Return ``sum_t M_t G_t (sum_t G_t)^-1``, and the plain mean in directions that no ``G_t`` has.

    Args:
        matrices: M_t, (n, ..., out, in).
        metrics: G_t, (n, ..., in, in), symmetric and positive semidefinite.
    """
    mean = matrices.mean(0)
    inverse = torch.linalg.pinv(metrics.sum(0), rtol=_TOLERANCE, hermitian=True)
    return mean + ((matrices - mean) @ metrics).sum(0) @ inverse
