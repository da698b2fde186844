"""Every merger against a direct evaluation of its equation, and what must hold of it."""
import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from mmreuse.errors import ConfigError
from mmreuse.registry import MERGERS, Method
from mmreuse.utils.configs.methods import find_method

from .helpers import normal

NETWORKS, OUT, IN = 3, 5, 7
#: Options under which a merger gives back the one network that it is given several times, times the factor.
SAME = dict(average=({}, 1), fisher=({}, 1), regmean=({}, 1), task_arithmetic=({}, NETWORKS), ties=(dict(keep=1), 1),
            dare=(dict(drop=0), NETWORKS), consensus=(dict(threshold=0), NETWORKS), wudi=({}, 1), ace=({}, 1))
ALL = [*SAME, 'iso_c', 'tsv']


def grams_of(number: int, size: int = IN) -> Tensor:
    inputs = normal(40, size, seed=100 + number) * (1 + torch.arange(size)) + number
    return inputs.T @ inputs / len(inputs)


def stack(seed: int = 0) -> Tensor:
    """Task matrices of one group each, (n, 1, out, in), of differing sizes."""
    return torch.stack([normal(1, OUT, IN, seed=seed + number) * (1 + number) for number in range(NETWORKS)])


def merged(method: Method, matrices: Tensor, order: list[int] | None = None) -> Tensor:
    """Run any merger on matrices, flattened if it takes rows."""
    order = order or list(range(len(matrices)))
    rows = matrices.flatten(1)
    information = normal(*rows.shape, seed=50).square()
    grams = torch.stack([grams_of(number) for number in range(len(matrices))])[:, None]
    given = dict(weights=rows, task_vectors=rows, matrices=matrices, task_matrices=matrices, grams=grams,
                 fisher=information)
    given = {name: each[order] for name, each in given.items()}
    return method(**method.accepted(given)).reshape(matrices.shape[1:])


def test_all_mergers_are_known_and_checked() -> None:
    MERGERS.import_from_location()
    assert set(MERGERS.module_dict) == set(ALL)


def test_average() -> None:
    rows = stack().flatten(1)
    expected = [sum(float(each[place]) for each in rows) / NETWORKS for place in range(rows.shape[1])]
    torch.testing.assert_close(find_method(MERGERS, 'average')(rows).tolist(), expected)


def test_fisher_weighs_every_number_and_is_plain_where_nothing_is_known() -> None:
    rows = stack().flatten(1)
    information = normal(*rows.shape, seed=50).square()
    information[:, 3] = 0
    found = find_method(MERGERS, 'fisher')(rows, information)
    for place in range(rows.shape[1]):
        top = sum(float(information[t, place] * rows[t, place]) for t in range(NETWORKS))
        below = sum(float(information[t, place]) for t in range(NETWORKS))
        expected = top / below if below else float(rows[:, place].mean())
        assert math.isclose(float(found[place]), expected, rel_tol=1e-12)


def test_task_arithmetic() -> None:
    rows = stack().flatten(1)
    expected = [math.fsum(each[place] for each in rows.tolist()) for place in range(rows.shape[1])]
    torch.testing.assert_close(find_method(MERGERS, 'task_arithmetic')(rows).tolist(), expected)


