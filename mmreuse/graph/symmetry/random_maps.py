"""Random maps out of the groups of feature spaces."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from mmreuse.graph.maps.linear_maps import Dense, Permute, Scale, SpaceMap

if TYPE_CHECKING:
    from mmreuse.graph.spaces.derive import FeatureSpace


def random_maps(spaces: Mapping[str, FeatureSpace], seed: int, names: Collection[str] | None = None) -> dict[
        str, SpaceMap]:
    """Draw a random map for each space from its group, blocks moved as wholes.

    Orthogonal maps are drawn uniformly (QR of normal numbers), positive scales and the singular values of invertible
    maps between one half and two.

    Args:
        spaces: Of one network.
        seed: Of the numbers.
        names: Spaces that are mapped, the others keep their features; None for all.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = random_permutations(spaces, seed, names)
    return {name: _random_map(space, orders[name], generator) if names is None or name in names else orders[name]
            for name, space in spaces.items()}


def _random_map(space: FeatureSpace, order: Permute, generator: Generator) -> SpaceMap:
    if space.group == 'permutation':
        return order
    if space.group == 'scaled':
        return Scale(order.index, _factors(space.size, generator))
    merge, unmerge = torch.zeros(2, space.size, space.size, dtype=torch.float64)
    blocks = torch.zeros(space.size, dtype=torch.long) if space.blocks is None else space.blocks
    for block in range(space.num_blocks):
        new = (blocks == block).nonzero().flatten()
        turn = _orthogonal(len(new), space.centred, generator)
        inverse = turn.T
        if space.group == 'invertible':
            factors, other = _factors(len(new), generator), _orthogonal(len(new), False, generator)
            turn, inverse = turn * factors @ other, other.T / factors @ turn.T
        old = order.index[new]
        merge[new[:, None], old], unmerge[old[:, None], new] = turn, inverse
    return Dense(merge, unmerge)


def _factors(size: int, generator: Generator) -> Tensor:
    return 4 ** (torch.rand(size, generator=generator, dtype=torch.float64) - 0.5)


def _orthogonal(size: int, centred: bool, generator: Generator) -> Tensor:
    """Return a random orthogonal matrix; ``centred``: that keeps the vector of all ones."""
    basis = without_mean(size) if centred else torch.eye(size, dtype=torch.float64)
    number = len(basis)
    turn, upper = torch.linalg.qr(torch.randn(number, number, generator=generator, dtype=torch.float64))
    turn = turn * upper.diagonal().sign()
    return basis.T @ turn @ basis + (1 / size if centred else 0.)


def without_mean(size: int) -> Tensor:
    """Return orthonormal rows that are orthogonal to the vector of all ones (Helmert, 1876), shape (size - 1, size)."""
    rows = torch.ones(size, size, dtype=torch.float64).tril()[:-1]
    places = torch.arange(1, size, dtype=torch.float64)
    rows[torch.arange(size - 1), torch.arange(1, size)] = -places
    return rows / (places * (places + 1)).sqrt()[:, None]


def random_permutations(spaces: Mapping[str, FeatureSpace], seed: int, names: Collection[str] | None = None) -> dict[
        str, Permute]:
    """Return random permutations that move blocks as wholes; identities for spaces that are not named."""
    generator = torch.Generator().manual_seed(seed)
    chosen: dict[str, Permute] = {}

    def draw(name: str) -> Permute:
        if name in chosen:
            return chosen[name]
        space = spaces[name]
        index = torch.arange(space.size)
        moves = names is None or name in names
        if space.blocks is None:
            index = torch.randperm(space.size, generator=generator) if moves else index
        else:
            order = draw(space.block_space).index if space.block_space else torch.arange(space.num_blocks)
            for block in range(space.num_blocks):
                old = (space.blocks == order[block]).nonzero().flatten()
                shuffled = old[torch.randperm(len(old), generator=generator)] if moves else old
                index[space.blocks == block] = shuffled
        chosen[name] = Permute(index)
        return chosen[name]

    for name in spaces:
        draw(name)
    return chosen
