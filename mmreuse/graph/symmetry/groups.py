"""From the frames of a run to the group of maps that each feature space allows."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mmreuse.graph.spaces.operations import Label
from mmreuse.graph.symmetry.frames import ANY, ROTATE, SCALE, Link

Group = Literal['permutation', 'scaled', 'orthogonal', 'invertible']
NAMES: dict[int, Group] = {0: 'permutation', ROTATE: 'orthogonal', SCALE: 'scaled', ANY: 'invertible'}

DESCRIPTIONS: dict[Group, str] = {
    'permutation': 'permuted', 'scaled': 'permuted and scaled by positive numbers', 'orthogonal': 'turned orthogonally',
    'invertible': 'mapped by any invertible matrix'}

#: A frame of a space: class of the features, frame, and which of the copies of the features that met later.
Node = tuple[int, int, int]


@dataclass
class _Gauge:
    """Frames in which one map acts on the features of a space."""
    allowed: int = ANY
    centred: bool = False


@dataclass(eq=False)
class Gauges:
    """Frames of all spaces, joined where one map acts in them.

    Args:
        roots: Of every atom, the atom that it was tied to.
        class_of: Number of the class of each atom, -1 where it is in none.
        member_of: Number of each atom in its class.
        links: Of the run.
        labels: Of parameters.
    """
    roots: Tensor
    class_of: Tensor
    member_of: Tensor
    links: list[Link]
    labels: list[Label]
    parent: dict[Node, tuple[Node, int]] = field(default_factory=dict)  # and the sign that leads there
    gauges: dict[Node, _Gauge] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.copies = self._copies()
        self._seen: dict[int, dict[int, tuple[list[int], bool]]] = {}
        for link in self.links:
            own = self.present(link.ids)
            other = self.present(link.other_ids) if link.other else {}
            for number in own if not link.other else own.keys() & other.keys():
                self._follow(link, number, own[number], other.get(number))
        for use in (use for label in self.labels for use in label.uses):
            for number, (copies, _) in self.present(use.ids).items():
                for node in ((number, frame, copy) for frame in (use.reads, use.writes) for copy in copies if frame):
                    self.find(node)
        self._join_copies()

    def _copies(self) -> Tensor:
        """Number the atoms that became one member, in the order of their making; shape (atoms,)."""
        roots = self.roots = self.roots[:len(self.class_of)]
        numbers, members = self.class_of[roots].numpy(), self.member_of[roots].numpy()
        atoms = np.flatnonzero(numbers >= 0)
        order = atoms[np.lexsort((atoms, members[atoms], numbers[atoms]))]
        both = np.stack([numbers[order], members[order]])
        starts = np.flatnonzero(np.append(True, (both[:, 1:] != both[:, :-1]).any(0))) if len(order) else order
        ranks = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
        copies = torch.full((len(roots),), -1)
        copies[torch.from_numpy(order)] = torch.from_numpy(ranks)
        return copies

    def present(self, ids: Tensor) -> dict[int, tuple[list[int], bool]]:
        """Return, by class that a value carries, which copies, and whether all members stand there equally often."""
        if id(ids) not in self._seen:
            atoms, counts = ids.unique(return_counts=True)
            numbers = self.class_of[self.roots[atoms]]
            found = {}
            for number in numbers[numbers >= 0].unique().tolist():
                mine = numbers == number
                times = torch.bincount(self.member_of[self.roots[atoms[mine]]], weights=counts[mine].double(),
                                       minlength=int((self.class_of == number).sum()))
                found[number] = self.copies[atoms[mine]].unique().tolist(), bool((times == times[0]).all())
            self._seen[id(ids)] = found
        return self._seen[id(ids)]

    def _follow(self, link: Link, number: int, own: tuple[list[int], bool],
                other: tuple[list[int], bool] | None) -> None:
        whole = own[1] and (other is None or other[1])
        allowed = link.allowed if whole else link.allowed & SCALE
        nodes = [(number, link.frame, copy) for copy in own[0]]
        for node in nodes:
            self._join(nodes[0], node, 1)
        for copy in other[0] if other else ():
            self._join(nodes[0], (number, link.other, copy), -1 if link.dual else 1)
        gauge = self.gauges[self.find(nodes[0])[0]]
        gauge.allowed &= allowed
        gauge.centred |= link.centred

    def find(self, node: Node) -> tuple[Node, int]:
        """Return the node that stands for a gauge, and 1, or -1 where the inverse transpose of its map acts."""
        if node not in self.parent:
            self.parent[node] = node, 1
            self.gauges[node] = _Gauge()
        sign, path = 1, []
        while self.parent[node][0] != node:
            path.append(node)
            node, step = self.parent[node]
            sign *= step
        total = sign
        for each in path:  # shorten the way
            step = self.parent[each][1]
            self.parent[each] = node, total
            total *= step
        return node, sign

    def _join(self, first: Node, second: Node, sign: int) -> None:
        (one, one_sign), (other, other_sign) = self.find(first), self.find(second)
        if one == other:
            if one_sign * other_sign != sign:  # a map that is its own inverse transpose
                self.gauges[one].allowed &= ROTATE
            return
        self.parent[other] = one, one_sign * other_sign * sign
        gone = self.gauges.pop(other)
        self.gauges[one].allowed &= gone.allowed
        self.gauges[one].centred |= gone.centred

    def _join_copies(self) -> None:
        """Let one map act on all copies of the same features in one frame."""
        first: dict[tuple[int, int], Node] = {}
        for node in list(self.parent):
            before = first.setdefault(node[:2], node)
            if self.find(before)[0] != self.find(node)[0]:
                self._join(before, node, 1)

    # -- the group of one space ------------------------------------------------------------

    def signs(self, number: int, label: Label, lay: Layout) -> dict[Node, Tensor] | None:
        """Return 1, 0 or -1 for each place along a parameter's axis, by gauge of a class that it stands in.

        Returns:
            dict | None: None where it is used in ways that contradict each other.
        """
        size = len(lay(label.ids))
        found: dict[Node, Tensor] = {}
        known = torch.zeros(size, dtype=torch.bool)
        for use in label.uses:
            shape = torch.broadcast_shapes(use.ids.shape, label.ids.shape)
            raw = lay(use.ids.expand(shape))
            here = (raw != 0) & (self.class_of[self.roots[raw]] == number)
            mine: dict[Node, Tensor] = {}
            for frame, direction in ((use.writes, 1), (use.reads, -1)):
                for copy in self.copies[raw[here]].unique().tolist() if frame else ():
                    root, sign = self.find((number, frame, copy))
                    signs = mine.setdefault(root, torch.zeros(size, dtype=torch.long))
                    signs[here & (self.copies[raw] == copy)] += sign * direction
            for root in mine.keys() | found.keys():
                before = found.setdefault(root, torch.zeros(size, dtype=torch.long))
                now = mine.get(root, torch.zeros(size, dtype=torch.long))
                if bool((before != now)[here & known].any()):
                    return None
                before[here] = now[here]
            known |= here
        return found


class Layout:
    """Brings the ids of a parameter into the order of one axis (or of several that are seen as one)."""

    def __init__(self, dims: list[int], shape: tuple[int, ...], rows: int = 0) -> None:
        self.dims, self.shape, self.rows = dims, shape, rows

    def __call__(self, ids: Tensor) -> Tensor:
        if self.rows:  # grouped kernels
            return ids.expand(self.shape[0], *ids.shape[1:])[::self.rows].flatten()
        first, last = self.dims[0], self.dims[-1]
        for dim in range(ids.dim()):
            if not first <= dim <= last:
                ids = ids.amax(dim, keepdim=True)
        return ids.expand([size if first <= dim <= last else 1 for dim, size in enumerate(self.shape)]).flatten()


@dataclass(frozen=True)
class SpaceGroup:
    """The maps that leave the function of a network alone, for one space."""
    name: Group = 'permutation'
    centred: bool = False
    signs: tuple[tuple[int, ...], ...] = ()  # for each axis, of every repetition: see ``Axis.signs``


def group_of(gauges: Gauges, number: int, size: int, axes: list, origins: list[tuple[Label, Layout]]) -> SpaceGroup:
    """Return the group of a class of features: that of the one frame in which all of its readers read.

    Args:
        gauges: Of the run.
        number: Of the class.
        size: Number of its members.
        axes: Of parameters, with ``index`` and ``role``.
        origins: Of each axis, the label that it is of, and the order of places along it.
    """
    signs = [gauges.signs(number, label, lay) for label, lay in origins]
    if any(each is None for each in signs):
        return SpaceGroup()
    readers = any(axis.role == 'read' for axis in axes)
    fitting = []
    for root in {root for each in signs for root in each if gauges.gauges[root].allowed}:
        own = [each.get(root, torch.zeros(len(axis.index), dtype=torch.long))[axis.index >= 0]
               for each, axis in zip(signs, axes, strict=True)]
        if all(bool(sign.all()) for sign, axis in zip(own, axes, strict=True) if axis.role == 'read' or not readers):
            fitting.append((root, own))
    if len(fitting) != 1:
        return SpaceGroup()
    root, own = fitting[0]
    gauge = gauges.gauges[root]
    allowed = gauge.allowed if all(bool(sign.all()) for sign in own) else gauge.allowed & SCALE
    repeated = [_by_repetition(axis.index, sign, size) for axis, sign in zip(axes, own, strict=True)]
    if not allowed or any(each is None for each in repeated):
        return SpaceGroup()
    first = next((sum(each) for axis, each in zip(axes, repeated, strict=True) if axis.role == 'write'), 1)
    turned = -1 if first < 0 else 1
    return SpaceGroup(NAMES[allowed], gauge.centred and allowed == ROTATE,
                      tuple(tuple(turned * sign for sign in each) for each in repeated))


def _by_repetition(index: Tensor, signs: Tensor, size: int) -> tuple[int, ...] | None:
    """Return the signs of the first, second, ... place of every member; None where members differ."""
    table = signs[index[index >= 0].argsort(stable=True)].reshape(size, -1)
    same = bool((table == table[0]).all()) and bool((table.abs() <= 1).all())
    return tuple(table[0].tolist()) if same else None
