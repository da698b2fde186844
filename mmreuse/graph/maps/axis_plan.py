"""How an axis of a parameter is rebuilt whose positions hold members of feature spaces."""
from dataclasses import dataclass

import torch
from torch import Tensor

from mmreuse.graph.maps.linear_maps import Dense, Scale, Select, SpaceMap
from mmreuse.graph.maps.resolve_maps import ResolvedMap
from mmreuse.graph.spaces.derive import Axis


@dataclass(frozen=True, eq=False)
class AxisPlan:
    """Plan for rebuilding one axis: some positions stay, others hold mapped members."""
    length: int
    old: Tensor  # positions that stay, before
    new: Tensor  # and after
    # map, axis, positions (n, repeats) before and (n', repeats) after
    parts: list[tuple[ResolvedMap, Axis, Tensor, Tensor]]

    @classmethod
    def picking(cls, index: Tensor) -> 'AxisPlan':
        """Return the plan by which some positions stay, (n',), and nothing is known of members."""
        return cls(len(index), index, torch.arange(len(index)), [])

    def apply(self, x: Tensor, dim: int) -> Tensor:
        if all(isinstance(item.map, Select | Scale) for item, *_ in self.parts):
            moved = x.index_select(dim, self.sources().to(x.device))
            factors = self.factors()
            return moved if factors is None else moved * factors.to(x).reshape([-1, *[1] * (x.dim() - 1 - dim)])
        x = x.movedim(dim, 0)
        out = x.new_zeros((self.length, *x.shape[1:]))
        out[self.new.to(x.device)] = x[self.old.to(x.device)]
        for item, axis, before, after in self.parts:
            rows = x[before.flatten().to(x.device)].reshape(*before.shape, *x.shape[1:])
            mapped = _map_rows(item.map, axis, rows)
            out[after.flatten().to(x.device)] = mapped.reshape(-1, *x.shape[1:])
        return out.movedim(0, dim)

    def factors(self) -> Tensor | None:
        """Return what every new position is multiplied by, where maps scale."""
        scales = [part for part in self.parts if isinstance(part[0].map, Scale)]
        factors = torch.ones(self.length, dtype=torch.float64) if scales else None
        for item, axis, _, after in scales:
            signs = axis.signs or (-1 if axis.role == 'read' else 1,)
            factors[after] = item.map.factor[:, None] ** torch.tensor(signs)
        return factors

    def sources(self) -> Tensor:
        """Old position of every new one, where no numbers are combined."""
        sources = torch.empty(self.length, dtype=torch.long)
        sources[self.new] = self.old
        for item, _, before, after in self.parts:
            sources[after] = before[item.map.index]
        return sources


def _map_rows(link: SpaceMap, axis: Axis, rows: Tensor) -> Tensor:
    """Map what an axis holds for each member, shape (n, repeats, ...) -> (n', repeats, ...)."""
    by_role = -1 if axis.role == 'read' else 1
    signs = axis.signs if isinstance(link, Dense | Scale) else ()

    def one(part: Tensor, sign: int) -> Tensor:
        if isinstance(link, Scale) and not sign:
            return link.order.merge(part)
        return link.merge(part) if (sign or by_role) > 0 else link.unmerge(part)

    if len(set(signs)) < 2:
        return one(rows, signs[0] if signs else by_role)
    return torch.stack([one(rows[:, number], sign) for number, sign in enumerate(signs)], 1)


def plan_axis(axes: list[tuple[Axis, ResolvedMap]]) -> AxisPlan:
    """Plan how an axis whose positions hold members of some spaces is rebuilt."""
    length = len(axes[0][0].index)
    # every position of the result: its place in the old order, part (-1: it stays), member (or position), repeat
    table = torch.stack([torch.arange(length), torch.full((length,), -1), torch.arange(length),
                         torch.zeros(length, dtype=torch.long)], 1)
    grown = []
    for part, (axis, item) in enumerate(axes):
        positions = _positions(axis.index, item.space.size)
        repeats = positions.shape[1]
        rank = torch.full((item.space.size,), -1)
        rank[item.kept] = torch.arange(len(item.kept))
        table[positions.flatten(), 1] = part
        table[positions.flatten(), 2] = rank.repeat_interleave(repeats)
        table[positions.flatten(), 3] = torch.arange(repeats).repeat(item.space.size)
        if item.size > item.space.size:
            grown.append(_growth(part, item, positions[-1].tolist()))
    table = torch.cat([table[table[:, 2] >= 0], *grown])
    return _collect(table[table[:, 0].argsort(stable=True), 1:], axes)


def _growth(part: int, item: ResolvedMap, last: list[int]) -> Tensor:
    """New members stand after the last old one, behind each unbroken run of its repetitions."""
    rows, start = [], 0
    members = torch.arange(item.space.size, item.size)
    for number, position in enumerate(last):
        if number + 1 == len(last) or last[number + 1] != position + 1:
            places = torch.cartesian_prod(members, torch.arange(start, number + 1))
            rows.append(torch.cat([torch.tensor([[position, part]]).expand(len(places), 2), places], 1))
            start = number + 1
    return torch.cat(rows)


def _positions(index: Tensor, size: int) -> Tensor:
    """Positions of every member, shape (size, repeats), ascending."""
    order = index.argsort(stable=True)
    return order[(index < 0).sum():].reshape(size, -1)


def _collect(table: Tensor, axes: list[tuple[Axis, ResolvedMap]]) -> AxisPlan:
    """Read a plan off the rows (part, member or old position, repeat) of all new positions."""
    places = torch.arange(len(table))
    stay = table[:, 0] < 0
    parts = []
    for part, (axis, item) in enumerate(axes):
        before = _positions(axis.index, item.space.size)
        mine = table[:, 0] == part
        after = torch.empty(item.size, before.shape[1], dtype=torch.long)
        after[table[mine, 1], table[mine, 2]] = places[mine]
        parts.append((item, axis, before, after))
    return AxisPlan(len(table), table[stay, 1], places[stay], parts)
