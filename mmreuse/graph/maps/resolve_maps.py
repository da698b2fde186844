"""Maps of spaces that consist of blocks, and the blocks of which are another space."""
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from mmreuse.errors import SpaceError
from mmreuse.graph.maps.linear_maps import Assign, Dense, Permute, Scale, Select, SpaceMap
from mmreuse.graph.spaces.derive import FeatureSpace


@dataclass(frozen=True, eq=False)
class ResolvedMap:
    """A map, and the old members whose places the new ones take."""
    space: FeatureSpace
    map: SpaceMap
    kept: Tensor  # (min(n, n'),) ascending: new member j stands where old member kept[j] stood
    blocks: Tensor  # (n',) block of each new member, numbered in the new order; zeros without blocks

    @property
    def size(self) -> int:
        return self.map.size

    @property
    def resizes(self) -> bool:
        """Return whether the number of features changes."""
        return self.size != self.space.size


def resolve_maps(spaces: dict[str, FeatureSpace], maps: dict[str, SpaceMap]) -> dict[str, ResolvedMap]:
    """Check maps, extend maps of blocks to what is in the blocks, and say where new members stand.

    Raises:
        SpaceError: A name is unknown, a map does not fit, or takes a block apart.
    """
    for name in maps:
        if name not in spaces:
            near = get_close_matches(name, spaces, 3) or list(spaces)[:3]
            raise SpaceError(f"There is no feature space '{name}'. Nearest: {', '.join(near)}. "
                             'Any name in `graph.spaces` will do.')
    placed: dict[str, ResolvedMap] = {}

    def place(name: str) -> ResolvedMap | None:
        if name in placed:
            return placed[name]
        space = spaces[name]
        outer = place(space.block_space) if space.block_space is not None else None
        if name in maps:
            try:
                maps[name].check(space.size)
                placed[name] = _place(space, maps[name], outer)
                _check_blocks(placed[name], outer)
            except SpaceError as error:
                raise SpaceError(f"map of feature space '{name}' ({space.size} features): {error}") from None
        elif outer is not None:
            placed[name] = _place(space, _extend(space, outer), outer)
        return placed.get(name)

    for name in spaces:
        place(name)
    return placed


def _place(space: FeatureSpace, item: SpaceMap, outer: ResolvedMap | None) -> ResolvedMap:
    n, size = space.size, item.size
    if isinstance(item, Select):
        kept = item.index.sort().values
    elif space.blocks is None or size >= n:
        kept = torch.arange(min(n, size))
    else:
        number = outer.size if outer is not None else space.num_blocks
        if size % number:
            raise SpaceError(f'{size} new features cannot stand in {number} equal blocks')
        keep_blocks = outer.kept if outer is not None else torch.arange(number)
        rows = [(space.blocks == block).nonzero().flatten()[:size // number] for block in keep_blocks]
        kept = torch.cat(rows).sort().values
    if space.blocks is None:
        blocks = torch.zeros(size, dtype=torch.long)
    elif size > n:
        raise SpaceError('a space of blocks cannot grow')
    else:
        blocks = space.blocks[kept].unique(return_inverse=True)[1]
    return ResolvedMap(space, item, kept, blocks)


def _extend(space: FeatureSpace, outer: ResolvedMap) -> SpaceMap:
    """Return the map of a space that moves its blocks as ``outer`` does and nothing inside them."""
    rows = torch.stack([(space.blocks == block).nonzero().flatten() for block in range(outer.space.size)])
    if isinstance(outer.map, Select):
        places = rows[outer.kept].flatten().argsort()
        index = rows[outer.map.index].flatten()[places]
        return Permute(index) if len(index) == space.size else Select(index)
    inner = rows.shape[1]
    targets = rows[outer.kept].sort(0).values.flatten().argsort().argsort().reshape(-1, inner)
    if isinstance(outer.map, Assign):
        index = torch.full((space.size,), -1)
        weight = torch.zeros(space.size, dtype=torch.float64)
        for block, new in enumerate(outer.map.index.tolist()):
            weight[rows[block]] = outer.map.weight[block]
            if new >= 0:
                index[rows[block]] = targets[new]
        return Assign(index, targets.numel(), weight)
    merge = torch.zeros(targets.numel(), space.size, dtype=outer.map.merge_matrix.dtype)
    unmerge = torch.zeros(space.size, targets.numel(), dtype=merge.dtype)
    for new in range(outer.size):
        for old in range(outer.space.size):
            merge[targets[new], rows[old]] = outer.map.merge_matrix[new, old]
            unmerge[rows[old], targets[new]] = outer.map.unmerge_matrix[old, new]
    return Dense(merge, unmerge)


def _check_blocks(item: ResolvedMap, outer: ResolvedMap | None) -> None:
    space = item.space
    if space.blocks is None:
        return
    counts = torch.bincount(item.blocks)
    if len(counts.unique()) > 1 and counts.tolist() != torch.bincount(space.blocks).tolist():
        raise SpaceError(f'blocks must keep equal sizes, got {counts.tolist()}')
    number = outer.size if outer is not None else space.num_blocks
    if len(counts) != number:
        raise SpaceError(f'{len(counts)} blocks are left where {number} must be; to change the number of blocks '
                         + (f"map '{space.block_space}' as well" if space.block_space else 'is not possible here'))
    allowed = torch.zeros(number, space.num_blocks, dtype=torch.bool)
    allowed[_links(outer.map) if outer is not None else (torch.arange(number),) * 2] = True
    new, old = _links(item.map)
    fits = allowed[item.blocks[new], space.blocks[old]]
    if not bool(fits.all()):
        where = f"as '{space.block_space}' does" if space.block_space else 'not at all'
        raise SpaceError(f'features may only move inside their block, and blocks {where}')


def _links(item: SpaceMap) -> tuple[Tensor, Tensor]:
    """New features, and the old ones that they are made of, pair by pair."""
    if isinstance(item, Select | Scale):
        return torch.arange(item.size), item.index
    if isinstance(item, Assign):
        old = ((item.index >= 0) & (item.weight != 0)).nonzero().flatten()
        return item.index[old], old
    return (item.merge_matrix != 0).nonzero(as_tuple=True)
