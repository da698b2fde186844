"""Zip is the published loop step for step, and loses no feature where that loop does."""
import itertools

import numpy as np
import pytest
import torch

from benchmarks._literal_zip import literal_zip
from mmreuse.errors import ConfigError
from mmreuse.merging.matchers.zip import join_greedily, zip_features
from mmreuse.merging.matching.metrics import correlation

from .helpers import features, groups, moments_of, normal, permutation, random_table, with_covariance

ALPHAS, BETAS = (1e-4, 0.3, 1.), (0., 0.125, 0.5, 1.)


def found_groups(table, sizes, size, alpha, beta):
    return groups(zip_features(with_covariance(table, *sizes), alpha=alpha, beta=beta, size=size,
                               metric='covariance').map.index)


@pytest.mark.parametrize('levels', [None, 6], ids=['distinct', 'ties'])
@pytest.mark.parametrize('models', [1, 2, 3, 4])
def test_partitions_are_those_of_the_literal_loop(models, levels):
    compared = 0
    for seed, (alpha, beta) in enumerate(itertools.product(ALPHAS, BETAS)):
        table, size = random_table(10 * models, seed, levels), 10 if models > 1 else 4
        expected = literal_zip(table, [10] * models, size, alpha, beta)
        if expected is not None:
            assert found_groups(table, [10] * models, size, alpha, beta) == expected
            compared += 1
    assert compared >= 3


@pytest.mark.parametrize(('sizes', 'size'), [((5, 9), 9), ((9, 5), 6), ((4, 7, 3), 7), ((1, 6), 6)])
def test_models_of_unequal_widths_are_those_of_the_literal_loop(sizes, size):
    for seed in range(4):
        table = random_table(sum(sizes), seed)
        assert found_groups(table, sizes, size, 0.3, 1.) == literal_zip(table, list(sizes), size, 0.3, 1.)


def test_real_size_is_that_of_the_literal_loop():
    rows = normal(300, 24) @ normal(24, 160, seed=1) / 5 + 0.5 * normal(300, 160, seed=2)
    table = correlation(moments_of(rows.relu()))
    assert found_groups(table, (80, 80), 80, 0.3, 0.125) == literal_zip(table, [80, 80], 80, 0.3, 0.125)


@pytest.mark.parametrize(('models', 'beta'), [(3, 0.), (3, 0.125), (4, 0.)])
def test_no_feature_is_lost_where_the_literal_loop_ends_dead(models, beta):
    dead = 0
    for seed in range(5):
        table = random_table(12 * models, seed)
        dead += literal_zip(table, [12] * models, 12, 0.3, beta) is None
        found = found_groups(table, [12] * models, 12, 0.3, beta)
        assert len(found) == 12 and sorted(sum(found, [])) == list(range(12 * models))
    assert dead


def test_lifted_budgets_go_on_from_what_was_joined():
    """The joins before the dead end are kept, the next one is the best of what the joins alone have made of S."""
    table, sizes = random_table(48, 3), (16, 16, 16)
    pairs = join_greedily(table.numpy(), sizes, 16, 0.3, 0.)
    for size in range(47, 16, -1):
        expected = literal_zip(table, list(sizes), size, 0.3, 0.)
        if expected is None:
            break
        assert found_groups(table, sizes, size, 0.3, 0.) == expected
    done, current = 48 - size - 1, table.numpy().copy()
    np.fill_diagonal(current, -np.inf)
    for keep, drop in pairs[:done]:
        current[keep] = current[:, keep] = 0.3 * np.minimum(current[keep], current[drop])
        current[drop] = current[:, drop] = -np.inf
    best = np.unravel_index(current.argmax(), current.shape)
    assert pairs[done] == best


def test_without_repeats_no_group_has_three_members():
    for beta, alpha in itertools.product(BETAS, (0., -1.)):
        found = found_groups(random_table(40, 1), (20, 20), 20, alpha, beta)
        assert [len(group) for group in found] == [2] * 20
    mates = [len(group) for group in found_groups(random_table(40, 1), (20, 20), 30, 0., 1.)]
    assert sorted(mates) == [1] * 20 + [2] * 10


def test_without_repeats_more_than_pairs_are_made_only_where_needed():
    found = found_groups(random_table(36, 2), (12, 12, 12), 12, 0., 0.125)
    assert len(found) == 12 and sorted(sum(found, [])) == list(range(36))
    assert min(len(group) for group in found) == 2


def test_budgets_bound_the_joins_within_each_model():
    table = torch.block_diag(*[0.5 + random_table(16, seed).abs() / 2 for seed in (0, 1)])  # joins within pay most
    for beta, most in ((0., 1), (0.125, 1), (0.25, 2), (0.5, 4)):
        pairs = join_greedily(table.numpy(), (16, 16), 16, 0.3, beta)
        assert [sum(keep // 16 == drop // 16 == model for keep, drop in pairs) for model in (0, 1)] == [most, most]


def test_a_planted_permutation_is_found():
    rows, order = features(400, 12), permutation(12)
    matching = zip_features(moments_of(rows, rows[:, order]))
    assert torch.equal(matching.map.index, torch.cat([torch.arange(12), order]))
    assert matching.score == pytest.approx(1)


def test_duplicated_channels_of_one_model_are_folded():
    rows = features(400, 8)
    order = permutation(16)
    matching = zip_features(moments_of(rows.repeat(1, 2)[:, order]), beta=1., size=8)
    assert all(len(group) == 2 and order[group[0]] % 8 == order[group[1]] % 8 for group in groups(matching.map.index))
    torch.testing.assert_close(matching.map.weight, torch.full((16,), 0.5, dtype=torch.float64), rtol=0, atol=0)


def test_size_and_reduction_say_the_same():
    moments = moments_of(features(100, 9), features(100, 6, seed=4))
    assert zip_features(moments).size == 9
    assert zip_features(moments, reduction=0.6).size == zip_features(moments, size=6).size == 6
    thirds = moments_of(*[features(50, 5, seed=seed) for seed in range(3)])
    assert zip_features(thirds, reduction=1 - 1 / 3).size == 5
    assert torch.equal(zip_features(moments, size=15).map.index, torch.arange(15))
    assert zip_features(moments, size=1).map.index.tolist() == [0] * 15


@pytest.mark.parametrize('options', [dict(size=0), dict(size=31), dict(alpha=1.5), dict(beta=-0.1),
                                     dict(size=3, reduction=0.5), dict(reduction=1.), dict(reduction=0.99)])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        zip_features(moments_of(features(50, 15), features(50, 15, seed=3)), **options)
