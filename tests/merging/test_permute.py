"""Permutation by assignment, and the plain average."""
from itertools import permutations

import pytest
import torch

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.merging.matchers.identity import identity
from mmreuse.merging.matchers.permute import permute
from mmreuse.merging.matching.metrics import METRICS, correlation, similarity

from .helpers import features, groups, moments_of, normal, permutation


@pytest.mark.parametrize('metric', METRICS)
def test_planted_permutations_are_found(metric):
    rows, orders = features(300, 20), [permutation(20, seed) for seed in (1, 2, 3)]
    matching = permute(moments_of(rows, *(rows[:, order] for order in orders)), metric=metric)
    assert torch.equal(matching.map.index, torch.cat([torch.arange(20), *orders]))
    if metric != 'covariance':
        assert matching.score == pytest.approx(1)


def test_it_is_the_best_of_all_permutations():
    moments = moments_of(features(60, 5), features(60, 5, seed=9))
    table = correlation(moments)[:5, 5:]
    best = max(permutations(range(5)), key=lambda order: float(table[range(5), order].sum()))
    matching = permute(moments)
    assert matching.map.index[5:].argsort().tolist() == list(best)
    assert matching.score == pytest.approx(float(table[range(5), best].mean()))


def test_any_model_can_be_the_reference():
    rows, order = features(300, 8), permutation(8)
    matching = permute(moments_of(rows, rows[:, order]), reference=1)
    assert torch.equal(matching.map.index, torch.cat([order.argsort(), torch.arange(8)]))


def test_narrower_models_are_spread_over_the_reference():
    rows = features(300, 8)
    chosen = permutation(8)[:5]
    matching = permute(moments_of(rows[:, chosen], rows), reference=1)
    assert matching.sizes == (5, 8) and matching.size == 8
    assert torch.equal(matching.map.index, torch.cat([chosen, torch.arange(8)]))
    assert sorted(matching.map.weight.tolist()) == [0.5] * 10 + [1.] * 3


def test_wider_models_and_unknown_references_are_refused():
    moments = moments_of(features(50, 4), features(50, 6))
    with pytest.raises(SpaceError, match='reference=1'):
        permute(moments)
    with pytest.raises(ConfigError, match='reference = 2 is not one of the models 0..1'):
        permute(moments, reference=2)
    with pytest.raises(SpaceError, match='equal widths'):
        identity(moments)


def test_dead_features_meet_those_that_are_left():
    rows, order = features(200, 6), permutation(6, 5)
    rows[:, [0, 3]] = 7.
    matching = permute(moments_of(rows, rows[:, order]))
    alive = ~torch.isin(order, torch.tensor([0, 3]))
    assert torch.equal(matching.map.index[6:][alive], order[alive])
    assert all(len(group) == 2 for group in groups(matching.map.index))


def test_the_identity_joins_what_has_the_same_number():
    rows, order = features(300, 7), permutation(7)
    moments = moments_of(rows, rows + 0.1 * normal(300, 7), rows[:, order])
    matching = identity(moments)
    assert matching.map.index.tolist() == 3 * list(range(7))
    table = similarity(moments).reshape(3, 7, 3, 7)
    means = [float(table[i, :, j].diagonal().mean()) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert matching.score == pytest.approx(sum(means) / 3)
