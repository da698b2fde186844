"""Feature spaces: sets of parameter axes that must change together."""
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mmreuse.graph.spaces.exchangeability import AtomClass, Partitioner, tie_repeated
from mmreuse.graph.spaces.operations import Label, Pin
from mmreuse.graph.spaces.taps import Tap, taps_of
from mmreuse.graph.spaces.tracer import Tracer
from mmreuse.graph.symmetry.frames import Link
from mmreuse.graph.symmetry.groups import DESCRIPTIONS, Gauges, Group, Layout, SpaceGroup, group_of

Role = Literal['write', 'read', 'accompany']


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of one parameter or buffer, and the member of the space at each of its positions."""
    tensor: str  # state-dict key
    dim: int
    index: Tensor  # (length of the axis,) member of the space, or -1: not of this space
    role: Role  # merge acts on what writes or accompanies, unmerge on what reads
    shape: tuple[int, ...] | None = None  # view of the tensor in which ``dim`` is counted, None: as it is
    groups: int = 1  # > 1: each block of axis 0 has its own part of ``index``, as in grouped convolutions
    # for the first, second, ... place of every member: 1 where maps of the space's group act as they are, -1 where
    # their inverse does, 0 where only their permutation does; (): by role
    signs: tuple[int, ...] = ()

    def members(self, shape: Sequence[int]) -> Tensor:
        """Member of the space at every element of the tensor, or -1.

        Args:
            shape: Of the tensor.

        Returns:
            Tensor: Integers that broadcast to ``shape``.
        """
        if self.groups > 1:
            rows = self.index.reshape(self.groups, -1).repeat_interleave(shape[0] // self.groups, 0)
            return rows.reshape(*rows.shape, *[1] * (len(shape) - 2))
        view = tuple(shape) if self.shape is None else self.shape
        index = self.index.reshape([-1 if dim == self.dim else 1 for dim in range(len(view))])
        return index if self.shape is None else index.expand(view).reshape(tuple(shape))


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Features that any one linear map turns together.

    Members of a space with ``blocks`` may be exchanged within a block, and the blocks only as
    wholes, together with those of every other space of the same ``block_space``. If
    ``block_space`` is None the blocks must stay where they are.
    """
    name: str
    size: int
    axes: tuple[Axis, ...]
    taps: tuple[Tap, ...]
    blocks: Tensor | None = None  # (size,) block of each member
    block_space: str | None = None  # space whose members are the blocks
    group: Group = 'permutation'  # what maps, inside blocks, leave the function of the network as it is
    centred: bool = False  # orthogonal maps must keep the direction of all ones

    @property
    def num_blocks(self) -> int:
        """Return the number of blocks, 1 where there is no such structure."""
        return 1 if self.blocks is None else int(self.blocks.max()) + 1

    def writers(self) -> tuple[str, ...]:
        """Return the names of the parameters that write the space."""
        return tuple(dict.fromkeys(axis.tensor for axis in self.axes if axis.role == 'write'))

    def readers(self) -> tuple[str, ...]:
        """Return the names of the parameters that read the space."""
        return tuple(dict.fromkeys(axis.tensor for axis in self.axes if axis.role == 'read'))

    def __str__(self) -> str:
        head = f'{self.name}: {self.size} features, {DESCRIPTIONS[self.group]}'
        if self.blocks is not None:
            where = f'of {self.block_space}' if self.block_space else 'that keep their places'
            head += f' in {self.num_blocks} blocks {where}'
        if self.centred:
            head += ', the mean kept'
        lines = [head]
        for role, verb in (('write', 'written by'), ('accompany', 'with'), ('read', 'read by')):
            for axis in self.axes:
                if axis.role == role:
                    lines.append(f'  {verb:<10} {axis.tensor} {_describe(axis, self.size)}')
        for tap in self.taps:
            lines.append(f'  seen at    {tap.where}, axis {tap.dim}')
        return '\n'.join(lines)


def _describe(axis: Axis, size: int) -> str:
    index = axis.index[axis.index >= 0]
    text = f'axis {axis.dim}'
    if axis.shape is not None:
        text += f' of {axis.shape}'
    if axis.groups > 1:
        text += f', {axis.groups} groups'
    if len(index) > size:
        text += f', {len(index) // size} times'
    if len(index) < len(axis.index):
        text += f', at {len(index)} of {len(axis.index)} positions'
    return text


@dataclass(frozen=True, eq=False)
class Derivation:
    """The feature spaces of a traced network, and where in them its atoms are."""
    spaces: dict[str, FeatureSpace]  # in the order in which they are first written
    found: '_Axes'
    names: dict[int, str]  # of the spaces, by number of the class

    def members(self, ids: Tensor) -> tuple[list[int], dict[str, Tensor]]:
        """Read a value's ids.

        Returns:
            tuple: The axes along which features of spaces stand, and for each of these spaces the member, or -1, at
            every place of the value flattened over these axes.
        """
        dims, found = self.found.members(ids)
        spaces = {self.names[number]: index for number, index in found.items() if number in self.names}
        return (dims, spaces) if spaces else ([], {})


