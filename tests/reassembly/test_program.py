"""The integer program: equal to exhaustive enumeration, exact at the budget, plain about what cannot be done."""
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreuse.errors import ConfigError, InfeasibleError
from mmreuse.reassembly.search.assembly_milp import AssemblyMILP
from mmreuse.reassembly.search.bounds import QUANTITIES, Bounds
from mmreuse.reassembly.search.paths import Choices, Trellis, enumerate_paths


def random_lattice(seed: int, positions: int = 3, states: int = 4, one_per_set: bool = True) -> Trellis:
    rng = np.random.default_rng(seed)
    before, choices = 1, []
    for _ in range(positions):
        arcs = [(s, t) for s in range(before) for t in range(states) if rng.random() < 0.8]
        source, target = (np.array(x, int) for x in zip(*arcs or [(0, 0)], strict=True))
        sets = rng.integers(positions, size=states)
        costs = np.column_stack([rng.integers(1, 60, len(source)), rng.integers(1, 60, len(source)),
                                 rng.random(len(source))]).astype(float)
        choices.append(Choices(source, target, sets[target], costs))
        before = states
    return Trellis(tuple(choices), one_per_set)


def brute_force(lattice: Trellis, bounds: Bounds) -> list[tuple[int, ...]]:
    """Feasible paths by plain iteration over the product of all choices."""
    found = []
    for path in itertools.product(*(range(len(choices)) for choices in lattice.positions)):
        rows = list(zip(lattice.positions, path, strict=True))
        joined = rows[0][0].source[path[0]] == 0 and all(
            a.target[i] == b.source[j] for (a, i), (b, j) in itertools.pairwise(rows))
        sets = [int(choices.sets[i]) for choices, i in rows]
        if not joined or (lattice.one_per_set and len(set(sets)) < len(sets)):
            continue
        total = sum(choices.costs[i] for choices, i in rows)
        limits = [bounds.limits(quantity) for quantity in QUANTITIES]
        if all(low < value <= high for value, (low, high) in zip(total, limits, strict=True)):
            found.append(path)
    return found


def random_values(lattice: Trellis, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed + 1)
    return [rng.integers(-50, 50, len(choices)) / 4 for choices in lattice.positions]


cases = st.tuples(st.integers(0, 10_000), st.integers(40, 150), st.integers(20, 80), st.booleans())


@settings(max_examples=40, deadline=None)
@given(cases)
def test_enumeration_is_brute_force(case):
    seed, high, low, one_per_set = case
    lattice = random_lattice(seed, one_per_set=one_per_set)
    bounds = Bounds(max_params=high, min_flops=low, max_latency=2.0)
    expected = brute_force(lattice, bounds)
    assert sorted(map(tuple, enumerate_paths(lattice, bounds).tolist())) == sorted(expected)


@settings(max_examples=15, deadline=None)
@given(cases)
def test_integer_program_is_enumeration_for_the_top_n(case):
    seed, high, low, one_per_set = case
    lattice = random_lattice(seed, one_per_set=one_per_set)
    bounds = Bounds(max_params=high, min_flops=low)
    values = random_values(lattice, seed)
    exact = AssemblyMILP(lattice, bounds, 'enumerate').best(values, 5)
    solved = AssemblyMILP(lattice, bounds, 'milp').best(values, 5)
    feasible = set(brute_force(lattice, bounds))
    assert len(solved) == len(set(solved)) == len(exact) == min(5, len(feasible))
    assert set(solved) <= feasible
    if exact:
        assert np.allclose(lattice.values(np.array(solved), values), lattice.values(np.array(exact), values))


@pytest.mark.parametrize('method', ['enumerate', 'milp'])
def test_a_budget_is_exact_to_one_parameter_in_a_hundred_million(method):
    costs = np.array([[100_000_000, 1, 0], [100_000_001, 1, 0]], float)
    lattice = Trellis((Choices(np.zeros(2, int), np.arange(2), np.zeros(2, int), costs), ))
    values = [np.array([0.0, 1.0])]
    assert AssemblyMILP(lattice, Bounds(max_params=100_000_000), method).best(values, 2) == [(0, )]
    assert AssemblyMILP(lattice, Bounds(min_params=100_000_000), method).best(values, 2) == [(1, )]


@pytest.mark.parametrize('method', ['enumerate', 'milp'])
def test_excluded_paths_do_not_come_back(method):
    lattice = random_lattice(3)
    values = random_values(lattice, 3)
    program = AssemblyMILP(lattice, Bounds(), method)
    first, second = program.best(values, 2)
    assert program.best(values, 1, exclude=[first]) == [second]


@pytest.mark.parametrize('method', ['enumerate', 'milp'])
@pytest.mark.parametrize('name', ['max_params', 'min_params', 'max_flops', 'min_flops'])
def test_the_binding_bound_is_named_with_its_nearest_value(method, name):
    lattice = random_lattice(5)
    paths = np.array(brute_force(lattice, Bounds()))
    column = QUANTITIES.index(name[4:])
    totals = lattice.totals(paths)[:, column]
    nearest, bound = (totals.min(), totals.min() - 1) if name.startswith('max') else (totals.max(), totals.max())
    with pytest.raises(InfeasibleError, match=f'{name} = .* binds.* {int(nearest):,}\\.'):
        AssemblyMILP(lattice, Bounds(**{name: bound}, max_latency=1e9), method).check()


def test_bounds_that_exclude_each_other_are_all_reported():
    costs = np.array([[10, 100, 0], [100, 10, 0]], float)
    lattice = Trellis((Choices(np.zeros(2, int), np.arange(2), np.zeros(2, int), costs), ))
    with pytest.raises(InfeasibleError, match='max_params = 50 binds.* 100.*max_flops = 50 binds.* 100'):
        AssemblyMILP(lattice, Bounds(max_params=50, max_flops=50)).check()
    with pytest.raises(InfeasibleError, match='No single bound is to blame.* 10\\..* 10\\.'):
        AssemblyMILP(lattice, Bounds(max_params=5, max_flops=5)).check()


def test_a_structure_without_assembly_is_not_blamed_on_the_budget():
    choices = Choices(np.zeros(1, int), np.zeros(1, int), np.zeros(1, int), np.ones((1, 3)))
    with pytest.raises(InfeasibleError, match='structural rules, whatever the budget'):
        AssemblyMILP(Trellis((choices, choices)), Bounds(max_params=10)).check()


def test_samples_are_feasible_distinct_and_seeded():
    lattice, bounds = random_lattice(8), Bounds(max_params=110)
    feasible = set(brute_force(lattice, bounds))
    for method in ('enumerate', 'milp'):
        program = AssemblyMILP(lattice, bounds, method)
        paths = program.sample(np.random.default_rng(0), 6)
        assert set(paths) <= feasible and len(set(paths)) == len(paths) == min(6, len(feasible))
        assert paths == program.sample(np.random.default_rng(0), 6)


def test_bad_options_are_config_errors():
    with pytest.raises(ConfigError, match="method 'annealing'.*'auto', 'enumerate', 'milp'"):
        AssemblyMILP(random_lattice(0), method='annealing')
    with pytest.raises(ConfigError, match='min_params = 5 leaves nothing below max_params = 5'):
        Bounds(min_params=5, max_params=5)
    lattice = random_lattice(0)
    with pytest.raises(ConfigError, match='NaN'):
        AssemblyMILP(lattice).best([np.full(len(choices), math.nan) for choices in lattice.positions], 1)
