"""Balance: of all networks that scales and invertible maps of a space lead to, the one with equal norms on both sides.

What writes a space has the Gram matrix ``G`` and what reads it ``H`` (of queries and keys: the one and the other).
With ``X = G^(-1/2) (G^(1/2) H G^(1/2))^(1/2) G^(-1/2)``, their geometric mean, ``M = X^(1/2)`` gives
``M G M = M^-1 H M^-1``. Balanced networks differ by an orthogonal map at most. Under ReLU the matrices are diagonal,
and ``M`` is the root of the ratio of out- and in-norm of each unit.
"""
from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmreuse.graph.maps.linear_maps import Dense, Scale
from mmreuse.graph.spaces.derive import Axis, FeatureSpace

#: Directions of less than this share of the largest variance are none.
NEGLIGIBLE = 1e-9


def balancing_maps(spaces: Mapping[str, FeatureSpace], state: Mapping[str, Tensor]) -> dict[str, Dense | Scale]:
    """Return maps that balance every space that can be, see the module's text.

    A space whose writers a batch norm scales is left alone, and so are blocks that are not of full rank.

    Args:
        spaces: Of a network.
        state: Its parameters and buffers, by state-dict key.
    """
    maps: dict[str, Dense | Scale] = {}
    state = _free_of_width(spaces, state)
    for name, space in spaces.items():
        scaled_by_norm = any(axis.role == 'write' and not all(axis.signs) for axis in space.axes)
        if space.group not in ('scaled', 'invertible') or scaled_by_norm:
            continue
        item = _scales(space, state) if space.group == 'scaled' else _blocks(space, state)
        if item is not None:
            maps[name] = item
    return maps


def _free_of_width(spaces: Mapping[str, FeatureSpace], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as they are for streams of length 1, not of ``sqrt(n)``, so that they are those of a wider one."""
    free = dict(state)
    for space in spaces.values():
        for axis in space.axes if space.group == 'orthogonal' else ():
            free[axis.tensor] = free[axis.tensor].double() * space.size ** (0.5 if axis.role == 'read' else -0.5)
    return free


def _sides(space: FeatureSpace, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return what stands on each side of a space, shape (n, numbers)."""
    sides: dict[int, list[Tensor]] = {1: [], -1: []}
    for axis in space.axes:
        rows = rows_of(state[axis.tensor].double(), axis, space.size)
        for number, sign in enumerate(axis.signs):
            if sign:
                sides[sign].append(rows[:, number].reshape(space.size, -1))
    return tuple(torch.cat(rows, 1) if rows else torch.zeros(space.size, 1) for rows in sides.values())


def rows_of(tensor: Tensor, axis: Axis, size: int) -> Tensor:
    """Return what a tensor holds for each member of a space along one of its axes, shape (n, repeats, ...).

    Columns of a grouped kernel are seen by the rows of their own group only.
    """
    if axis.shape is not None:
        tensor = tensor.reshape(axis.shape)
    if axis.groups > 1:
        rows = tensor.unflatten(0, (axis.groups, -1)).movedim(2, 1).flatten(0, 1)
    else:
        rows = tensor.movedim(axis.dim, 0)
    order = axis.index.argsort(stable=True)[(axis.index < 0).sum():]
    return rows[order.to(rows.device)].unflatten(0, (size, -1))


def _scales(space: FeatureSpace, state: Mapping[str, Tensor]) -> Scale | None:
    inside, outside = (rows.norm(dim=1) for rows in _sides(space, state))
    alive = (inside > NEGLIGIBLE * inside.max()) & (outside > NEGLIGIBLE * outside.max())
    factor = torch.where(alive, outside / inside.where(alive, torch.ones(())), 1.).sqrt()
    return Scale(torch.arange(space.size), factor)


def _blocks(space: FeatureSpace, state: Mapping[str, Tensor]) -> Dense | None:
    inside, outside = _sides(space, state)
    merge = torch.eye(space.size, dtype=torch.float64)
    unmerge = merge.clone()
    blocks = torch.zeros(space.size, dtype=torch.long) if space.blocks is None else space.blocks
    for block in range(space.num_blocks):
        rows = (blocks == block).nonzero().flatten()
        found = _geometric(inside[rows] @ inside[rows].T, outside[rows] @ outside[rows].T)
        if found is not None:
            merge[rows[:, None], rows], unmerge[rows[:, None], rows] = found
    return Dense(merge, unmerge)


def _geometric(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor] | None:
    """``M`` with ``M first M = M^-1 second M^-1`` and its inverse; None where one of both is singular."""
    root, inverse = _roots(first)
    if root is None or _roots(second)[0] is None:
        return None
    middle, _ = _roots(root @ second @ root)
    found = _roots(inverse @ middle @ inverse) if middle is not None else (None, None)
    return None if found[0] is None else found


def _roots(matrix: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Return the symmetric square root of a positive matrix, and its inverse."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    if not values[0] > NEGLIGIBLE * values[-1]:
        return None, None
    return vectors * values.sqrt() @ vectors.T, vectors / values.sqrt() @ vectors.T
