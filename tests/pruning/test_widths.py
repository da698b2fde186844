"""Widths by an integer program."""
from itertools import product

import numpy as np
import pytest

from mmreuse.errors import ConfigError, InfeasibleError
from mmreuse.pruning.channels.widths import CostTable, choose_widths, cost_of, kept_saliency

CANDIDATES = {'stem': [8, 16], 'a': [4, 8, 12], 'b': [1, 2, 3, 4], 'c': [8, 16, 24]}


def problem(seed):
    """A chain, a layer from a stream to itself, one of three spaces, and a constant."""
    rng = np.random.default_rng(seed)
    sizes = {name: len(each) for name, each in CANDIDATES.items()}

    def table(*spaces):
        return CostTable(spaces, rng.uniform(0.2, 1, [sizes[name] for name in spaces]))

    costs = [table('stem', 'a'), table('a', 'b'), table('b', 'a'), table('stem', 'stem'), table('c'),
             table('c', 'b', 'stem'), table()]
    scores = {name: rng.exponential(size=each[-1]) for name, each in CANDIDATES.items()}
    return costs, kept_saliency(scores, CANDIDATES)


def combinations():
    return [dict(zip(CANDIDATES, each, strict=True)) for each in product(*CANDIDATES.values())]


@pytest.mark.parametrize('seed', range(6))
def test_the_program_finds_what_enumeration_finds(seed):
    costs, values = problem(seed)
    rows = [(cost_of(costs, CANDIDATES, widths), sum(
        values[name][CANDIDATES[name].index(width)] for name, width in widths.items())) for widths in combinations()]
    for limit in np.quantile([cost for cost, _ in rows], [0.02, 0.3, 0.7]):
        found = choose_widths(CANDIDATES, values, costs, limit)
        assert found.value == pytest.approx(max(value for cost, value in rows if cost <= limit), rel=1e-9)
        assert found.cost == pytest.approx(cost_of(costs, CANDIDATES, found.widths)) and found.cost <= limit
        assert found.gap == 0


def test_what_fits_the_budget_by_a_hair_is_chosen_and_what_misses_it_is_not():
    costs = [CostTable(('a',), np.array([1., 2.]))]
    values = {'a': [1., 5.]}
    assert choose_widths({'a': [1, 2]}, values, costs, 2.).widths == {'a': 2}
    assert choose_widths({'a': [1, 2]}, values, costs, 2 - 1e-8).widths == {'a': 1}


def test_a_budget_that_nothing_meets_names_the_least_possible():
    costs, values = problem(0)
    least = min(cost_of(costs, CANDIDATES, widths) for widths in combinations())
    assert choose_widths(CANDIDATES, values, costs, least).cost == pytest.approx(least)
    with pytest.raises(InfeasibleError, match=f'the least possible is {least:.6g} ms'):
        choose_widths(CANDIDATES, values, costs, 0.99 * least, unit='ms')


def test_the_most_salient_units_are_kept():
    assert kept_saliency({'a': [1., 5., 2.]}, {'a': [0, 1, 3]})['a'].tolist() == [0, 5, 8]


@pytest.mark.parametrize('costs, values', [
    ([CostTable(('a',), np.ones(3))], {'a': [1., 2.]}), ([CostTable(('b',), np.ones(2))], {'a': [1., 2.]}),
    ([], {'a': [1.]}), ([], {}), ([CostTable((), np.array(np.nan))], {'a': [1., 2.]})])
def test_arrays_that_do_not_fit_are_refused(costs, values):
    with pytest.raises(ConfigError):
        choose_widths({'a': [1, 2]}, values, costs, 9.)
