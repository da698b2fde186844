"""The integer program of reassembly: which blocks, at which resolution, within which budget.

Yang et al. (2022), section 3.2, choose one block per stage and one per equivalence set under bounds on parameters and
FLOPs. Over the layered graph of :mod:`mmreuse.reassembly.search.paths` that is a linear program: small graphs are
enumerated, large ones go to PuLP (HiGHS or CBC).
"""
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Literal

import numpy as np
import pulp

from mmreuse.errors import ConfigError, InfeasibleError
from mmreuse.reassembly.search.bounds import QUANTITIES, Bounds
from mmreuse.reassembly.search.paths import SOLVER_SLACK, Path, Trellis, enumerate_paths, useful_choices
from mmreuse.utils.names import refuse_other


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
        refuse_other('search: method', method, ('auto', 'enumerate', 'milp'))
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
             for i, row in enumerate(useful_choices(lattice, bounds))]
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
