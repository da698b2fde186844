"""The integer program of reassembly: which blocks, at which resolution, within which budget.

Yang et al. (2022), section 3.2, choose one block per stage and one per equivalence set
under bounds on parameters and FLOPs. What a block computes depends on the resolution that
reaches it, so the program runs over a layered graph: a *state* is a block at an arriving
resolution, a *choice* an arc into a state (the block, and the stitching layer with its stride
in front of it). Then every cost is a sum over the K choices of a path, exactly, and the
program is linear: small graphs are enumerated, large ones go to PuLP (HiGHS or CBC).
"""
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Literal

import numpy as np
import pulp

from mmreuse.errors import ConfigError, InfeasibleError

QUANTITIES = ('params', 'flops', 'latency')
Path = tuple[int, ...]  # one choice per position

#: Relative slack of a budget inside the solver, whose arithmetic is not exact; what it
#: returns is checked against the exact budget.
SOLVER_SLACK = 1e-6


@dataclass(frozen=True)
class Bounds:
    """Budget of the whole classifier, ``minimum < value <= maximum`` as published."""
    min_params: float = -math.inf
    max_params: float = math.inf
    min_flops: float = -math.inf  # multiply-accumulates
    max_flops: float = math.inf
    min_latency: float = -math.inf  # seconds per batch of one
    max_latency: float = math.inf

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
                raise ConfigError(f'bounds: {name} = {value!r} must be a number')
        for quantity in QUANTITIES:
            low, high = self.limits(quantity)
            if not low < high:
                raise ConfigError(f'bounds: min_{quantity} = {low:,} leaves nothing below max_{quantity} = {high:,}')

    def limits(self, quantity: str) -> tuple[float, float]:
        return getattr(self, f'min_{quantity}'), getattr(self, f'max_{quantity}')

    @property
    def given(self) -> tuple[str, ...]:
        """Return the names of the bounds that say something."""
        return tuple(name for name, value in vars(self).items() if math.isfinite(value))

    def without(self, name: str) -> 'Bounds':
        return replace(self, **{name: -math.inf if name.startswith('min_') else math.inf})

    def hold(self, totals: np.ndarray) -> np.ndarray:
        """Return which rows of ``totals`` (n, 3), ordered as :data:`QUANTITIES`, are within the budget: (n,) bool."""
        limits = np.array([self.limits(quantity) for quantity in QUANTITIES])
        return ((totals > limits[:, 0]) & (totals <= limits[:, 1])).all(axis=1)


@dataclass(frozen=True)
class Choices:
    """The choices open at one position."""
    source: np.ndarray  # (n,) int, state of the position before; all 0 at the first
    target: np.ndarray  # (n,) int, state of this position
    sets: np.ndarray  # (n,) int, equivalence set of the target's block
    costs: np.ndarray  # (n, 3) float64, params, flops, latency of adapter and block

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Trellis:
    """All assemblies the structural rules allow, as paths of one choice per position."""
    positions: tuple[Choices, ...]
    one_per_set: bool = True

    @cached_property
    def num_states(self) -> tuple[int, ...]:
        """States of each position, those that no choice leads to included."""
        following = [choices.source for choices in self.positions[1:]] + [np.zeros(0, int)]
        return tuple(1 + max(choices.target.max(initial=-1), source.max(initial=-1))
                     for choices, source in zip(self.positions, following, strict=True))

    @cached_property
    def num_sets(self) -> int:
        return 1 + max(int(choices.sets.max(initial=-1)) for choices in self.positions)

    @cached_property
    def completions(self) -> tuple[np.ndarray, ...]:
        """Return, by position, how many paths end through each choice, sets disregarded: (n,) float64."""
        counts = [np.ones(len(self.positions[-1]))]
        for position in range(len(self.positions) - 2, -1, -1):
            following = np.bincount(
                self.positions[position + 1].source, weights=counts[0], minlength=self.num_states[position])
            counts.insert(0, following[self.positions[position].target])
        return tuple(counts)

    def totals(self, paths: np.ndarray) -> np.ndarray:
        """Costs of ``paths`` (m, K): (m, 3) float64, exact for the integer ones."""
        return sum(choices.costs[paths[:, i]] for i, choices in enumerate(self.positions))

    def values(self, paths: np.ndarray, values: Sequence[np.ndarray]) -> np.ndarray:
        """Objective of ``paths`` (m, K) under one value per choice: (m,) float64."""
        return sum(values[i][paths[:, i]] for i in range(len(self.positions)))


