"""Moments against two-pass float64 references, and their algebra."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreuse.errors import DataError
from mmreuse.statistics import ChannelMomentAccumulator, CrossMomentAccumulator, MomentAccumulator, least_squares
from mmreuse.statistics import moments as moments_module
from mmreuse.utils.precision import full_precision


def two_pass(x):
    x = x.double()
    centred = x - x.mean(0)
    return x.mean(0), centred.T @ centred / len(x)


def relative_error(covariance, reference):
    scale = reference.diagonal().sqrt()
    return ((covariance - reference).abs() / (scale[:, None] * scale)).max().item()


def features(rows, size, ratio, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator) / size**0.5
    return torch.randn(rows, size, generator=generator) @ mixing + ratio


def accumulate(batches, size):
    accumulator = MomentAccumulator(size)
    for batch in batches:
        accumulator.update(batch)
    return accumulator


@pytest.mark.parametrize('ratio', [0, 100, 10000])
def test_moments_are_exact_however_far_the_mean(ratio):
    x = features(20000, 32, ratio)
    moments = accumulate(x.split(999), 32).result()
    mean, covariance = two_pass(x)
    assert moments.count == 20000
    torch.testing.assert_close(moments.mean, mean, rtol=1e-12, atol=1e-7)
    assert relative_error(moments.covariance, covariance) < 1e-6


def test_naive_float32_accumulation_would_fail_the_same_bound():
    x = features(20000, 32, 100)
    naive = x.T @ x / len(x) - torch.outer(x.mean(0), x.mean(0))
    assert relative_error(naive.double(), two_pass(x)[1]) > 1e-4


def test_drifting_means_do_not_cancel():
    x = torch.cat([features(500, 8, ratio, seed) for seed, ratio in enumerate((0, 1000, -5000, 3))])
    mean, covariance = two_pass(x)
    moments = accumulate(x.split(500), 8).result()
    torch.testing.assert_close(moments.mean, mean, rtol=1e-10, atol=1e-9)
    assert relative_error(moments.covariance, covariance) < 1e-7


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 1000))
def test_batching_does_not_matter(sizes, size, seed):
    rows = sum(sizes) + 1
    x = features(rows, size, 7.0, seed).double()
    whole = accumulate([x], size).result()
    parts = accumulate(x.split([*sizes, 1]), size).result()
    assert parts.count == whole.count
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.covariance, whole.covariance, rtol=1e-9, atol=1e-11)


def test_chunks_of_a_long_batch_merge(monkeypatch):
    x = features(1000, 6, 50)
    whole = accumulate([x], 6).result()
    monkeypatch.setattr(moments_module, 'CHUNK_ROWS', 64)
    torch.testing.assert_close(accumulate([x], 6).result().covariance, whole.covariance, rtol=1e-6, atol=1e-8)


def test_channel_moments_are_the_diagonal():
    x = features(3000, 10, 100)
    channels = ChannelMomentAccumulator(10)
    for batch in x.split(700):
        channels.update(batch)
    mean, covariance = two_pass(x)
    result = channels.result()
    torch.testing.assert_close(result.mean, mean, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(result.variance, covariance.diagonal(), rtol=1e-6, atol=0)


def test_autocast_and_lower_matmul_precision_change_nothing():
    x = features(2000, 64, 3)
    plain = accumulate([x], 64).result()
    torch.set_float32_matmul_precision('medium')
    try:
        with torch.autocast('cpu', dtype=torch.bfloat16):
            under_autocast = accumulate([x], 64).result()
        assert torch.get_float32_matmul_precision() == 'medium'
    finally:
        torch.set_float32_matmul_precision('highest')
    assert torch.equal(plain.covariance, under_autocast.covariance)


def test_full_precision_restores_what_was_set_when_the_block_raises():
    torch.set_float32_matmul_precision('medium')
    try:
        with pytest.raises(KeyError), full_precision():
            raise KeyError
        assert torch.get_float32_matmul_precision() == 'medium'
    finally:
        torch.set_float32_matmul_precision('highest')


def test_half_precision_features_are_summed_in_float32():
    x = features(4000, 8, 1).bfloat16()
    assert relative_error(accumulate(x.split(512), 8).result().covariance, two_pass(x)[1]) < 1e-6


@pytest.mark.parametrize('ratio', [0, 100])
def test_least_squares_is_the_regression(ratio):
    x = features(5000, 12, ratio)
    y = x @ torch.randn(12, 5) + torch.randn(5000, 5) + 4
    accumulator = CrossMomentAccumulator(12, 5)
    for rows in zip(x.split(600), y.split(600), strict=True):
        accumulator.update(*rows)
    weight, bias = least_squares(accumulator.result())
    design = torch.cat([x, torch.ones(5000, 1)], dim=1).double()
    reference = torch.linalg.lstsq(design, y.double()).solution
    torch.testing.assert_close(weight, reference[:-1].T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bias, reference[-1], rtol=1e-3, atol=1e-2)


def test_least_squares_with_dependent_regressors_is_the_least_norm_solution():
    base = features(2000, 4, 0)
    x = torch.cat([base, base], dim=1)
    accumulator = CrossMomentAccumulator(8, 4)
    accumulator.update(x, base)
    weight, _ = least_squares(accumulator.result())
    torch.testing.assert_close(weight, torch.eye(4).repeat(1, 2).double() / 2, rtol=0, atol=1e-4)


def test_ridge_shrinks_towards_the_mean():
    x = features(2000, 4, 2)
    accumulator = CrossMomentAccumulator(4, 4)
    accumulator.update(x, x)
    moments = accumulator.result()
    norms = [least_squares(moments, ridge)[0].norm().item() for ridge in (0.0, 0.1, 1.0, 1e6)]
    assert norms == sorted(norms, reverse=True) and norms[-1] < 1e-4
    torch.testing.assert_close(least_squares(moments, 1e6)[1], moments.mean_y, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf'), 1e30])
def test_values_that_are_not_finite_are_refused(value):
    x = features(100, 4, 0)
    x[50, 2] = value
    accumulator = MomentAccumulator(4)
    with pytest.raises(DataError, match='not finite'):
        accumulator.update(x)
    assert accumulator.count == 0


def test_wrong_shapes_and_no_rows_are_refused():
    with pytest.raises(DataError, match=r'\(5, 3\).*\(rows, 4\)'):
        MomentAccumulator(4).update(torch.zeros(5, 3))
    with pytest.raises(DataError, match='empty'):
        MomentAccumulator(4).result()
    with pytest.raises(DataError, match='equal rows'):
        CrossMomentAccumulator(2, 3).update(torch.zeros(5, 2), torch.zeros(4, 3))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 1000))
def test_accumulators_merge_into_one_that_saw_everything(sizes, seed):
    x = features(sum(sizes) + 1, 4, 7.0, seed).double()
    whole, total = accumulate([x], 4).result(), MomentAccumulator(4)
    for part in x.split([*sizes, 1]):
        total.merge(accumulate([part], 4))
    assert total.result().count == whole.count
    torch.testing.assert_close(total.result().mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(total.result().covariance, whole.covariance, rtol=1e-9, atol=1e-11)