@pytest.mark.parametrize('keep', [0.2, 0.5, 1.])
def test_ties(keep: float) -> None:
    rows = stack().flatten(1).tolist()
    size = len(rows[0])
    trimmed = []
    for row in rows:
        largest = sorted(range(size), key=lambda place, row=row: -abs(row[place]))[:max(1, round(keep * size))]
        trimmed.append([row[place] if place in largest else 0. for place in range(size)])
    expected = []
    for column in zip(*trimmed, strict=True):
        sign = np.sign(sum(column))
        same = [each for each in column if np.sign(each) == sign and each]
        expected.append(sum(same) / len(same) if same else 0.)
    found = find_method(MERGERS, dict(type='ties', keep=keep))(torch.tensor(rows, dtype=torch.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_ties_keeps_a_number_that_others_trimmed_whole() -> None:
    rows = torch.tensor([[4., 1., -1.], [0.1, -3., -1.]], dtype=torch.float64)
    assert find_method(MERGERS, dict(type='ties', keep=1 / 3))(rows).tolist() == [4., -3., 0.]
    assert find_method(MERGERS, dict(type='ties', keep=1.))(rows).tolist() == [2.05, -3., -1.]


def test_dare_drops_and_rescales() -> None:
    rows = stack().flatten(1)
    found = find_method(MERGERS, dict(type='dare', drop=0.6, seed=4))(rows)
    sums = torch.stack([rows[list(chosen)].sum(0) if chosen else torch.zeros_like(rows[0])
                        for size in range(NETWORKS + 1) for chosen in itertools.combinations(range(NETWORKS), size)])
    assert ((sums / 0.4 - found).abs().min(0).values < 1e-12).all()
    assert found.eq(find_method(MERGERS, dict(type='dare', drop=0.6, seed=4))(rows)).all()
    assert found.ne(find_method(MERGERS, dict(type='dare', drop=0.6, seed=5))(rows)).any()
    draws = torch.stack([find_method(MERGERS, dict(type='dare', drop=0.6, seed=seed))(rows) for seed in range(600)])
    error = draws.std(0) / 600**0.5
    assert ((draws.mean(0) - rows.sum(0)).abs() < 5 * error).all()


@pytest.mark.parametrize(('threshold', 'agree'), [(0.2, 2), (0.6, 2), (1.5, 1), (0.1, 3)])
def test_consensus(threshold: float, agree: int) -> None:
    rows = stack().flatten(1).tolist()
    expected = []
    for column in zip(*rows, strict=True):
        total = sum(column)
        needed = sum(abs(each) > threshold * abs(total - each) for each in column)
        expected.append(total if needed >= agree else 0.)
    method = find_method(MERGERS, dict(type='consensus', threshold=threshold, agree=agree))
    found = method(torch.tensor(rows, dtype=torch.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert any(expected) and not all(expected)


def test_regmean_is_least_squares_on_joined_data() -> None:
    layers = [normal(OUT, IN, seed=number) for number in range(NETWORKS)]
    inputs = [normal(30, IN, seed=20 + number) @ normal(IN, IN, seed=30 + number) for number in range(NETWORKS)]
    targets = torch.cat([each @ layer.T for each, layer in zip(inputs, layers, strict=True)])
    expected = torch.linalg.lstsq(torch.cat(inputs), targets).solution.T
    found = find_method(MERGERS, dict(type='regmean', off_diagonal=1.))(
        torch.stack(layers), torch.stack([each.T @ each / len(each) for each in inputs]))
    torch.testing.assert_close(found, expected)


def test_regmean_shrinks_off_diagonals_and_averages_what_no_input_shows() -> None:
    matrices, grams = stack(), torch.stack([grams_of(number) for number in range(NETWORKS)])[:, None]
    shrunk = grams.clone()
    for one, other in itertools.permutations(range(IN), 2):
        shrunk[..., one, other] *= 0.9
    expected = sum(matrices[t, 0] @ shrunk[t, 0] for t in range(NETWORKS)) @ shrunk.sum(0)[0].inverse()
    torch.testing.assert_close(find_method(MERGERS, 'regmean')(matrices, grams)[0], expected)
    grams[..., 2, :], grams[..., :, 2] = 0, 0
    found = find_method(MERGERS, 'regmean')(matrices, grams)
    torch.testing.assert_close(found[..., 2], matrices.mean(0)[..., 2])


@pytest.mark.parametrize('name', ['wudi', 'ace'])
def test_wudi_and_ace_solve_their_normal_equations(name: str) -> None:
    tasks = stack()[:, 0]
    weights = [1 / float(each.square().sum()) if name == 'wudi' else 1. for each in tasks]
    left = sum(weight * np.kron(np.eye(OUT), (each.T @ each).numpy())
               for weight, each in zip(weights, tasks, strict=True))
    right = sum(weight * (each @ each.T @ each).numpy().ravel()
                for weight, each in zip(weights, tasks, strict=True))
    found = find_method(MERGERS, name)(tasks)
    np.testing.assert_allclose(found.numpy().ravel(), np.linalg.solve(left, right), rtol=1e-9)


def test_wudi_reaches_the_least_interference() -> None:
    tasks = stack()[:, 0]

    def interference(found: Tensor) -> float:
        return sum(float(((found - each) @ each.T).square().sum() / each.square().sum()) for each in tasks)

    best = find_method(MERGERS, 'wudi')(tasks)
    assert all(interference(best) < interference(best + 0.01 * normal(OUT, IN, seed=seed)) for seed in range(20))
    assert interference(best) < min(interference(tasks.sum(0)), interference(tasks.mean(0)))


def test_iso_c() -> None:
    tasks = stack()[:, 0]
    left, strengths, right = np.linalg.svd(tasks.sum(0).numpy(), full_matrices=False)
    expected = left @ np.diag(np.full(OUT, strengths.mean())) @ right
    found = find_method(MERGERS, 'iso_c')(tasks)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(np.linalg.svd(found.numpy())[1], strengths.mean())


def test_tsv() -> None:
    tasks = torch.stack([normal(6, 8, seed=seed) for seed in range(NETWORKS)])
    lefts, strengths, rights = [], [], []
    for each in tasks.numpy():
        left, strength, right = np.linalg.svd(each)
        lefts += [left[:, place] for place in range(2)]
        strengths += list(strength[:2])
        rights += [right[place] for place in range(2)]
    left, right = (scipy.linalg.polar(np.stack(each, 1))[0] for each in (lefts, rights))
    expected = sum(strength * np.outer(left[:, place], right[:, place]) for place, strength in enumerate(strengths))
    np.testing.assert_allclose(find_method(MERGERS, 'tsv')(tasks), expected, rtol=1e-8)


def test_tsv_keeps_one_network_and_tasks_that_do_not_interfere() -> None:
    one = normal(1, 6, 8)
    torch.testing.assert_close(find_method(MERGERS, 'tsv')(one), one[0])
    apart = torch.zeros(2, 4, 6, dtype=torch.float64)
    apart[0, :2, :3], apart[1, 2:, 3:] = normal(2, 3, seed=1), normal(2, 3, seed=2)
    torch.testing.assert_close(find_method(MERGERS, 'tsv')(apart), apart.sum(0))


@pytest.mark.parametrize('name', SAME)
def test_one_network_several_times_comes_back(name: str) -> None:
    options, factor = SAME[name]
    one = stack()[:1]
    found = merged(find_method(MERGERS, dict(type=name, **options)), one.expand(NETWORKS, -1, -1, -1))
    torch.testing.assert_close(found, factor * one[0])


@pytest.mark.parametrize('name', ALL)
def test_order_does_not_matter_and_zero_stays_zero(name: str) -> None:
    method = find_method(MERGERS, dict(type=name, drop=0.) if name == 'dare' else name)
    plain = merged(method, stack())
    for order in itertools.permutations(range(NETWORKS)):
        torch.testing.assert_close(merged(method, stack(), list(order)), plain)
    assert merged(method, torch.zeros_like(stack())).eq(0).all()


@pytest.mark.parametrize('name', ['regmean', 'wudi', 'ace', 'iso_c', 'tsv'])
def test_groups_are_merged_on_their_own(name: str) -> None:
    method = find_method(MERGERS, name)
    both = torch.cat([stack(), stack(40)], 1)
    grams = torch.stack([grams_of(number) for number in range(NETWORKS)])[:, None].expand(-1, 2, -1, -1)
    found = method(**method.accepted(dict(matrices=both, task_matrices=both, grams=grams)))
    torch.testing.assert_close(found, torch.cat([merged(method, stack()), merged(method, stack(40))]))


@pytest.mark.parametrize('merger', [
    dict(type='ties', keep=0.), dict(type='ties', keep=1.5), dict(type='dare', drop=1.), dict(type='dare', drop=-0.1),
    dict(type='consensus', threshold=-1.), dict(type='consensus', agree=4), dict(type='regmean', off_diagonal=2.)])
def test_options_out_of_range_are_refused(merger: dict) -> None:
    with pytest.raises(ConfigError, match=f"merger '{merger['type']}'"):
        merged(find_method(MERGERS, merger), stack())
