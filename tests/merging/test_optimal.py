"""The best pairing of all features."""
import pytest
import torch

from mmreuse.errors import SpaceError
from mmreuse.merging.matchers.optimal import optimal
from mmreuse.merging.matchers.zip import zip_features
from mmreuse.merging.matching.metrics import correlation

from .helpers import features, groups, moments_of, permutation


def pairings(members):
    if not members:
        yield []
        return
    first, *rest = members
    for mate in rest:
        for others in pairings([member for member in rest if member != mate]):
            yield [[first, mate], *others]


@pytest.mark.parametrize('seed', range(4))
def test_it_is_the_best_of_all_pairings(seed):
    moments = moments_of(features(40, 4, seed=seed), features(40, 4, seed=seed + 10))
    table = correlation(moments)
    best = max(pairings(list(range(8))), key=lambda pairs: sum(float(table[i, j]) for i, j in pairs))
    matching = optimal(moments)
    assert groups(matching.map.index) == best
    assert matching.score == pytest.approx(sum(float(table[i, j]) for i, j in best) / 4)
    assert matching.score >= zip_features(moments, alpha=0., beta=1.).score - 1e-12


def test_planted_pairs_are_found_within_models_and_across():
    rows, order = features(300, 10), permutation(20)
    stacked = rows.repeat(1, 2)[:, order]
    matching = optimal(moments_of(stacked[:, :10], stacked[:, 10:]))
    assert all(order[one] % 10 == order[other] % 10 for one, other in groups(matching.map.index))


def test_an_odd_feature_stays_alone_and_dead_ones_are_kept():
    rows = features(200, 7)
    rows[:, 2] = 0
    matching = optimal(moments_of(rows[:, :4], rows[:, 4:]))
    assert sorted(len(group) for group in groups(matching.map.index)) == [1, 2, 2, 2]


def test_other_numbers_of_models_are_refused():
    with pytest.raises(SpaceError, match="there are 3. Use 'zip'"):
        optimal(moments_of(*[features(30, 3, seed=seed) for seed in range(3)]))
    assert torch.equal(optimal(moments_of(*[features(30, 1)] * 2)).map.index, torch.tensor([0, 0]))
