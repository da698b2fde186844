"""What holds for every matcher of one space, and how one is added."""
import inspect

import pytest
import torch

from mmreuse.errors import DataError
from mmreuse.graph import Assign
from mmreuse.merging import Matching
from mmreuse.merging.matchers.zip import zip_features
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments

from .helpers import features, moments_of

DENSE = ('cca', 'procrustes')
PARTITIONS = ('zip', 'permute', 'identity', 'optimal', 'kmeans', 'agglomerative')


def built(name):
    return MATCHERS.build(dict(type=name))


def joint(models, size=9):
    """Moments of unlike models with dead features."""
    rows = [features(300, size, seed=seed) for seed in range(models)]
    rows[0][:, 2] = 5.
    rows[-1][:, [0, 4]] = 0.
    return moments_of(*rows)


@pytest.mark.parametrize('models', [1, 2, 3])
@pytest.mark.parametrize('name', PARTITIONS + DENSE)
def test_merging_undoes_unmerging(name, models):
    if name == 'optimal' and models != 2:
        pytest.skip('of two models only')
    matching = built(name)(joint(models))
    dense = matching.map.dense(9 * models)
    torch.testing.assert_close(dense.merge_matrix @ dense.unmerge_matrix, torch.eye(9, dtype=torch.float64))
    assert matching.sizes == (9,) * models and matching.size == 9 and -1 <= matching.score <= 1


@pytest.mark.parametrize('name', PARTITIONS)
def test_each_feature_is_in_one_group_that_is_averaged(name):
    matching = built(name)(joint(2))
    counts = matching.map.index.bincount(minlength=matching.size)
    assert matching.map.index.min() >= 0 and int(counts.sum()) == 18 and counts.min() >= 1
    assert torch.equal(matching.map.weight, 1 / counts.double()[matching.map.index])


@pytest.mark.parametrize('name', PARTITIONS + DENSE)
def test_a_model_and_its_copy_are_the_model(name):
    rows = features(300, 9)
    matching = built(name)(moments_of(rows, rows))
    merged = matching.map.merge(torch.cat([rows, rows], 1).T)
    torch.testing.assert_close(merged, rows.T)
    assert matching.score == pytest.approx(1)


@pytest.mark.parametrize('name', PARTITIONS + DENSE)
def test_features_that_are_not_finite_are_named(name):
    moments = joint(2)
    moments.mean[11] = float('nan')
    with pytest.raises(DataError, match='feature 2 of model 1 is not finite'):
        built(name)(moments)


def test_dead_features_are_joined_after_all_that_is_alike():
    rows = features(300, 6).abs()
    rows[:, 5] = 1.
    matching = zip_features(moments_of(rows, rows), alpha=1., size=7)
    assert sorted(matching.map.index.bincount().tolist()) == [1, 1, 2, 2, 2, 2, 2]
    assert matching.map.index.bincount()[matching.map.index[[5, 11]]].tolist() == [1, 1]


def test_one_function_is_a_matcher_that_configs_find_by_name():
    name = 'first_only'

    @MATCHERS.register_module(name=name, needs=('moments',))
    def first_only(moments: SpaceMoments, *, size: int = 2) -> Matching:
        """Keep the first features of the first model."""
        index = torch.full((sum(moments.sizes),), -1)
        index[:size] = torch.arange(size)
        return Matching(Assign(index, size), moments.sizes, 1.)

    try:
        assert len(inspect.getsource(first_only).splitlines()) < 30
        matching = MATCHERS.build(dict(type=name, size=3))(joint(2))
        assert matching.map.index.tolist() == [0, 1, 2] + 15 * [-1]
    finally:
        del MATCHERS.module_dict[name]
