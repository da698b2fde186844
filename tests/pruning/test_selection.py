"""Counts of pruned weights, and the schedule."""
import pytest
import torch

from mmreuse.errors import ConfigError, DataError
from mmreuse.pruning import polynomial, select_masks
from mmreuse.pruning.selection import pruned_count


@pytest.mark.parametrize('size, sparsity, count', [(100, 0.29, 29), (10, 0.7, 7), (7, 0.5, 3), (1000, 0.999, 999),
                                                   (3, 0.999, 2), (50, 0, 0), (272_474, 0.95, 258_850)])
def test_counts_are_floors(size, sparsity, count):
    assert pruned_count(size, sparsity) == count


@pytest.mark.parametrize('sparsity', [0, 0.1, 0.29, 0.5, 0.77, 0.95])
def test_exactly_so_many_go_and_they_are_the_least(sparsity):
    scores = {'a': torch.rand(7, 9), 'b': torch.rand(40, dtype=torch.float64)}
    kept = select_masks(scores, sparsity)
    values = torch.cat([scores[name].double().flatten() for name in scores])
    mask = torch.cat([kept[name].flatten() for name in scores])
    assert int((~mask).sum()) == pruned_count(103, sparsity)
    assert sparsity == 0 or values[~mask].max() <= values[mask].min()
    by_layer = select_masks(scores, sparsity, 'layer')
    assert [int((~by_layer[name]).sum()) for name in scores] == [pruned_count(63, sparsity), pruned_count(40, sparsity)]


def test_ties_change_no_count():
    scores = {'a': torch.tensor([1., 0, 1, 1, 2, 1])}
    assert select_masks(scores, 0.5)['a'].tolist() == [False, False, False, True, True, True]
    assert int((~select_masks({'a': torch.ones(100)}, 0.37)['a']).sum()) == 37


@pytest.mark.parametrize('scope', ['layer', 'global'])
def test_what_is_pruned_stays_and_counts(scope):
    scores = {'a': torch.rand(60)}
    masks = {'a': torch.arange(60) >= 20}
    kept = select_masks(scores, 0.5, scope, masks)['a']
    assert not kept[:20].any() and int((~kept).sum()) == 30
    assert torch.equal(select_masks(scores, 0.2, scope, masks)['a'], masks['a'])


@pytest.mark.parametrize('sparsity', [-0.1, 1, 1.5, float('nan')])
def test_sparsity_must_be_a_share(sparsity):
    with pytest.raises(ConfigError, match=r'not in \[0, 1\)'):
        select_masks({'a': torch.rand(5)}, sparsity)


def test_unknown_scope():
    with pytest.raises(ConfigError, match="'layer'.*'global'"):
        select_masks({'a': torch.rand(5)}, 0.5, 'model')


def test_scores_must_be_finite():
    with pytest.raises(DataError, match="'b' holds 1 "):
        select_masks({'a': torch.rand(5), 'b': torch.tensor([1., torch.nan])}, 0.5)


def test_polynomial_begins_ends_and_rises():
    steps = [polynomial(step, 10, 50, 0.9, 0.1) for step in range(60)]
    assert steps[:11] == [pytest.approx(0.1)] * 11 and steps[50:] == [0.9] * 10
    assert all(later >= earlier for earlier, later in zip(steps, steps[1:], strict=False))
    assert steps[30] == pytest.approx(0.9 - 0.8 * 0.5**3)
    assert polynomial(5, 5, 5, 0.8) == 0.8
    assert polynomial(30, 10, 50, 0.8, power=1) == pytest.approx(0.4)