def derive_spaces(tracer: Tracer) -> Derivation:
    """Feature spaces of a traced network."""
    atoms = tracer.atoms
    for label in tracer.labels:
        if label.key in tracer.fixed:
            atoms.pin(label.ids)
    labels = tie_repeated(atoms, tracer.labels)
    partitioner = Partitioner(atoms, labels, tracer.network)
    while True:
        classes = partitioner.run()
        found = _Axes(tracer, labels, classes)
        for key in found.blamed:
            tracer.pins.append(Pin('reading and writing', key.rpartition('.')[0],
                                   f'{key} is both along one axis, or holds features in an order that no index says'))
        if not len(found.conflicts):
            return _build(tracer, classes, found)
        partitioner.freeze(found.conflicts)


class _Axes:
    """Axes of all classes, by class; atoms of axes that no index vector describes are ``conflicts``."""

    def __init__(self, tracer: Tracer, labels: list[Label], classes: list[AtomClass]) -> None:
        self.roots, self.labels, self.links = tracer.atoms.roots, labels, tracer.frames.links
        self.class_of = torch.full((tracer.atoms.count,), -1)
        self.member_of = torch.full((tracer.atoms.count,), -1)
        for number, item in enumerate(classes):
            members = torch.from_numpy(item.atoms)
            self.class_of[members] = number
            self.member_of[members] = torch.arange(len(members))
        self.axes: dict[int, list[Axis]] = defaultdict(list)
        self.origins: dict[int, list[tuple[Label, Layout]]] = defaultdict(list)
        self.conflicts = np.zeros(0, np.int64)
        self.blamed: dict[str, None] = {}  # parameters with such axes
        by_key: dict[str, list[Label]] = defaultdict(list)
        for label in labels:
            by_key[label.key].append(label)
        for uses in by_key.values():
            self._add_parameter(uses)

    def gauges(self, links: list[Link]) -> Gauges:
        """Return the frames of all classes, as some of the links of the run join them."""
        return Gauges(self.roots, self.class_of, self.member_of, links, self.labels)

    def _add_parameter(self, labels: list[Label]) -> None:
        entries: list[tuple[Label, Tensor, list[int]]] = []
        for label in labels:
            ids = self.roots[label.ids]
            ids = torch.where(self.class_of[ids] >= 0, ids, 0)
            dims = [dim for dim in range(ids.dim()) if ids.size(dim) > 1 and not _same_along(ids, dim)]
            for dim in set(range(ids.dim())) - set(dims):
                ids = ids.narrow(dim, 0, 1)
            if dims:
                entries.append((label, ids, dims))
            elif bool(ids.any()):
                self._conflict(label, ids)
        for position, (label, ids, dims) in enumerate(entries):
            others = [other for number, other in enumerate(entries) if number != position]
            self._add_axis(label, ids, dims, others)

    def _conflict(self, label: Label, ids: Tensor) -> None:
        self.blamed[label.key] = None
        self.conflicts = np.concatenate([self.conflicts, ids[ids != 0].unique().numpy()])

    def _add_axis(self, label: Label, ids: Tensor, dims: list[int], others: list[tuple]) -> None:
        rivals = [other for other in others if set(other[2]) & set(dims)]
        if len(dims) == 1:
            if any(other[2] == dims and not _disjoint(ids, other[1]) for other in rivals):
                self._conflict(label, ids)
            else:
                self._emit(label, dims[0], ids.flatten(), Layout(dims, label.shape))
        elif dims == [0, 1] and all(other[2] == [0] for other in rivals) and rivals:
            groups = _row_groups(ids)
            rows = ids.shape[0] // groups
            self._emit(label, 1, ids[::rows].flatten(), Layout(dims, label.shape, rows), groups=groups)
        elif rivals:
            self._conflict(label, ids)
        else:
            first, last = dims[0], dims[-1]
            extent = label.shape[first:last + 1]
            ids = ids.expand([size if first <= dim <= last else 1 for dim, size in enumerate(label.shape)])
            view = (*label.shape[:first], torch.Size(extent).numel(), *label.shape[last + 1:])
            self._emit(label, first, ids.flatten(), Layout(dims, label.shape), shape=view)

    def varying(self, ids: Tensor) -> tuple[list[int], Tensor]:
        """Return axes along which a value's atoms vary, and the atoms flattened over these axes."""
        ids = self.roots[ids]
        if not ids.numel():  # no rows were chosen, say
            return [], ids.flatten()
        dims = [dim for dim in range(ids.dim()) if ids.size(dim) > 1 and not _same_along(ids, dim)]
        for dim in set(range(ids.dim())) - set(dims):
            ids = ids.narrow(dim, 0, 1)
        return dims, ids.flatten()

    def members(self, ids: Tensor) -> tuple[list[int], dict[int, Tensor]]:
        """Return axes along which a value's atoms vary, and by class the member, or -1, at every place along them."""
        dims, ids = self.varying(ids)
        numbers = self.class_of[ids]
        return dims, {number: torch.where(numbers == number, self.member_of[ids], -1)
                      for number in numbers.unique().tolist() if number >= 0}

    def _emit(self, label: Label, dim: int, ids: Tensor, lay: Layout, **where) -> None:
        for number in self.class_of[ids].unique().tolist():
            if number < 0:
                continue
            index = torch.where(self.class_of[ids] == number, self.member_of[ids], -1)
            self.axes[number].append(Axis(label.key, dim, index, label.role, **where))
            self.origins[number].append((label, lay))


