"""The layered graph that a search runs over, and its paths.

What a block computes depends on the resolution that reaches it, so a *state* is a block at an arriving resolution, and
a *choice* an arc into a state: the block, and the stitching layer with its stride in front of it. Then every cost is a
sum over the K choices of a path, exactly.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmreuse.reassembly.search.bounds import QUANTITIES, Bounds

Path = tuple[int, ...]  # one choice per position

#: Relative slack of a budget inside the solver, whose arithmetic is not exact; what it
#: returns is checked against the exact budget.
SOLVER_SLACK = 1e-6


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


def useful_choices(lattice: Trellis, bounds: Bounds) -> list[np.ndarray]:
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
