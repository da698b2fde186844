"""Similarities of features against numpy in float64, dead features, and moments that are not finite."""
import numpy as np
import pytest
import torch

from mmreuse.errors import ConfigError, DataError
from mmreuse.merging.matching.metrics import METRICS, correlation, cosine, covariance, similarity
from mmreuse.statistics import MomentAccumulator, SpaceMoments

from .helpers import features, moments_of, normal


@pytest.fixture(scope='module')
def two():
    return features(500, 6), features(500, 4, seed=7)


def test_metrics_are_those_of_numpy(two):
    moments, stacked = moments_of(*two), torch.cat(two, 1).numpy()
    norms = np.linalg.norm(stacked, axis=0)
    expected = dict(covariance=np.cov(stacked.T, bias=True), correlation=np.corrcoef(stacked.T),
                    cosine=stacked.T @ stacked / np.outer(norms, norms))
    for name, table in expected.items():
        np.testing.assert_allclose(similarity(moments, name).numpy(), table, rtol=1e-9, atol=1e-11)


def test_correlation_of_streamed_float32_features_far_from_zero():
    rows = features(20000, 5) / 10 + 1000
    accumulator = MomentAccumulator(5)
    for batch in rows.float().split(512):
        accumulator.update(batch)
    np.testing.assert_allclose(correlation(accumulator.result()).numpy(), np.corrcoef(rows.T.numpy()), atol=1e-4)


@pytest.mark.parametrize('metric', METRICS)
def test_tables_are_exactly_symmetric_and_leave_the_moments_alone(two, metric):
    moments = moments_of(*two)
    moments.covariance[0, 1] += 1e-9  # as a product of matrices may leave it
    before = moments.covariance.clone()
    table = similarity(moments, metric)
    assert torch.equal(table, table.T) and torch.equal(moments.covariance, before)
    assert metric == 'covariance' or float(table.abs().max()) <= 1


def test_scales_do_not_matter_to_correlation_and_cosine(two):
    scales = torch.logspace(-2, 2, 10, dtype=torch.float64)
    stacked = torch.cat(two, 1)
    for metric in (correlation, cosine):
        torch.testing.assert_close(metric(moments_of(stacked * scales)), metric(moments_of(stacked)))


def test_dead_features_are_like_nothing():
    rows = features(300, 6)
    rows[:, 1] = 0
    rows[:, 4] = 100 + 1e-6 * normal(300)  # what rounding leaves of a constant
    table = correlation(moments_of(rows))
    alive = torch.tensor([0, 2, 3, 5])
    assert not table[[1, 4]].any() and not table[:, [1, 4]].any()
    torch.testing.assert_close(table[alive][:, alive], correlation(moments_of(rows[:, alive])))
    table = cosine(moments_of(rows))
    assert not table[1].any() and table[4, 4] == pytest.approx(1)  # a constant has a direction


def test_a_space_in_which_all_is_dead():
    moments = SpaceMoments(5, torch.zeros(4), torch.zeros(4, 4), (2, 2))
    assert all(not metric(moments).any() for metric in METRICS.values())


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_features_that_are_not_finite_are_named(two, value):
    broken = [each.clone() for each in two]
    broken[1][17, 2] = value
    with pytest.raises(DataError, match=r'feature 2 of model 1 is not finite \(1 of 10'):
        similarity(moments_of(*broken), 'cosine')


def test_impossible_covariances_are_named(two):
    moments = moments_of(*two)
    covariance_ = moments.covariance.clone()
    covariance_[3, 5] = float('nan')
    with pytest.raises(DataError, match='feature 3 of model 0 has a covariance that is not finite'):
        covariance(SpaceMoments(1, moments.mean, covariance_, moments.sizes))
    covariance_ = moments.covariance.clone()
    covariance_[7, 7] = -1.
    with pytest.raises(DataError, match='feature 1 of model 1 has a negative variance'):
        correlation(SpaceMoments(1, moments.mean, covariance_, moments.sizes))


def test_unknown_metrics_are_named(two):
    with pytest.raises(ConfigError, match="there is no metric 'corelation'. Nearest: 'correlation'"):
        similarity(moments_of(*two), 'corelation')
