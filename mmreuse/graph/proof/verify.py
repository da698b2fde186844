"""The proof: a network rewritten by random maps from the groups of its spaces computes the same function."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mmreuse.errors import SpaceError
from mmreuse.graph.copying import fresh_copy, refresh
from mmreuse.graph.maps.linear_maps import SpaceMap
from mmreuse.graph.maps.resolve_maps import resolve_maps
from mmreuse.graph.maps.transform import apply_maps
from mmreuse.graph.proof.doubles import as_double, run_in_double
from mmreuse.graph.proof.twins import accepts, calibrate, grown, random_twin, repeated, vary_integers
from mmreuse.graph.spaces.derive import FeatureSpace
from mmreuse.graph.symmetry.random_maps import random_maps, random_permutations
from mmreuse.graph.values import map_tensors, random_like, tensors_within

if TYPE_CHECKING:
    from mmreuse.graph.traced_model import TracedModel

Draw = Callable[[list[str]], dict[str, SpaceMap]]

#: Largest allowed difference, relative to how much the output changes with the input.
TOLERANCE = 1e-6
#: How many times more samples show parts of a network that only some take.
SAMPLES = 16
#: How many branches on values are tried the other way.
BRANCHES = 8


@dataclass(frozen=True)
class VerifyReport:
    """Measurements of a proof."""
    spaces: int  # number that was mapped
    features: int  # in all of them
    error: float  # largest difference, relative to the change of the output between two inputs
    share: float  # of the parameters in which some feature can move
    cases: tuple[str, ...]  # what the network was run on


@dataclass(frozen=True, eq=False)
class Case:
    """One run of a network, with which permuted copies must agree."""
    name: str
    inputs: tuple[Any, ...]
    flip: int | None  # number of the branch that goes the other way
    reference: Tensor  # all outputs in one vector
    scale: float  # what a difference is relative to


class Proof:
    """Runs of a network in float64, and of copies of it whose spaces are mapped.

    Vectors, and whatever else is constant in the network, are drawn at random, so that no symmetry of an
    initialisation hides a mistake. It runs on two inputs, on larger ones if it accepts them, and with each branch on
    values taken the other way.

    Raises:
        SpaceError: The outputs are not finite, or do not depend on the inputs.
    """

    def __init__(self, graph: TracedModel, seed: int = 0) -> None:
        self.graph, self.seed = graph, seed
        try:
            self._prepare(everything=False)
        except SpaceError:  # a network of which training or masks left no signal may have had one
            self._prepare(everything=True)

    def _prepare(self, everything: bool) -> None:
        graph, seed = self.graph, self.seed
        self.twin = random_twin(graph, seed, everything)
        drawn = [(as_double(random_like(graph.inputs, seed + offset, 'cpu')), offset) for offset in (1, 1001)]
        inputs, others = (vary_integers(self.twin, values, offset, ones=everything) for values, offset in drawn)
        calibrate(self.twin, (inputs, others))
        refresh(self.twin)
        self.cases = self._two_inputs(inputs, others)
        self.cases += self._other_runs(self.cases[0])

    def _two_inputs(self, inputs: tuple[Any, ...], others: tuple[Any, ...]) -> list[Case]:
        first, second = (run_in_double(self.twin, values) for values in (inputs, others))
        name = type(self.graph.model).__name__
        if not bool(first.isfinite().all()):
            raise SpaceError(f'{name} gives outputs that are not finite when its parameters are drawn at random; '
                             'nothing can be proved. Give inputs of the size that the network was made for.')
        same = first.shape == second.shape
        change = float((first - second).abs().max()) if same and first.numel() else float(not same)
        if not change > 0:
            raise SpaceError(f'The outputs of {name} do not depend on its input when its parameters are drawn at '
                             'random; nothing can be proved. Give inputs that are not all the same number (tokens), or '
                             'a network that returns what it computes from them.')
        return [Case('random inputs', inputs, None, first, change),
                Case('other random inputs', others, None, second, change)]

    def _other_runs(self, first: Case) -> Iterator[Case]:
        """Larger inputs, and branches taken the other way, where the network accepts that."""
        for larger in grown(first.inputs, self.seed):
            if accepts(self.twin, larger):
                shapes = ', '.join(str(tuple(tensor.shape)) for tensor in tensors_within(larger))
                yield self._case(f'inputs of shapes {shapes}', larger, None, first)
                break
        more = map_tensors(first.inputs, lambda tensor: repeated(tensor, SAMPLES, self.seed))
        if self.graph.unread and accepts(self.twin, more):  # by more samples, for parts that only some of them take
            yield self._case(f'{SAMPLES} times the samples', more, None, first)
        for number in self.graph.branches[:BRANCHES]:
            try:
                yield self._case(f'branch {number} the other way', first.inputs, number, first)
            except Exception:  # that way ends in an error of the network's own
                continue

    def _case(self, name: str, inputs: tuple[Any, ...], flip: int | None, first: Case) -> Case:
        reference = run_in_double(self.twin, inputs, flip)
        largest, first_largest = (float(values.abs().max()) if values.numel() else 1.
                                  for values in (reference, first.reference))
        return Case(name, inputs, flip, reference, first.scale * max(1., largest / first_largest))

    def mapped(self, maps: Mapping[str, SpaceMap]) -> nn.Module:
        """Return the network rewritten by maps of its spaces."""
        model = fresh_copy(self.twin)
        apply_maps(model, resolve_maps(self.graph.spaces, maps))
        refresh(model)
        return model

    def errors(self, maps: Mapping[str, SpaceMap]) -> list[float]:
        """Relative difference that maps make in each case, up to the first that is too large."""
        model, errors = self.mapped(maps), []
        for case in self.cases:
            try:
                output = run_in_double(model, case.inputs, case.flip)
                same = output.shape == case.reference.shape
                errors.append(float((output - case.reference).abs().max()) / case.scale if same else float('inf'))
            except Exception:  # mapped, it decides otherwise and ends in an error
                errors.append(float('inf'))
            if not errors[-1] <= TOLERANCE:
                break
        return errors

    def fails(self, maps: Mapping[str, SpaceMap]) -> Case | None:
        """Return the case in which maps change the outputs, None where they do not."""
        errors = self.errors(maps)
        return None if errors[-1] <= TOLERANCE else self.cases[len(errors) - 1]

    def moves(self, names: list[str]) -> dict[str, SpaceMap]:
        """Return random permutations of some spaces."""
        return random_permutations(self.graph.spaces, self.seed, set(names))

    def turns(self, names: list[str]) -> dict[str, SpaceMap]:
        """Return random maps of some spaces, from their groups."""
        return random_maps(self.graph.spaces, self.seed, set(names))

    def wrong(self) -> list[list[str]]:
        """All spaces whose permutations change the function, by the units that they move in."""
        return self._wrong(self.moves)

    def overclaimed(self) -> list[str]:
        """Return the spaces whose permutations leave the function as it is, and other maps from their groups do not."""
        return [name for unit in self._wrong(self.turns) for name in unit
                if self.graph.spaces[name].group != 'permutation']

    def _wrong(self, draw: Draw) -> list[list[str]]:
        return [[name for name in unit if self.fails(draw([name]))] or unit
                for unit in self._wrong_units(_units(self.graph.spaces), draw)]

    def _wrong_units(self, units: list[list[str]], draw: Draw) -> list[list[str]]:
        """Units that fail alone; one of them where only a combination fails."""
        if not units or self.fails(draw(sum(units, []))) is None:
            return []
        if len(units) == 1:
            return units
        half = len(units) // 2
        return self._wrong_units(units[:half], draw) + self._wrong_units(units[half:], draw) or units[:1]


def verify(graph: TracedModel, seed: int = 0) -> VerifyReport:
    """Map every space at random, by a map from its group, and compare outputs, in float64.

    The network runs as :class:`Proof` says. Nothing is repaired: :func:`mmreuse.graph.verified` does that.

    Raises:
        SpaceError: The outputs differ; names the space.
    """
    proof = Proof(graph, seed)
    errors = proof.errors(proof.turns(list(graph.spaces))) if graph.spaces else [0.]
    if not errors[-1] <= TOLERANCE:
        wrong = proof.wrong()
        guilty = wrong[0] if wrong else proof.overclaimed() or list(graph.spaces)
        how = 'Permuting' if wrong else f'Any map that is not a permutation ({graph.spaces[guilty[0]].group}) of'
        case = proof.cases[len(errors) - 1]
        raise SpaceError(f"{how} feature space {' with '.join(repr(name) for name in guilty)} changes the "
                         f'function of {type(graph.model).__name__} (relative error {errors[-1]:.1e} on {case.name}). '
                         '`mmreuse.graph.verified(model, inputs)` holds it and goes on. It was derived as\n'
                         f'{graph.spaces[guilty[0]]}')
    return VerifyReport(len(graph.spaces), sum(space.size for space in graph.spaces.values()), max(errors),
                        graph.share, tuple(case.name for case in proof.cases))


def _units(spaces: dict[str, FeatureSpace]) -> list[list[str]]:
    """Return the spaces that move together because their blocks do."""
    units = defaultdict(list)
    for name in spaces:
        top = name
        while spaces[top].block_space is not None:
            top = spaces[top].block_space
        units[top].append(name)
    return list(units.values())