def _same_along(ids: Tensor, dim: int) -> bool:
    return bool((ids == ids.narrow(dim, 0, 1)).all())


def _disjoint(first: Tensor, second: Tensor) -> bool:
    return not bool(((first != 0) & (second != 0)).any())


def _row_groups(ids: Tensor) -> int:
    """Return the number of blocks of equal rows."""
    rows = ids.flatten(1)
    changes = (rows[1:] != rows[:-1]).any(1).nonzero().flatten() + 1
    return ids.shape[0] // int(np.gcd.reduce([ids.shape[0], *changes.tolist()]))


def _build(tracer: Tracer, classes: list[AtomClass], found: _Axes) -> Derivation:
    parents = _block_classes(classes, found)
    used = {number for number, axes in found.axes.items() if any(axis.role != 'accompany' for axis in axes)}
    used |= {parent for number, parent in parents.items() if number in used}
    used |= {parents[number] for number in list(used) if number in parents}
    order = [number for number in range(len(classes)) if number in used]
    names = _names(order, found, parents)
    taps = taps_of(tracer.seen, found.members, {number: len(item.atoms) for number, item in enumerate(classes)})
    gauges = found.gauges(found.links)
    spaces = {}
    for number in order:
        item, blocks, block_space = classes[number], None, None
        if number in parents:
            blocks, block_space = found.member_of[torch.from_numpy(item.keys)], names[parents[number]]
        elif item.fixed:
            blocks = torch.from_numpy(item.keys)
        size, axes = len(item.atoms), found.axes.get(number, [])
        movable = number not in parents.values()  # heads move as wholes, whatever is said of each
        group = group_of(gauges, number, size, axes, found.origins[number]) if movable else SpaceGroup()
        axes = [replace(axis, signs=signs) for axis, signs in zip(axes, group.signs or [()] * len(axes), strict=True)]
        spaces[names[number]] = FeatureSpace(names[number], size, tuple(axes), tuple(taps.get(number, ())), blocks,
                                             block_space, group.name, group.centred)
    return Derivation(spaces, found, names)


def _block_classes(classes: list[AtomClass], found: _Axes) -> dict[int, int]:
    """Return the class of the blocks of every class that has movable blocks."""
    return {number: int(found.class_of[item.keys[0]]) for number, item in enumerate(classes)
            if item.keys is not None and not item.fixed}


# -- names -------------------------------------------------------------------------------


def _names(order: list[int], found: _Axes, parents: dict[int, int]) -> dict[int, str]:
    names: dict[int, str] = {}
    writing = {axis.tensor.rpartition('.')[0] for axes in found.axes.values() for axis in axes if axis.role == 'write'}
    root = _common([module.split('.') for module in writing]) if len(writing) > 1 else []
    for number in order:
        axes = found.axes.get(number, [])
        for role in ('write', 'read', 'accompany'):
            modules = list(dict.fromkeys(axis.tensor.rpartition('.')[0] or axis.tensor
                                         for axis in axes if axis.role == role))
            if modules:
                names[number] = space_name(modules, len(root))
                break
    for number in order:
        if number not in names:  # blocks without parameters of their own
            child = next((child for child in order if parents.get(child) == number and child in names), None)
            names[number] = f'{names[child]}.blocks' if child is not None else 'blocks'
    counts = Counter(names.values())
    seen: Counter = Counter()
    for number in order:
        name = names[number]
        if counts[name] > 1:
            names[number] = f'{name}:{seen[name]}'
            seen[name] += 1
    return names


def space_name(modules: list[str], root: int = 0) -> str:
    """Return a name for what some modules write: their own, or that of the container they share.

    Where they share none below the first ``root`` parts of their names (a stem starts a
    residual stream, say) the first container that holds several of them is taken.
    """
    if len(modules) == 1:
        return modules[0]
    parts = [module.split('.') for module in modules]
    common = _common(parts)
    if len(common) > root:
        return '.'.join(common)
    heads = [path[root] if len(path) > root else '' for path in parts]
    counts = Counter(heads)
    several = next((head for head in heads if counts[head] > 1), heads[0])
    return '.'.join(_common([path for path, head in zip(parts, heads, strict=True) if head == several]))


def _common(paths: list[list[str]]) -> list[str]:
    common = []
    for items in zip(*paths, strict=False):
        if len(set(items)) > 1:
            break
        common.append(items[0])
    return common