def _completions(lattice: Trellis, extreme: np.ufunc, none: float) -> list[np.ndarray]:
    """By position, the ``extreme`` cost of what follows each state, sets disregarded: (states, 3), or ``none``."""
    ahead = [np.zeros((lattice.num_states[-1], 3))]
    for position in range(len(lattice.positions) - 2, -1, -1):
        choices = lattice.positions[position + 1]
        costs = np.full((lattice.num_states[position], 3), none)
        extreme.at(costs, choices.source, choices.costs + ahead[0][choices.target])
        ahead.insert(0, costs)
    return ahead


def _totals_through(lattice: Trellis, extreme: np.ufunc, none: float) -> list[np.ndarray]:
    """Return, by position, the ``extreme`` total of all paths through each choice, sets disregarded: (n, 3)."""
    through, behind = [], np.zeros((1, 3))
    ahead = _completions(lattice, extreme, none)
    for choices, states, rest in zip(lattice.positions, lattice.num_states, ahead, strict=True):
        here = behind[choices.source] + choices.costs
        through.append(here + rest[choices.target])
        behind = np.full((states, 3), none)
        extreme.at(behind, choices.target, here)
    return through


def _useful(lattice: Trellis, bounds: Bounds) -> list[np.ndarray]:
    """By position, which choices some path may take within the bounds: (n,) bool. Spares the solver the others."""
    low, high = np.array([bounds.limits(quantity) for quantity in QUANTITIES]).T
    least, most = (_totals_through(lattice, *extreme) for extreme in ((np.minimum, np.inf), (np.maximum, -np.inf)))
    return [(np.isfinite(a) & (a <= high * (1 + SOLVER_SLACK)) & (b >= low * (1 - SOLVER_SLACK))).all(axis=1)
            for a, b in zip(least, most, strict=True)]


def enumerate_paths(lattice: Trellis, bounds: Bounds | None = None) -> np.ndarray:
    """Every path within the bounds, (m, K) int32, by vectorised breadth-first growth.

    A partial path is dropped once the cheapest way to complete it breaks a maximum.
    """
    bounds = bounds or Bounds()
    cheapest = _completions(lattice, np.minimum, np.inf)
    highs = np.array([bounds.limits(quantity)[1] for quantity in QUANTITIES]) * (1 + 1e-12)
    paths = np.zeros((1, 0), np.int32)
    costs, states, used = np.zeros((1, 3)), np.zeros(1, int), np.zeros(1, np.int64)
    for position, choices in enumerate(lattice.positions):
        order = np.argsort(choices.source, kind='stable')
        count = np.bincount(choices.source, minlength=states.max(initial=0) + 1)
        begin = np.concatenate([[0], np.cumsum(count)])
        fan = count[states]
        parent = np.repeat(np.arange(len(states)), fan)
        within = np.arange(len(parent)) - np.repeat(np.cumsum(fan) - fan, fan)
        choice = order[begin[states[parent]] + within]
        bit = np.int64(1) << choices.sets[choice]
        reach = costs[parent] + choices.costs[choice]
        least = cheapest[position][choices.target[choice]]
        # An unlimited quantity prunes too: the least completion of a dead end is infinite.
        keep = np.isfinite(least).all(axis=1) & (reach + least <= highs).all(axis=1)
        if lattice.one_per_set:
            keep &= (used[parent] & bit) == 0
        parent, choice = parent[keep], choice[keep]
        paths = np.concatenate([paths[parent], choice[:, None].astype(np.int32)], axis=1)
        costs, used, states = reach[keep], used[parent] | bit[keep], choices.target[choice]
    return paths[bounds.hold(costs)]


