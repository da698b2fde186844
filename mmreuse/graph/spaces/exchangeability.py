"""From atoms to classes of exchangeable atoms.

Two atoms are exchangeable when they stand in the same parameter axes equally often, and
their blocks and members are exchangeable too. This is colour refinement (Weisfeiler and
Leman, 1968) of the bipartite graph of atoms and blocks, with 64-bit hashes as colours.
"""
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from mmreuse.errors import TraceError
from mmreuse.graph.spaces.atoms import PINNED, Atoms, narrow
from mmreuse.graph.spaces.operations import Label

_PRIMES = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)


def _mix(values: np.ndarray, salt: int) -> np.ndarray:
    """Hash unsigned 64-bit integers (the finaliser of splitmix64)."""
    with np.errstate(over='ignore'):
        x = values.astype(np.uint64) + _PRIMES[salt] * np.uint64(salt + 1)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _sums(size: int, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = np.zeros(size, np.uint64)
    with np.errstate(over='ignore'):
        np.add.at(out, places, values)
    return out


@dataclass
class AtomClass:
    """Exchangeable atoms in order of their first appearance."""
    atoms: np.ndarray  # (n,)
    keys: np.ndarray | None = None  # (n,) atom of the block of each, or number of the fixed cell
    fixed: bool = False  # the blocks must keep their places


@dataclass
class Partitioner:
    """Merges, freezes and colours atoms until every class has a plain structure of blocks.

    Invariant: whatever permutation of the atoms the final classes allow was allowed by the ties, relations and
    histories that were given; ties, freezing and further relations only take permutations away. It ends: a round that
    changes something ties atoms (fewer are left), freezes some (more are frozen) or adds a relation between present
    blocks (there are finitely many pairs). New atoms come only where a relation whose blocks were tied is split into
    frozen cells, which are never tied again: at most once for each relation.
    """
    atoms: Atoms
    labels: list[Label]
    network: str = 'the network'  # for messages
    relations: list[tuple[np.ndarray, np.ndarray]] = field(init=False)
    frozen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.relations = [(children.numpy(), keys.numpy()) for children, keys in self.atoms.relations]
        self.counts = []
        for number, label in enumerate(self.labels):
            atoms, times = label.ids.unique(return_counts=True)
            self.counts.append((atoms.numpy(), times.numpy(), number))

    def roots(self, atoms: np.ndarray) -> np.ndarray:
        return self.atoms.roots.numpy()[atoms]

    def run(self) -> list[AtomClass]:
        """All classes of at least two movable atoms.

        Raises:
            TraceError: A step changed nothing, against the argument above.
        """
        self._freeze_unused()
        while True:
            self._snapshot()
            before = self._progress()
            if not self._simplify():
                return self._classes()
            if self._progress() == before:
                raise TraceError(f'{self.network}: the structure of its blocks of channels does not settle, so no '
                                 'feature spaces can be named. Trace its parts one by one.')

    def _progress(self) -> tuple[int, int, int]:
        """Return the numbers of which at least one moves with every step."""
        roots = self.atoms.roots
        return int((roots == torch.arange(len(roots))).sum()), len(self.frozen), len(self.relations)

    def _freeze_unused(self) -> None:
        """Members of blocks that no layer writes or reads stay where they are."""
        if self.relations:
            used = [atoms for atoms, _, number in self.counts if self.labels[number].role != 'accompany']
            used += [keys for _, keys in self.relations]
            children = np.concatenate([children for children, _ in self.relations])
            self.freeze(children[~np.isin(self.roots(children), self.roots(np.concatenate(used)))])

    def freeze(self, atoms: np.ndarray) -> bool:
        """Keep atoms where they are without making them one; whether that is news."""
        new = set(self.roots(atoms).tolist()) - self.frozen - {0, PINNED}
        self.frozen |= new
        return bool(new)

    def union(self, first: np.ndarray, second: np.ndarray) -> None:
        frozen = self.frozen & set(self.roots(np.concatenate([first, second])).tolist())
        self.atoms.tie(torch.from_numpy(first), torch.from_numpy(second))
        if frozen:
            self.frozen |= set(self.roots(np.array(list(frozen))).tolist())

    # -- one look at the present state -------------------------------------------------

    def _snapshot(self) -> None:
        self._split_collapsed()
        pairs = [np.stack([self.roots(children), self.roots(keys)], 1) for children, keys in self.relations]
        marked = [np.column_stack([pair, np.full(len(pair), number)]) for number, pair in enumerate(pairs)]
        self.marked = np.unique(np.concatenate(marked), axis=0) if marked else np.zeros((0, 3), np.int64)
        edges = np.unique(self.marked[:, :2], axis=0)
        edges = edges[edges[:, 0] != edges[:, 1]]
        self.frozen = set(self.roots(np.array(sorted(self.frozen), np.int64)).tolist()) if self.frozen else set()
        self._freeze_upwards(edges)
        edges = edges[(edges[:, 0] > PINNED) & (edges[:, 1] > PINNED)]
        self.edges = edges
        self.marked = self.marked[np.isin(self.marked[:, 1], list(self.frozen))]
        self.colors = self._colour(edges)

    def _split_collapsed(self) -> None:
        """Blocks that were tied to each other stay apart as cells that cannot move."""
        for number, (children, keys) in enumerate(self.relations):
            names, places = np.unique(keys, return_inverse=True)
            pairs = np.unique(np.stack([places, self.roots(children)], 1), axis=0)
            sets = _sums(len(names), pairs[:, 0], _mix(pairs[:, 1], 0))
            roots = self.roots(names)
            together = np.unique(np.stack([roots.astype(np.uint64), sets], 1), axis=0)
            if len(np.unique(together[:, 0])) < len(together) or (roots == PINNED).any():
                cells = self.atoms.fresh(len(names)).numpy()
                self.freeze(cells)
                self.relations[number] = (children, cells[places])

    def _freeze_upwards(self, edges: np.ndarray) -> None:
        """A block that holds something fixed is fixed."""
        while True:
            held = np.isin(edges[:, 0], [PINNED, *self.frozen])
            if not self.freeze(edges[held, 1]):
                return

    def _colour(self, edges: np.ndarray) -> np.ndarray:
        """Return the colours of all atoms; only those in labels or relations are looked at."""
        counted = [(self.roots(atoms), times, number) for atoms, times, number in self.counts]
        nodes = np.unique(np.concatenate([np.zeros(1, np.int64), edges.flatten(), *(item[0] for item in counted)]))
        own = np.zeros(len(nodes), np.uint64)
        for atoms, times, number in counted:
            present = atoms > PINNED
            codes = _mix(times[present].astype(np.uint64) + np.uint64(number << 32), 1)
            with np.errstate(over='ignore'):
                np.add.at(own, np.searchsorted(nodes, atoms[present]), codes)
        self._add_histories(nodes, own)
        with np.errstate(over='ignore'):
            own[np.isin(nodes, list(self.frozen))] += _PRIMES[3]
            for number, (_, keys) in enumerate(self.relations):  # blocks that different operations made differ
                mine = np.unique(self.roots(keys))
                own[np.searchsorted(nodes, mine[np.isin(mine, nodes)])] += _mix(np.array([number]), 2)
        compact, number = own, -1
        children, keys = np.searchsorted(nodes, edges[:, 0]), np.searchsorted(nodes, edges[:, 1])
        while True:
            with np.errstate(over='ignore'):
                compact = _mix(own + _sums(len(nodes), children, _mix(compact[keys], 2))
                               + _sums(len(nodes), keys, _mix(compact[children], 3)), 0)
            now = len(np.unique(compact))
            if now == number:
                colors = np.zeros(self.atoms.count, np.uint64)
                colors[nodes] = compact
                return colors
            number = now

    def _add_histories(self, nodes: np.ndarray, own: np.ndarray) -> None:
        """Add what was done to atoms to their colours, summed over all that were tied."""
        treated = self.atoms.history.nonzero().flatten().numpy()
        roots = self.roots(treated)
        present = (roots > PINNED) & np.isin(roots, nodes)
        with np.errstate(over='ignore'):
            np.add.at(own, np.searchsorted(nodes, roots[present]),
                      self.atoms.history.numpy()[treated[present]].view(np.uint64))

    # -- structure of blocks -----------------------------------------------------------

    def _simplify(self) -> bool:
        """Resolve what is not a plain two-level structure; whether anything changed."""
        changed = False
        child_colors = self.colors[self.edges[:, 0]]
        held = np.isin(self.edges[:, 1], list(self.frozen))
        for color in np.unique(child_colors):
            mine = child_colors == color
            edges = self.edges[mine & ~held]
            key_colors = self.colors[edges[:, 1]]
            partitions, here = [], False
            for key_color in np.unique(key_colors):
                pairs = edges[key_colors == key_color]
                if self._simplify_one(pairs):
                    here = True
                elif len(np.unique(pairs[:, 1])) > 1:
                    partitions.append(pairs[np.argsort(pairs[:, 0])])
            here = here or self._simplify_pairs(partitions) or self._simplify_held(partitions, self.edges[mine & held])
            changed = changed or here
        return changed

    def _is_frozen(self, atoms: np.ndarray) -> bool:
        return bool(np.isin(atoms, list(self.frozen)).any())

    def _simplify_one(self, pairs: np.ndarray) -> bool:
        """Movable blocks of one kind over members of one kind."""
        members, keys = np.unique(pairs[:, 0]), np.unique(pairs[:, 1])
        sets = _sums(len(keys), np.searchsorted(keys, pairs[:, 1]), _mix(pairs[:, 0], 0))
        _, first, places = np.unique(sets, return_index=True, return_inverse=True)
        if 1 < len(first) < len(keys):
            self.union(keys, keys[first[places]])
            return True
        if len(members) < len(pairs):
            return self.freeze(keys)
        if len(members) == len(keys) and len(keys) > 1:
            self.union(pairs[:, 0], pairs[:, 1])
            return True
        return False

    def _simplify_pairs(self, partitions: list[np.ndarray]) -> bool:
        """Two kinds of blocks over the same members: equal, nested, or crossing."""
        for number, first in enumerate(partitions):
            for second in partitions[number + 1:]:
                if self._simplify_pair(first, second):
                    return True
        return False

    def _simplify_pair(self, first: np.ndarray, second: np.ndarray) -> bool:
        a, b = first[:, 1], second[:, 1]
        joint = len(np.unique(np.stack([a, b], 1), axis=0))
        sizes = len(np.unique(a)), len(np.unique(b))
        if joint == sizes[0] == sizes[1]:
            self.union(a, b)
            return True
        if joint in sizes:
            return self._nest(a, b) if joint == sizes[0] else self._nest(b, a)
        if joint == len(a):  # a grid: its rows move as wholes, or its columns
            larger = first if sizes[0] >= sizes[1] else second
            self.union(larger[:, 0], larger[:, 1])
            return True
        return self.freeze(np.concatenate([a, b]))

    def _simplify_held(self, partitions: list[np.ndarray], held: np.ndarray) -> bool:
        """Members that fixed blocks tell apart, alone or together with movable blocks."""
        if not len(held):
            return False
        members = np.unique(held[:, 0])
        cells = self._cells(members)
        number = len(np.unique(cells))
        if number == len(members) > 1:
            return self.freeze(members)
        for pairs in partitions:
            if number == 1 or len(pairs) != len(members):
                continue
            both = np.stack([pairs[:, 1].astype(np.uint64), cells], 1)
            joint, blocks = len(np.unique(both, axis=0)), len(np.unique(pairs[:, 1]))
            if joint == blocks:  # the fixed blocks consist of whole movable ones
                order = np.searchsorted(pairs[:, 0], held[:, 0])
                changed = self._nest(pairs[order, 1], held[:, 1])
            elif joint == len(members):  # a grid with fixed columns: rows may move as wholes
                self.union(pairs[:, 0], pairs[:, 1])
                changed = True
            else:
                changed = self.freeze(pairs[:, 1])
            if changed:
                return True
        return False

    def _cells(self, members: np.ndarray) -> np.ndarray:
        """Hash of the fixed blocks that each member is in, and by which operation it is in them."""
        order = np.argsort(members)
        places = np.searchsorted(members, self.marked[:, 0], sorter=order)
        found = order[np.minimum(places, len(members) - 1)]
        mine = members[found] == self.marked[:, 0]
        codes = _mix(_mix(self.marked[mine, 1], 0) + self.marked[mine, 2].astype(np.uint64), 1)
        return _sums(len(members), found[mine], codes)

    def _nest(self, fine: np.ndarray, coarse: np.ndarray) -> bool:
        pairs = np.unique(np.stack([fine, coarse], 1), axis=0)
        if bool(np.isin(pairs @ [1 << 32, 1], self.edges @ [1 << 32, 1]).all()):
            return False
        self.relations.append((pairs[:, 0], pairs[:, 1]))
        return True

    # -- the result --------------------------------------------------------------------

    def _classes(self) -> list[AtomClass]:
        order = self._appearance()
        alive = order[~np.isin(order, [0, PINNED, *self.frozen])]
        colors = self.colors[alive]
        _, first, places = np.unique(colors, return_index=True, return_inverse=True)
        classes = []
        for number in np.argsort(first):
            members = alive[places == number]
            if len(members) > 1:
                classes.append(self._with_blocks(members))
        return classes

    def _appearance(self) -> np.ndarray:
        """All atoms in the order in which they are written, then those that only stand for blocks."""
        arrays = []
        for role in ('write', 'read', 'accompany'):
            arrays += [self.roots(label.ids.flatten().numpy()) for label in self.labels if label.role == role]
        labelled = np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
        labelled = labelled[np.sort(np.unique(labelled, return_index=True)[1])]
        # blocks in the order of their first member, however deep
        rank = np.full(self.atoms.count, np.iinfo(np.int64).max)
        rank[labelled] = np.arange(len(labelled))
        keys = np.unique(self.edges[:, 1])
        for _ in range(4):
            np.minimum.at(rank, self.edges[:, 1], rank[self.edges[:, 0]])
        unlabelled = keys[~np.isin(keys, labelled)]
        by_member = unlabelled[np.argsort(rank[unlabelled], kind='stable')]
        return np.concatenate([labelled, by_member])

    def _with_blocks(self, members: np.ndarray) -> AtomClass:
        position = np.full(self.atoms.count, -1)
        position[members] = np.arange(len(members))
        edges = self.edges[position[self.edges[:, 0]] >= 0]
        best: np.ndarray | None = None
        for color in np.unique(self.colors[edges[:, 1]]):
            pairs = edges[self.colors[edges[:, 1]] == color]
            keys = np.unique(pairs[:, 1])
            if len(keys) < 2 or len(pairs) != len(members) or self._is_frozen(keys):
                continue
            if best is None or len(keys) > len(np.unique(best)):
                best = np.empty(len(members), np.int64)
                best[position[pairs[:, 0]]] = pairs[:, 1]
        if best is not None:
            return AtomClass(members, best)
        cells = self._cells(members)
        names, first, numbers = np.unique(cells, return_index=True, return_inverse=True)
        if len(names) < 2:
            return AtomClass(members)
        rank = np.argsort(np.argsort(first))
        return AtomClass(members, rank[numbers], fixed=True)


def tie_repeated(atoms: Atoms, labels: list[Label]) -> list[Label]:
    """A parameter that is used several times stands in one place: tie its labels and join those of one role."""
    by_key: dict[str, list[Label]] = {}
    for label in labels:
        by_key.setdefault(label.key, []).append(label)
    for uses in by_key.values():
        for number, first in enumerate(uses):
            for second in uses[number + 1:]:
                if _same_axis(atoms, first, second):
                    atoms.tie(first.ids, second.ids)
    return [_joined(atoms, _spanned(atoms, [label for label in uses if label.role == role]))
            for uses in by_key.values() for role in dict.fromkeys(label.role for label in uses)]


def _spanned(atoms: Atoms, labels: list[Label]) -> list[Label]:
    """Write labels of parts of an axis out, unless together they move all of it (a projection read in slices)."""
    parts = [label for label in labels if label.region is not None]
    if not parts:
        return labels
    axis = parts[0].region[0]
    left = set(range(parts[0].shape[axis]))
    for label in labels:
        if bool(atoms.settle(label.ids).any()) and (label.region is None or label.region[0] == axis):
            left -= set(range(*(label.region[1:] if label.region is not None else (0, len(left)))))
    return labels if not left else [label if label.region is None else _written_out(label) for label in labels]


def _written_out(label: Label) -> Label:
    axis, first, last = label.region
    inside = torch.zeros(label.shape[axis], dtype=torch.long)
    inside[first:last] = 1
    inside = inside.reshape([-1 if dim == axis else 1 for dim in range(len(label.shape))])
    return replace(label, region=None, ids=label.ids * inside)


def _joined(atoms: Atoms, labels: list[Label]) -> Label:
    """One label that holds what several of the same role say of parts of a parameter."""
    ids = atoms.settle(labels[0].ids)
    for label in labels[1:]:
        first, second = torch.broadcast_tensors(ids, atoms.settle(label.ids))
        ids = atoms.settle(torch.where(first == 0, second, first))
    return replace(labels[0], ids=ids, uses=tuple(use for label in labels for use in label.uses))


def _same_axis(atoms: Atoms, first: Label, second: Label) -> bool:
    settled = [atoms.settle(label.ids) for label in (first, second)]
    moving = [bool(ids.any()) for ids in settled]  # any atom that is not pinned
    if not all(moving) and _apart(first.region, second.region):
        return False
    a, b = (_dims(ids if moves else narrow(label.ids))
            for label, ids, moves in zip((first, second), settled, moving, strict=True))
    if first.role == second.role:
        return bool(a & b)
    if 'accompany' in (first.role, second.role):
        return bool(a & b)
    return a == b and first.call != second.call


def _apart(first: tuple[int, int, int] | None, second: tuple[int, int, int] | None) -> bool:
    """Return whether regions of one axis have no place in common."""
    return first is not None and second is not None and first[0] == second[0] and (
        first[2] <= second[1] or second[2] <= first[1])


def _dims(ids: Tensor) -> set[int]:
    return {dim for dim, size in enumerate(ids.shape) if size > 1}
