"""Inverse Fishers and what is made of them, against the published recursion and against dense algebra."""
import pytest
import torch

from mmreuse.errors import ConfigError, DataError
from mmreuse.pruning import Fisher, PerSampleGradients, diagonal_fisher, select_masks, woodfisher
from mmreuse.pruning.fisher import inverse, storage

DAMP = 1e-3


def recursion(gradients, damp):
    """The inverse by rank-one updates, as published."""
    samples, size = gradients.shape
    inverse = torch.eye(size, dtype=torch.float64) / damp
    for row in gradients.double():
        product = inverse @ row
        inverse -= torch.outer(product, product) / (samples + row @ product)
    return inverse


def make(samples, **shapes):
    generator = torch.Generator().manual_seed(1)
    shapes = {name: torch.Size(shape) for name, shape in shapes.items()}
    columns = sum(shape.numel() for shape in shapes.values())
    gradients = PerSampleGradients.of_matrix(torch.randn(samples, columns, generator=generator), shapes)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return gradients, weights


def expected_inverse(gradients, block, damp=DAMP):
    """Dense block-diagonal inverse over all weights."""
    values = torch.cat([gradients.of(name) for name in gradients.shapes], 1)
    total = values.shape[1]
    out = torch.zeros(total, total, dtype=torch.float64)
    ranges = {'model': (0, total)} if block == 'model' else gradients.ranges
    for start, stop in ranges.values():
        size = block if isinstance(block, int) else stop - start
        for first in range(start, stop, size):
            part = slice(first, min(first + size, stop))
            out[part, part] = recursion(values[:, part], damp)
    return out


CASES = [(12, None), (12, 5), (12, 20), (12, 'model'), (60, None), (60, 7), (60, 'model'), (200, 'model')]


@pytest.fixture
def small_work(monkeypatch):
    """Many chunks, as with large weights."""
    monkeypatch.setattr(inverse, 'WORK', 500)
    monkeypatch.setattr(storage, 'WORK', 500)
    monkeypatch.setattr(storage, 'STRETCH', 900)


@pytest.mark.parametrize('samples, block', CASES)
def test_inverse_equals_the_recursion(samples, block, small_work):
    gradients, weights = make(samples, a=(6, 7), b=(9, 3, 2, 2))
    fisher, expected = Fisher(gradients, DAMP, block), expected_inverse(gradients, block)
    diagonal = gradients.flatten(fisher.inverse_diagonal)
    torch.testing.assert_close(diagonal, expected.diagonal(), rtol=1e-10, atol=1e-10)
    vector = {name: weight.double() for name, weight in weights.items()}
    solved = gradients.flatten(fisher.solve(vector))
    torch.testing.assert_close(solved, expected @ gradients.flatten(vector), rtol=1e-10, atol=1e-10 / DAMP)


@pytest.mark.parametrize('samples, block', CASES)
def test_updates_are_the_published_and_the_exact_one(samples, block, small_work):
    gradients, weights = make(samples, a=(6, 7), b=(9, 3, 2, 2))
    pruned = {name: torch.rand(weight.shape) < 0.5 for name, weight in weights.items()}
    fisher, dense = Fisher(gradients, DAMP, block), expected_inverse(gradients, block)
    w, q = gradients.flatten(weights).double(), gradients.flatten(pruned)

    summed = torch.where(q, -w, -dense @ (w * q / dense.diagonal()))
    found = gradients.flatten(fisher.compensate(weights, pruned, 'summed'))
    torch.testing.assert_close(found, summed, rtol=1e-9, atol=1e-9)

    joint = -dense[:, q] @ torch.linalg.solve(dense[q][:, q], w[q])
    found = gradients.flatten(fisher.compensate(weights, pruned, 'joint'))
    torch.testing.assert_close(found, joint, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize('samples, block', CASES)
def test_joint_update_loses_least(samples, block):
    gradients, weights = make(samples, a=(6, 7), b=(9, 3, 2, 2))
    pruned = {name: torch.rand(weight.shape) < 0.5 for name, weight in weights.items()}
    fisher, matrix = Fisher(gradients, DAMP, block), expected_inverse(gradients, block).inverse()

    def loss(changes):
        change = gradients.flatten(changes)
        return float(change @ matrix @ change / 2)

    joint, summed = (loss(fisher.compensate(weights, pruned, rule)) for rule in ('joint', 'summed'))
    plain = loss({name: -weight.double() * pruned[name] for name, weight in weights.items()})
    assert joint <= summed * (1 + 1e-9) and joint < plain


def test_one_pruned_weight_costs_its_saliency():
    gradients, weights = make(30, a=(5, 4))
    fisher, matrix = Fisher(gradients, DAMP), expected_inverse(gradients, None).inverse()
    saliency = woodfisher(weights, fisher=fisher)['a'].flatten()
    for position in range(20):
        pruned = {'a': torch.zeros(20, dtype=torch.bool)}
        pruned['a'][position] = True
        for rule in ('summed', 'joint'):
            change = fisher.compensate(weights, {'a': pruned['a'].reshape(5, 4)}, rule)['a'].flatten()
            assert float(change @ matrix @ change / 2) == pytest.approx(float(saliency[position]), rel=1e-8)


def test_blocks_of_one_are_the_diagonal():
    gradients, weights = make(30, a=(5, 4))
    found = woodfisher(weights, fisher=Fisher(gradients, 1e-12, 1))['a']
    torch.testing.assert_close(found, diagonal_fisher(weights, fisher=Fisher(gradients))['a'], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('rule', ['summed', 'joint'])
def test_what_is_pruned_already_stays(rule):
    gradients, weights = make(8, a=(5, 4))
    weights['a'][:2], gradients.of('a')[:, :8] = 0, 0
    pruned = {'a': torch.zeros(5, 4, dtype=torch.bool)}
    pruned['a'][3] = True
    change = Fisher(gradients, DAMP).compensate(weights, pruned, rule)['a']
    assert (change[:2] == 0).all() and (change[4] != 0).all()


@pytest.mark.parametrize('damp', [0, -1e-5, float('nan'), float('inf')])
def test_damp_must_be_positive(damp):
    with pytest.raises(ConfigError, match='damp'):
        Fisher(make(3, a=(2, 2))[0], damp)


@pytest.mark.parametrize('block', [0, -3, 'layer', 2.5])
def test_block_must_be_known(block):
    with pytest.raises(ConfigError, match='block'):
        Fisher(make(3, a=(2, 2))[0], 1e-3, block)


@pytest.mark.parametrize('samples', [3, 50])
def test_singular_fisher_names_the_weight(samples):
    gradients, _ = make(samples, good=(2, 2), bad=(3, 5))
    gradients.of('bad')[:] = 1e12
    with pytest.raises(DataError, match="'bad'.*damp=1e-300"):
        _ = Fisher(gradients, 1e-300).inverse_diagonal


def test_unknown_update():
    gradients, weights = make(3, a=(2, 2))
    with pytest.raises(ConfigError, match='joint'):
        Fisher(gradients).compensate(weights, weights, 'exact')


@pytest.mark.parametrize('samples', [3, 50])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_fisher_that_is_not_finite_is_refused(samples, value):
    gradients, weights = make(samples, good=(2, 2), bad=(3, 5))
    gradients.of('bad')[1, 2] = value
    with pytest.raises(DataError, match="'bad'"):
        select_masks(woodfisher(weights, fisher=Fisher(gradients)), 0.5)