class AssemblyMILP:
    """Best paths of a lattice within bounds.

    Args:
        lattice: What may be chosen.
        bounds: Budget.
        method: 'enumerate', 'milp' (PuLP), or 'auto': enumerate where there are at most ``limit`` paths.
        limit: Paths that fit comfortably in memory.

    Raises:
        ConfigError: Unknown method.
    """

    def __init__(self, lattice: Trellis, bounds: Bounds | None = None,
                 method: Literal['auto', 'enumerate', 'milp'] = 'auto', limit: int = 10_000_000) -> None:
        if method not in ('auto', 'enumerate', 'milp'):
            raise ConfigError(f"method = '{method}' is not known. Choose from: auto, enumerate, milp")
        self.lattice, self.bounds, self.method, self.limit = lattice, bounds or Bounds(), method, limit
        self.enumerable = method == 'enumerate' or (
            method == 'auto' and lattice.completions[0].sum() <= limit)

    @cached_property
    def feasible(self) -> np.ndarray:
        """All feasible paths, (m, K); only sensible where ``enumerable``."""
        return enumerate_paths(self.lattice, self.bounds)

    def best(self, values: Sequence[np.ndarray], count: int, exclude: Sequence[Path] = ()) -> list[Path]:
        """Return the ``count`` feasible paths of largest total value, best first.

        Args:
            values: By position, the value of each choice, (n,) float64.
            count: Paths wanted; fewer come back when there are no more.
            exclude: Paths that are not wanted.
        """
        if not all(np.isfinite(value).all() for value in values):
            raise ConfigError('the objective of the program holds NaN or infinite values')
        if self.enumerable:
            total = self.lattice.values(self.feasible, values)
            unwanted, order = set(exclude), np.argsort(-total, kind='stable')
            candidates = (tuple(map(int, self.feasible[i])) for i in order)
            return list(islice((path for path in candidates if path not in unwanted), count))
        found = list(islice(self._solutions(values, exclude), count))
        array = np.array(found, int).reshape(len(found), len(self.lattice.positions))
        return [found[i] for i in np.argsort(-self.lattice.values(array, values), kind='stable')]

    def sample(self, rng: np.random.Generator, count: int) -> list[Path]:
        """Random distinct feasible paths: uniform where they can be enumerated or met by chance within 50 draws each.

        Else the optimum of a random objective, which is feasible but not uniform.
        """
        if self.enumerable:
            picks = rng.choice(len(self.feasible), min(count, len(self.feasible)), replace=False)
            return [tuple(map(int, self.feasible[i])) for i in picks]
        found: dict[Path, None] = {}
        for _ in range(50 * count):
            if len(found) == count:
                break
            if (path := self._walk(rng)) is not None and self._allowed(path):
                found[path] = None
        while len(found) < count:
            values = [rng.standard_normal(len(choices)) for choices in self.lattice.positions]
            extra = self.best(values, 1, exclude=list(found))
            if not extra:
                break
            found[extra[0]] = None
        return list(found)

    def check(self) -> None:
        """Raise unless some path is feasible.

        Raises:
            InfeasibleError: Names the bounds that bind and the nearest feasible value of each.
        """
        zero = [np.zeros(len(choices)) for choices in self.lattice.positions]
        if not self.best(zero, 1):
            raise InfeasibleError(self._explanation())

    def _walk(self, rng: np.random.Generator) -> Path | None:
        """Return a path drawn uniformly among all paths of the lattice, sets and bounds disregarded."""
        path, state = [], 0
        for choices, completions in zip(self.lattice.positions, self.lattice.completions, strict=True):
            open_choices = np.flatnonzero((choices.source == state) & (completions > 0))
            if not len(open_choices):
                return None
            weight = completions[open_choices]
            path.append(int(rng.choice(open_choices, p=weight / weight.sum())))
            state = choices.target[path[-1]]
        return tuple(path)

    def _allowed(self, path: Path) -> bool:
        sets = [choices.sets[i] for choices, i in zip(self.lattice.positions, path, strict=True)]
        if self.lattice.one_per_set and len(set(sets)) < len(sets):
            return False
        return bool(self.bounds.hold(self.lattice.totals(np.array([path])))[0])

    def _solutions(self, values: Sequence[np.ndarray], exclude: Sequence[Path]) -> Iterator[Path]:
        """Feasible paths in order of decreasing value: solve, cut the solution off, solve again."""
        problem, picks = _formulate(self.lattice, self.bounds, values)
        for number, path in enumerate(exclude):
            problem += _chosen(picks, path) <= len(path) - 1, f'excluded_{number}'
        solver, number = _solver(), 0
        while problem.solve(solver) == pulp.LpStatusOptimal:
            path = tuple(next(i for i, pick in enumerate(row) if pick.value() > 0.5) for row in picks)
            if self._allowed(path):
                yield path
            problem += _chosen(picks, path) <= len(path) - 1, f'found_{number}'
            number += 1

    def _explanation(self) -> str:
        structure = AssemblyMILP(self.lattice, method=self.method, limit=self.limit)
        zero = [np.zeros(len(choices)) for choices in self.lattice.positions]
        if not structure.best(zero, 1):
            return ('No assembly obeys the structural rules, whatever the budget: the positions and equivalence sets '
                    'of the partition cannot all be served. Allow several blocks of a set (one_per_set=False), '
                    'transformers before CNNs, or partition with one block of each set per net (bijective=True).')
        lines, binding = [], False
        for name in self.bounds.given:
            nearest = self._nearest(name, self.bounds.without(name))
            if nearest is not None:
                binding = True
                lines.append(f'{name} = {getattr(self.bounds, name):,} binds: with the other bounds kept, the nearest '
                             f'feasible value is {nearest:,}.')
        if not binding:
            lines.append('No single bound is to blame.')
            for name in self.bounds.given:
                nearest = self._nearest(name, Bounds())
                lines.append(f'{name} = {getattr(self.bounds, name):,}: without any other bound the '
                             f"{'largest' if name.startswith('min_') else 'smallest'} value is {nearest:,}.")
        return ' '.join(['No assembly is within the bounds.', *lines])

    def _nearest(self, name: str, bounds: Bounds) -> float | None:
        """The least value within ``bounds`` of the quantity that maximum ``name`` limits, the largest for a minimum."""
        side, quantity = name.split('_')
        column = QUANTITIES.index(quantity)
        costs = [choices.costs[:, column] for choices in self.lattice.positions]
        scale = max(1e-12, max(np.abs(cost).max(initial=0) for cost in costs))
        sign = 1 if side == 'min' else -1
        relaxed = AssemblyMILP(self.lattice, bounds, self.method, self.limit)
        path = relaxed.best([sign * cost / scale for cost in costs], 1)
        if not path:
            return None
        value = float(self.lattice.totals(np.array(path))[0, column])
        return int(value) if quantity != 'latency' else value


