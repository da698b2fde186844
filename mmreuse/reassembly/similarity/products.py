"""A matrix of inner products that is never formed."""
from typing import Any

import numpy as np

_AT_ONCE = 1 << 16  # pairs whose vectors are gathered at once


class Products:
    """``vectors @ vectors.T``, of which parts are made when they are asked for.

    Indexed like the matrix: ``products[rows]`` are whole rows, ``products[rows, columns]`` single entries.

    Args:
        vectors: (S, m) float32.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, key: Any) -> np.ndarray:
        if not isinstance(key, tuple):
            return self.vectors[key] @ self.vectors.T
        left, right = np.broadcast_arrays(*key)
        found = np.empty(left.size, np.float32)
        for start in range(0, left.size, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            found[part] = np.einsum('nm,nm->n', self.vectors[left.flat[part]], self.vectors[right.flat[part]])
        return found.reshape(left.shape)


def grids(values: np.ndarray | Products, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return, for every r, the entries of a matrix in rows ``left[r]`` and columns ``right[r]``.

    Args:
        values: (S, S).
        left: (R, m) rows.
        right: (R, n) columns.

    Returns:
        np.ndarray: (R, m, n) float32.
    """
    if isinstance(values, Products):
        return values.vectors[left] @ values.vectors[right].transpose(0, 2, 1)
    # Flat indices: several times faster than indexing with two arrays.
    return values.take(left[:, :, None] * len(values) + right[:, None, :])


def sums_over(vectors: np.ndarray, rows: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Return sums over members of the products of vectors.

    Args:
        vectors: (S, m).
        rows: (n,) those that are summed up.
        member: (K, n) True where one belongs to a group.

    Returns:
        np.ndarray: (K, n), between each and all of each group.
    """
    picked = vectors[rows]
    return (member.astype(picked.dtype) @ picked) @ picked.T
