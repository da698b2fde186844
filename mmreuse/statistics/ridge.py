"""Linear regressions with a penalty, from second moments."""
import torch
from torch import Tensor

#: A penalty below this part of the trace leaves directions that float32 features say nothing of.
_FIRM = 1e-9
#: Such directions vary by less than this part of the largest variance.
_CONSTANT = 1e-6


def solve_ridge(gram: Tensor, cross: Tensor, penalty: Tensor) -> Tensor:
    """Solve ``min_W ||T - W X||^2 + penalty ||W||^2``: ``W = T X^T (X X^T + penalty I)^-1``.

    Where the penalty is too small to settle directions in which X does not vary, these count as constant and the
    solution is that of least norm.

    Args:
        gram: ``X X^T``, (..., i, i), in float64.
        cross: ``T X^T``, (..., o, i).
        penalty: Of shape (...).

    Returns:
        Tensor: W, (..., o, i).
    """
    system = gram.clone()
    diagonal = system.diagonal(dim1=-2, dim2=-1)
    firm = _FIRM * diagonal.sum(-1)
    diagonal += penalty[..., None]
    if bool((penalty > firm).all()):
        factor, failed = torch.linalg.cholesky_ex(system)
        if not bool(failed.any()):
            return torch.cholesky_solve(cross.mT, factor).mT
    return cross @ torch.linalg.pinv(system, rtol=_CONSTANT, hermitian=True)