def _formulate(lattice: Trellis, bounds: Bounds, values: Sequence[np.ndarray]
               ) -> tuple[pulp.LpProblem, list[list[pulp.LpVariable]]]:
    """One binary per choice; flow is kept at every state, each set and budget is one row."""
    problem = pulp.LpProblem('reassembly', pulp.LpMaximize)
    picks = [[pulp.LpVariable(f'x_{i}_{j}', 0, int(useful), pulp.LpInteger) for j, useful in enumerate(row)]
             for i, row in enumerate(_useful(lattice, bounds))]
    problem += pulp.lpSum(float(v) * x for row, value in zip(picks, values, strict=True)
                          for x, v in zip(row, value, strict=True))
    for i, row in enumerate(picks):
        problem += pulp.lpSum(row) == 1, f'one_block_{i}'
    for i, (before, after) in enumerate(zip(lattice.positions, lattice.positions[1:], strict=False)):
        for state in range(lattice.num_states[i]):
            arriving = [picks[i][j] for j in np.flatnonzero(before.target == state)]
            leaving = [picks[i + 1][j] for j in np.flatnonzero(after.source == state)]
            problem += pulp.lpSum(arriving) == pulp.lpSum(leaving), f'flow_{i}_{state}'
    if lattice.one_per_set:
        for group in range(lattice.num_sets):
            members = [picks[i][j] for i, choices in enumerate(lattice.positions)
                       for j in np.flatnonzero(choices.sets == group)]
            problem += pulp.lpSum(members) <= 1, f'set_{group}'
    for column, quantity in enumerate(QUANTITIES):
        low, high = bounds.limits(quantity)
        if not (math.isfinite(low) or math.isfinite(high)):
            continue
        scale = max(1e-12, *(abs(limit) for limit in (low, high) if math.isfinite(limit)))
        total = pulp.lpSum(float(cost / scale) * x for row, choices in zip(picks, lattice.positions, strict=True)
                           for x, cost in zip(row, choices.costs[:, column], strict=True))
        if math.isfinite(high):
            problem += total <= high / scale + SOLVER_SLACK, f'max_{quantity}'
        if math.isfinite(low):
            problem += total >= low / scale - SOLVER_SLACK, f'min_{quantity}'
    return problem, picks


def _chosen(picks: list[list[pulp.LpVariable]], path: Path) -> pulp.LpAffineExpression:
    return pulp.lpSum(row[i] for row, i in zip(picks, path, strict=True))


def _solver() -> pulp.LpSolver:
    """HiGHS where ``highspy`` is installed, else the CBC that PuLP brings along."""
    highs = pulp.HiGHS(msg=False, gapRel=0, threads=1)
    return highs if highs.available() else pulp.PULP_CBC_CMD(msg=False, gapRel=0, threads=1)
