"""Widths of feature spaces by an integer program: the most saliency that a budget pays for."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import coo_array, csr_array, vstack

from mmreuse.errors import ConfigError, InfeasibleError

#: Relative slack of the budget inside the solver, whose arithmetic is not exact; what it finds is checked exactly.
_SLACK = 1e-7
#: Sum of the largest values in the solver's objective, which stops at an absolute gap of 1e-6.
_SCALE = 1e3


@dataclass(frozen=True, eq=False)
class CostTable:
    """What one part of a network costs, at every combination of candidate widths of the spaces that it depends on."""
    spaces: tuple[str, ...]  # none for what costs the same at all widths
    costs: np.ndarray  # an axis for each space, as long as the space has candidates


@dataclass(frozen=True)
class WidthChoice:
    """The optimum of :func:`choose_widths`."""
    widths: dict[str, int]  # by space
    value: float
    cost: float
    gap: float  # how much more than ``value`` there may be at most, as a share of it; 0 where the optimum is proven


def choose_widths(candidates: Mapping[str, Sequence[int]], values: Mapping[str, Sequence[float]],
                  costs: Sequence[CostTable], limit: float, *, unit: str = '', seconds: float = 60.) -> WidthChoice:
    """Choose one width for every space, so that their summed value is largest and the summed cost within a limit.

    ::

        candidates = {'stem': [8, 16], 'layer1.0.conv1': [8, 16, 24, 32]}
        values = kept_saliency({name: saliency_of_my_own(name) for name in candidates}, candidates)
        costs = [CostTable(('stem', 'layer1.0.conv1'), milliseconds),   # (2, 4): of a layer between the two
                 CostTable((), np.array(0.1))]                          # of all the rest
        choice = choose_widths(candidates, values, costs, 0.8, unit='ms')
        maps = {name: Select(saliency.topk(choice.widths[name]).indices.sort().values) ...}

    An integer program over one-hot choices ``x``; a table of several spaces costs ``sum(costs * y)``, where ``y >= 0``
    has the choices of its spaces as marginals and so is their product. HiGHS solves it.

    Args:
        candidates: Widths that may be chosen, by space.
        values: What each candidate is worth, e.g. the summed saliency of the units it keeps (:func:`kept_saliency`).
        costs: Tables whose sum is the network's cost, in any unit, along any of the spaces.
        limit: Of the cost.
        unit: Of the cost, for the message.
        seconds: After so many the best that is known is returned, with its gap.

    Returns:
        WidthChoice: The widths.

    Raises:
        ConfigError: Arrays do not fit each other or are not finite, or nothing was found in time.
        InfeasibleError: Every choice costs more than the limit; names the least possible.
    """
    tables = _joined(candidates, values, costs)
    program = _Program(candidates, tables)
    worth = np.concatenate([np.asarray(values[name], float) for name in candidates])
    scale = _SCALE / max(1e-300, sum(np.abs(np.asarray(values[name], float)).max() for name in candidates))
    excluded: list[tuple[int, ...]] = []
    while True:
        found = program.solve(-scale * worth, limit, excluded, seconds=seconds)
        if found.x is None:
            if found.status != 2:
                raise ConfigError(f'the integer program of the widths found nothing in {seconds} seconds: '
                                  f'{found.message} Allow more, or fewer candidate widths.')
            raise InfeasibleError(_refusal(program, tables, candidates, limit, unit, seconds))
        picks = program.picks(found)
        cost = _cost(tables, candidates, picks)
        if cost <= limit * (1 + 1e-12):
            break
        excluded.append(picks)  # within the solver's tolerance only
    widths = {name: int(each[pick]) for (name, each), pick in zip(candidates.items(), picks, strict=True)}
    value = float(sum(values[name][pick] for name, pick in zip(candidates, picks, strict=True)))
    bound = -found.mip_dual_bound / scale if found.mip_dual_bound is not None else value
    gap = (bound - value) / max(abs(value), 1e-300)
    return WidthChoice(widths, value, cost, gap if gap > _SLACK else 0.)


def kept_saliency(scores: Mapping[str, Sequence[float]], candidates: Mapping[str, Sequence[int]],
                  ) -> dict[str, np.ndarray]:
    """Return the summed saliency of the most salient units that each candidate width keeps.

    Args:
        scores: Saliency of every unit of a space, by space: arrays or tensors of (size of the space,).
        candidates: Widths, by space.

    Returns:
        dict: (number of candidates,) float64, by space.
    """
    found = {}
    for name, widths in candidates.items():
        best = np.sort(np.asarray(scores[name], dtype=np.float64))[::-1]
        found[name] = np.concatenate([[0.], best.cumsum()])[list(widths)]
    return found


def cost_of(costs: Sequence[CostTable], candidates: Mapping[str, Sequence[int]], widths: Mapping[str, int]) -> float:
    """Return what a network of some of the candidate widths costs; of the last candidate where none is given."""
    picks = {name: list(each).index(widths[name]) if name in widths else len(each) - 1
             for name, each in candidates.items()}
    return float(sum(table.costs[tuple(picks[name] for name in table.spaces)] for table in costs))


Tables = dict[tuple[str, ...], np.ndarray]


def _joined(candidates: Mapping[str, Sequence[int]], values: Mapping[str, Sequence[float]],
            costs: Sequence[CostTable]) -> Tables:
    """Check all arrays and add up the tables of the same spaces, each of which they name once, in one order."""
    for name, each in candidates.items():
        if len(each) < 1 or np.shape(values.get(name)) != (len(each),) or not np.isfinite(values[name]).all():
            raise ConfigError(f"space '{name}' has {len(each)} candidate widths and values of shape "
                              f'{np.shape(values.get(name))}: one finite value for each of at least one is needed.')
    order = {name: place for place, name in enumerate(candidates)}
    joined: Tables = {}
    for table in costs:
        shape = tuple(len(candidates.get(name, ())) for name in table.spaces)
        if table.costs.shape != shape or not np.isfinite(table.costs).all():
            raise ConfigError(f'costs along {table.spaces} have the shape {table.costs.shape}: finite numbers for all '
                              f'candidates, {shape}, are needed.')
        spaces = tuple(sorted(set(table.spaces), key=order.__getitem__))
        # A space that is named twice, as by a layer that reads and writes one stream, leaves the diagonal.
        array = np.einsum(table.costs, list(map(spaces.index, table.spaces)), list(range(len(spaces))))
        joined[spaces] = joined.get(spaces, 0.) + array
    return joined


def _cost(tables: Tables, candidates: Mapping[str, Sequence[int]], picks: Sequence[int]) -> float:
    chosen = dict(zip(candidates, picks, strict=True))
    return float(sum(table[tuple(chosen[name] for name in spaces)] for spaces, table in tables.items()))


class _Program:
    """The constraints: a choice for every space, products of choices, the sum of costs.

    Variables are those of the spaces, one after the other, then the cells of every table of several spaces.
    """

    def __init__(self, candidates: Mapping[str, Sequence[int]], tables: Tables) -> None:
        self.sizes = [len(each) for each in candidates.values()]
        self.starts = dict(zip(candidates, accumulate([0, *self.sizes[:-1]]), strict=True))
        self.choices = sum(self.sizes)
        products = {spaces: table for spaces, table in tables.items() if len(spaces) > 1}
        self.count = self.choices + sum(table.size for table in products.values())
        self.constant = float(tables.get((), 0.))
        self.costs = np.zeros(self.count)
        rows, goals = [self._one_each()], [np.ones(len(self.sizes))]
        for spaces, table in tables.items():
            if len(spaces) == 1:
                self.costs[self.starts[spaces[0]]:][:table.size] += table
        place = self.choices
        for spaces, table in products.items():
            self.costs[place:place + table.size] = table.ravel()
            for axis, name in enumerate(spaces):
                rows.append(self._marginal(place, table.shape, axis, self.starts[name]))
                goals.append(np.zeros(table.shape[axis]))
            place += table.size
        self.matrix, self.goal = csr_array(vstack(rows)), np.concatenate(goals)

    def _one_each(self) -> coo_array:
        rows = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return coo_array((np.ones(self.choices), (rows, np.arange(self.choices))), (len(self.sizes), self.count))

    def _marginal(self, place: int, shape: tuple[int, ...], axis: int, start: int) -> coo_array:
        """Return the rows that say: products, summed over all other axes, are the choice of this one's space."""
        rows, own = np.indices(shape)[axis].ravel(), np.arange(shape[axis])
        return coo_array((np.concatenate([np.ones(rows.size), -np.ones(own.size)]), (
            np.concatenate([rows, own]), np.concatenate([place + np.arange(rows.size), start + own]))),
            (shape[axis], self.count))

    def solve(self, objective: np.ndarray, limit: float = inf, excluded: Sequence[tuple[int, ...]] = (), *,
              seconds: float) -> OptimizeResult:
        """Minimise an objective on the first variables, or on all, within a limit of the costs."""
        constraints = [LinearConstraint(self.matrix, self.goal, self.goal)]
        scale = max(abs(limit), 1e-300)
        if np.isfinite(limit):
            constraints.append(LinearConstraint(self.costs / scale, -inf, (limit - self.constant) / scale + _SLACK))
        for picks in excluded:
            row = np.zeros(self.count)
            row[[start + pick for start, pick in zip(self.starts.values(), picks, strict=True)]] = 1
            constraints.append(LinearConstraint(row, -inf, len(picks) - 1))
        whole = np.zeros(self.count)
        whole[:len(objective)] = objective
        return milp(whole, integrality=np.arange(self.count) < self.choices, bounds=Bounds(0, 1),
                    constraints=constraints, options=dict(mip_rel_gap=0, time_limit=seconds))

    def picks(self, found: OptimizeResult) -> tuple[int, ...]:
        """Return the chosen candidate of every space."""
        return tuple(int(found.x[start:start + size].argmax())
                     for start, size in zip(self.starts.values(), self.sizes, strict=True))


def _refusal(program: _Program, tables: Tables, candidates: Mapping[str, Sequence[int]], limit: float, unit: str,
             seconds: float) -> str:
    cheapest = program.solve(program.costs / max(np.abs(program.costs).max(), 1e-300), seconds=seconds)
    least = _cost(tables, candidates, program.picks(cheapest))
    wanted, possible = (f'{number:.6g} {unit}'.rstrip() for number in (limit, least))
    return (f'no widths cost at most {wanted}: the least possible is {possible}. Ask for that much, allow narrower '
            'widths (a smaller minimum or multiple), or let more spaces shrink.')
