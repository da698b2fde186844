"""Atoms: integer names of channels, the equalities and the nesting among them.

Beside every traced tensor goes a tensor of atom ids of the same shape. Id 0 says "no
atom": what stands there must keep its place, or does not depend on the channel. Elements
with the same id along an axis (positions of an image, say) keep their order among
themselves whatever is done to the atoms.

Two relations are kept. *Ties* say that two atoms are one; they are applied at once
(union-find over arrays). *Blocks* say that an atom belongs to a block which may only move
as a whole, with everything in it: the channels of a group, of a head. A block is itself an
atom, its children's *key*.
"""
import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

#: The atom of all that must not move. Ids of this class read as 0.
PINNED = 1


def narrow(ids: Tensor) -> Tensor:
    """Return the view of ``ids`` in which every axis along which it was expanded has size 1."""
    for dim, stride in enumerate(ids.stride()):
        if stride == 0 and ids.size(dim) > 1:
            ids = ids.narrow(dim, 0, 1)
    return ids


def varying(ids: Tensor) -> list[int]:
    """Return axes along which narrowed ids vary."""
    return [dim for dim, size in enumerate(ids.shape) if size > 1]


def hashed(number: int) -> int:
    """Hash a number into a signed integer of 64 bits (the finaliser of splitmix64)."""
    mask = 2 ** 64 - 1
    x = number * 0x9E3779B97F4A7C15 & mask
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
    x ^= x >> 31
    return x - 2 ** 64 if x >> 63 else x


class Atoms:
    """All atoms of one trace.

    Attributes:
        relations: (children, keys) pairs of int64 arrays, one pair for every operation
            that found blocks; keys as they were before any tie.
        history: (at least count,) a sum of hashes for each atom: which operations it went through, and how often.
    """

    def __init__(self) -> None:
        self.roots = torch.arange(2)
        self.count = 2
        self.relations: list[tuple[Tensor, Tensor]] = []
        self.history = torch.zeros(2, dtype=torch.long)

    def fresh(self, number: int) -> Tensor:
        """New atoms, shape (number,)."""
        if self.count + number > len(self.roots):
            capacity = max(2 * len(self.roots), self.count + number)
            self.history = torch.cat([self.history, torch.zeros(capacity - len(self.roots), dtype=torch.long)])
            self.roots = torch.cat([self.roots, torch.arange(len(self.roots), capacity)])
        self.count += number
        return torch.arange(self.count - number, self.count)

    def settle(self, ids: Tensor) -> Tensor:
        """Replace ids by the name of their class and narrow the axes along which they do not vary.

        Args:
            ids: Any shape.

        Returns:
            Tensor: Same number of axes; size 1 where the ids are all equal.
        """
        ids = self.roots[narrow(ids)]
        ids = torch.where(ids == PINNED, 0, ids)
        for dim, size in enumerate(ids.shape):
            if size > 1:
                first = ids.narrow(dim, 0, 1)
                if bool((ids == first).all()):
                    ids = first
        return ids

    def tie(self, first: Tensor, second: Tensor) -> None:
        """Make atoms equal, element by element; zeros tie nothing. Shapes broadcast."""
        first, second = torch.broadcast_tensors(narrow(first), narrow(second))
        both = (first != 0) & (second != 0)
        a, b = self.roots[first[both]], self.roots[second[both]]
        differ = a != b
        if not bool(differ.any()):
            return
        a, b = a[differ].numpy(), b[differ].numpy()
        nodes, places = np.unique(np.concatenate([a, b]), return_inverse=True)
        rows, columns = np.split(places, 2)
        links = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(len(nodes), len(nodes)))
        number, classes = connected_components(links, directed=False)
        smallest = np.full(number, np.iinfo(np.int64).max)
        np.minimum.at(smallest, classes, nodes)
        self.roots[torch.from_numpy(nodes)] = torch.from_numpy(smallest[classes])
        self.roots = self.roots[self.roots]

    def treat(self, ids: Tensor, code: int | Tensor) -> None:
        """Say that an operation was done to these atoms: only atoms of equal treatment can be exchanged.

        Args:
            ids: Narrowed, any shape.
            code: A hash of the operation, or one for every id, shape of the ids.
        """
        codes = torch.as_tensor(code).expand(ids.shape).flatten()
        self.history.index_add_(0, self.roots[ids.flatten()], codes)  # sums wrap around

    def pin(self, ids: Tensor) -> None:
        """Say that these atoms must not move."""
        self.tie(ids, torch.full((1,) * ids.dim(), PINNED))

    def tie_along(self, ids: Tensor, dims: list[int]) -> Tensor:
        """Make ids equal along ``dims``: they keep their order there, and move as wholes elsewhere.

        Where that leaves a single atom nothing can move, and it is pinned.

        Returns:
            Tensor: The settled ids.
        """
        ids = self.settle(ids)
        dims = [dim for dim in dims if ids.size(dim) > 1]
        if not dims:
            return ids
        top = ids.amax(dims, keepdim=True)
        self.tie(ids, top)
        if len(self.roots[top[top != 0]].unique()) == 1:
            self.pin(top)
        return self.settle(torch.where(top == 0, 0, top))

    def relate(self, children: Tensor, keys: Tensor) -> None:
        """Say that each child belongs to the block ``keys`` names. Shapes broadcast; zeros say nothing."""
        children, keys = torch.broadcast_tensors(children, keys)
        both = (children != 0) & (keys != 0)
        pairs = torch.stack([children[both], keys[both]], 1).unique(dim=0)
        if len(pairs):
            self.relations.append((pairs[:, 0], pairs[:, 1]))

    def blocks_over(self, ids: Tensor, dims: list[int]) -> Tensor:
        """Return the ids after a symmetric function over ``dims``: one block for every place on the other axes.

        Args:
            ids: Any shape.
            dims: Axes that are summed, averaged, normalised over, ...

        Returns:
            Tensor: Shape of the settled ids with size 1 in ``dims``: the atom itself where
            only one (beside zeros) was met, a new block where several were, 0 where
            one block would hold everything.
        """
        ids = self.settle(ids)
        dims = [dim for dim in dims if ids.size(dim) > 1]
        if not dims:
            return ids
        top = ids.amax(dims, keepdim=True)
        if bool(((ids == top) | (ids == 0)).all()):
            return top
        cells, places = top.unique(return_inverse=True)
        keys = torch.where(cells == 0, 0, self.fresh(len(cells)))[places].reshape(top.shape)
        self.relate(ids, keys)
        alone = len(cells) - int(cells[0] == 0) <= 1
        return torch.zeros_like(top) if alone else keys
