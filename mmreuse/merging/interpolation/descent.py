"""Coordinate descent over the permutations of a network's spaces (Ainsworth et al., *Git Re-Basin*, 2023, 3.2).

Spaces may also be turned by orthogonal maps, where those leave the function as it is: the same sums of inner products
then have a closed form in place of a linear assignment (Schönemann, 1966).

The model is permuted in place as the search goes on. What remains to be found for a space is then always relative
to the present order, and the sum over all axes of ``rows(target) @ rows(weight).T`` needs no other permutation.
"""
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from mmreuse.errors import ConfigError
from mmreuse.graph import Dense, Permute, TracedModel, apply_maps, copy_model, resolve_maps, rows_of
from mmreuse.merging.matching.coupled_spaces import Spaces, assign, families, movable

#: Smallest gain that counts, relative to the norms of what is compared.
TOLERANCE = 1e-12
#: The same of orthogonal maps, which come ever closer to an optimum and never reach it.
TURN_TOLERANCE = 1e-7
#: Bound on the number of times that everything is visited; mostly nothing improves long before.
MAX_SWEEPS = 100


def state_of(graph: TracedModel) -> dict[str, Tensor]:
    """Return the tensors along the spaces of a network, by state-dict key, in float64."""
    keys = {axis.tensor for space in graph.spaces.values() for axis in space.axes}
    state = dict(graph.model.named_parameters(remove_duplicate=False))
    state |= dict(graph.model.named_buffers(remove_duplicate=False))
    return {key: state[key].detach().double() for key in keys if state[key].is_floating_point()}


