"""Clusters of features."""
import pytest
import torch

from mmreuse.errors import ConfigError
from mmreuse.merging.matchers.clustering import agglomerative, kmeans
from mmreuse.merging.matchers.zip import zip_features

from .helpers import features, groups, moments_of, normal, permutation


@pytest.mark.parametrize('matcher', [kmeans, agglomerative])
def test_planted_groups_are_found(matcher):
    centres, order = features(300, 6), permutation(18)
    rows = (centres / centres.std(0)).repeat(1, 3)[:, order] + 0.1 * normal(300, 18, seed=5)
    matching = matcher(moments_of(rows[:, :8], rows[:, 8:]), size=6)
    assert all(len({int(order[member]) % 6 for member in group}) == 1 for group in groups(matching.map.index))
    assert matching.size == 6 and matching.score > 0.9


@pytest.mark.parametrize('matcher', [kmeans, agglomerative])
@pytest.mark.parametrize('size', [None, 1, 5, 17])
def test_there_are_exactly_as_many_groups_as_asked_for(matcher, size):
    rows = features(100, 4).repeat(1, 5)[:, :17]  # four distinct features
    rows[:, 9] = 3.
    matching = matcher(moments_of(rows[:, :9], rows[:, 9:]), size=size)
    assert matching.size == (size or 9)
    assert matching.map.index.bincount(minlength=matching.size).min() >= 1


def test_complete_linkage_is_zip_without_decay():
    moments = moments_of(features(60, 12), features(60, 12, seed=7))
    expected = zip_features(moments, alpha=1., beta=10.)
    assert torch.equal(agglomerative(moments, linkage='complete').map.index, expected.map.index)


def test_a_single_feature():
    assert agglomerative(moments_of(features(20, 1))).map.index.tolist() == [0]
    assert kmeans(moments_of(features(20, 1))).map.index.tolist() == [0]


@pytest.mark.parametrize('matcher', [kmeans, agglomerative])
def test_impossible_sizes_are_refused(matcher):
    with pytest.raises(ConfigError, match='size = 9: 8 features become between 1 and 8'):
        matcher(moments_of(features(20, 8)), size=9)


def test_an_unknown_linkage_is_refused():
    with pytest.raises(ConfigError, match="there is no linkage 'averge'. Nearest: 'average'"):
        agglomerative(moments_of(features(20, 8)), linkage='averge')


def test_seeds_decide_on_kmeans():
    moments = moments_of(features(60, 30), features(60, 30, seed=7))
    first, again, other = (kmeans(moments, seed=seed).map.index for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