class Aligner:
    """One network on its way to a target of the same structure.

    Maximises ``weight * <target, W> + sum over spaces of tr(linear[:, places])``, with ``W`` everything that lies
    along the spaces. Tensors whose shape differs from the target's (heads for other classes) do not take part.

    Args:
        graph: The network; it is copied.
        names: Spaces to permute. Blocks of which one space is not among them stay where they are.
        target: What to come close to, by state-dict key, as :func:`state_of` gives it.
        weight: Of the inner product with the target.
        include_buffers: Let running statistics take part in it.
        turned: Spaces that orthogonal maps turn in place of permutations.

    Attributes:
        places: By space, the member of the network at each place, shape (n,).
        turns: By space that is turned, the map of its features, shape (n, n).
        linear: By space, similarity of each place to each member, shape (n, n); empty unless set.
    """

    def __init__(self, graph: TracedModel, names: Sequence[str], target: Mapping[str, Tensor], *, weight: float = 1.,
                 include_buffers: bool = False, turned: Collection[str] = ()) -> None:
        self.spaces: Spaces = graph.spaces
        self.model = copy_model(graph.model).double().requires_grad_(False)
        self.units = families(self.spaces, movable(self.spaces, names))
        self.target = target
        self.weight = weight
        self.linear: dict[str, Tensor] = {}
        self.turns = {name: torch.eye(self.spaces[name].size, dtype=torch.float64) for name in names if name in turned}
        self.places = {name: torch.arange(self.spaces[name].size) for name in names if name not in turned}
        buffers = set() if include_buffers else {name for name, _ in self.model.named_buffers(remove_duplicate=False)}
        keys = {axis.tensor for space in self.spaces.values() for axis in space.axes} & set(target) - buffers
        self._owners = {key: (self.model.get_submodule(key.rpartition('.')[0]), key.rpartition('.')[2]) for key in keys}
        self.usable = {key for key in keys if self._own(key).shape == target[key].shape}
        self._touched = [self._keys(unit) for unit in self.units]
        self._neighbours = [{other for other, keys in enumerate(self._touched) if other != number and keys & mine}
                            for number, mine in enumerate(self._touched)]

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that take part, as they are now."""
        return {key: self._own(key) for key in self.usable}

    def _own(self, key: str) -> Tensor:
        module, name = self._owners[key]
        return getattr(module, name)

    def _keys(self, names: Sequence[str]) -> set[str]:
        return {axis.tensor for name in names for axis in self.spaces[name].axes} & self.usable

    def value(self, names: Sequence[str]) -> float:
        """Return the part of the objective that a move of these spaces changes."""
        product = sum(float(self.target[key].flatten() @ self._own(key).to(self.target[key]).flatten())
                      for key in sorted(self._keys(names)))
        return self.weight * product + sum(
            float(self.linear[name][torch.arange(len(places)), places].sum())
            for name, places in self.places.items() if name in names and name in self.linear)

    def _bound(self, names: Sequence[str]) -> float:
        """Return an upper bound on the value of these spaces."""
        product = sum(float(self.target[key].norm()) * float(self._own(key).norm()) for key in self._keys(names))
        return self.weight * product + sum(
            float(self.linear[name].abs().sum()) for name in names if name in self.linear)

    def objective(self) -> float:
        """Return the objective, which the descent maximises."""
        return self.value([*self.places, *self.turns])

    def similarity(self, name: str) -> Tensor:
        """Return the similarity of each place to the member that is now at each place, shape (n, n)."""
        size = self.spaces[name].size
        total = torch.zeros(size, size, dtype=torch.float64)
        if self.weight:
            total += self.weight * sum((target @ own.T).cpu() for target, own in self._unfolded(name))
        return total + self.linear[name][:, self.places[name]].cpu() if name in self.linear else total

    def norms(self, *names: str) -> float:
        """Return the product of the norms of target and network along some spaces, the bound of their inner product."""
        squares = [(float(target.square().sum()), float(own.square().sum()))
                   for name in names for target, own in self._unfolded(name)]
        return (sum(target for target, _ in squares) * sum(own for _, own in squares)) ** .5

    def cosine(self, name: str) -> float:
        """Return the cosine of target and network along a space and the spaces inside it; 0 where they are zero."""
        inside = [child for child, space in self.spaces.items() if space.block_space == name]
        together = [name, *inside]
        product = sum(float((target * own).sum()) for part in together for target, own in self._unfolded(part))
        return product / (self.norms(*together) or 1.)

    def _unfolded(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        size = self.spaces[name].size
        for axis in self.spaces[name].axes:
            if axis.tensor in self.usable:
                target = self.target[axis.tensor]
                own = self._own(axis.tensor).to(target)
                yield tuple(rows_of(each, axis, size).reshape(size, -1) for each in (target, own))

    def descend(self, generator: torch.Generator, only: Collection[str] | None = None) -> bool:
        """Visit families in random order until none can be improved; whether anything was.

        A family is left out while nothing that shares a tensor with it has changed.

        Args:
            generator: Of the order.
            only: Spaces whose families are visited; None for all.
        """
        visited = {number for number, unit in enumerate(self.units) if only is None or not set(only).isdisjoint(unit)}
        stale, improved = set(visited), False
        for _ in range(MAX_SWEEPS):
            for number in torch.randperm(len(self.units), generator=generator).tolist():
                if number not in stale:
                    continue
                stale.discard(number)
                if self._improve(self.units[number]):
                    improved = True
                    stale |= self._neighbours[number] & visited
            if not stale:
                break
        return improved

    def match_outwards(self) -> None:
        """Match every family once, from what is fixed (inputs, outputs) inwards.

        Each is matched by the tensors that it shares with nothing or with families matched before, and the next is
        always the one of which these tell the largest part. A visit in random order would compare the first families
        along axes that stand in any order, and fit them to noise from which a residual stream does not come free.
        """
        usable, spread = self.usable, [self._spread(unit) for unit in self.units]
        matched: set[int] = set()

        def fixed(number: int) -> set[str]:
            others = [self._touched[other] for other in self._neighbours[number] - matched]
            return self._touched[number].difference(*others)

        def share(number: int) -> float:
            return sum(spread[number][key] for key in fixed(number)) / (sum(spread[number].values()) or 1.)

        for _ in self.units:
            number = max(set(range(len(self.units))) - matched, key=share)
            self.usable = fixed(number)
            self._improve(self.units[number])
            matched.add(number)
        self.usable = usable

    def _spread(self, unit: list[str]) -> dict[str, float]:
        """Return how much members of a family differ in each tensor of the target."""
        spread = dict.fromkeys(self._keys(unit), 0.)
        for name in unit:
            for axis in self.spaces[name].axes:
                if axis.tensor in spread:
                    size = self.spaces[name].size
                    rows = rows_of(self.target[axis.tensor], axis, size).reshape(size, -1)
                    spread[axis.tensor] += float((rows - rows.mean(0)).square().sum())
        return spread

    def _improve(self, unit: list[str]) -> bool:
        """Solve one family. Where it lies on two axes of a tensor, which is not linear, go on until nothing moves."""
        if not self._meets_itself(unit):
            return self._step(unit)
        steps = [unit, *([name] for name in unit if len(unit) > 1)]
        improved = False
        while any([self._step(names) for names in steps]):
            improved = True
        return improved

    def _meets_itself(self, unit: list[str]) -> bool:
        axes = {(axis.tensor, axis.dim) for name in unit for axis in self.spaces[name].axes}
        return len({tensor for tensor, _ in axes}) < len(axes)

    def _step(self, names: list[str]) -> bool:
        """Permute some spaces of a family; undone unless the objective grows."""
        found = assign(self.spaces, self.spaces, names, {name: self.similarity(name) for name in names}, self.turns)
        if all(index.dim() == 1 and torch.equal(index, torch.arange(len(index))) for index in found.values()):
            return False
        before = self.value(names)
        self.move(found)
        tolerance = TURN_TOLERANCE if any(name in self.turns for name in names) else TOLERANCE
        if self.value(names) > before + tolerance * self._bound(names):
            return True
        self.move({name: index.argsort() if index.dim() == 1 else index.T for name, index in found.items()})
        return False

    def move(self, found: Mapping[str, Tensor]) -> None:
        """Permute or turn some spaces: by space, the present place of the member that goes to each place, or a map."""
        maps = {name: Permute(index) if index.dim() == 1 else Dense(index, index.T) for name, index in found.items()}
        apply_maps(self.model, resolve_maps(self.spaces, maps))
        for name, index in found.items():
            if name in self.turns:
                self.turns[name] = index @ self.turns[name]
            else:
                self.places[name] = self.places[name][index]


def best_descent(make: Callable[[], Aligner], restarts: int, seed: int) -> Aligner:
    """Return the best of several descents, with orders of their own.

    The first starts from the identity, as published: the best start for networks that share an initialisation. The
    others start from :meth:`Aligner.match_outwards`, which is mostly better for those that do not.

    Raises:
        ConfigError: No descent is asked for.
    """
    if restarts < 1:
        raise ConfigError(f'restarts = {restarts}: at least one is needed.')
    generator = torch.Generator().manual_seed(seed)
    best = None
    for number in range(restarts):
        aligner = make()
        if number > 0:
            aligner.match_outwards()
        aligner.descend(generator)
        if best is None or aligner.objective() > best.objective():
            best = aligner
    return best
