"""Sketches of Grams: no bias, the stated variance, nothing lost where they are long enough, and what stands on them."""
import pytest
import torch
from similarity_helpers import chain, write_zoo

from mmreuse.errors import ConfigError
from mmreuse.reassembly.partition import solver
from mmreuse.reassembly.partition.partition import partition
from mmreuse.reassembly.similarity.similarities import compute_similarity
from mmreuse.reassembly.similarity.similarity_matrix import load_similarity, save_similarity
from mmreuse.reassembly.similarity.sketch import Sketch

SAMPLES, BATCH = 60, 25  # minibatches of 25, 25 and 10
WHOLE = 2 * 25 * 26 // 2 + 10 * 11 // 2


def related(seed: int, layers: int, samples: int = SAMPLES) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    signal = torch.randn(samples, 6, generator=torch.Generator().manual_seed(0))
    found = []
    for _ in range(layers):
        signal = (signal @ torch.randn(signal.shape[1], 8, generator=generator)).relu()
        signal = signal / signal.std() + 0.4 * torch.randn(signal.shape, generator=generator)
        found.append(signal)
    return found


@pytest.fixture(scope='module')
def nets():
    return {name: related(seed, layers) for seed, (name, layers) in enumerate(dict(a=6, b=8, c=5, d=9).items(), 1)}


@pytest.fixture(scope='module')
def paths(nets, tmp_path_factory):
    return write_zoo(tmp_path_factory.mktemp('zoo'), nets, BATCH)


def test_products_of_sketches_have_no_bias_and_the_stated_variance():
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 50, generator=generator, dtype=torch.float64)
    y = y + 0.5 * x
    draws = 8000
    found = torch.empty(draws, dtype=torch.float64)
    for seed in range(draws):
        sketch = Sketch(50, 8, seed)
        total = torch.zeros(2, 8, dtype=torch.float64)
        sketch.add(total, torch.stack([x, y]))
        found[seed] = total[0] @ total[1]
    variance = sketch.collision * (x @ x * (y @ y) + (x @ y)**2 - 2 * (x * y).square().sum())
    assert 0.8 / 8 < sketch.collision < 1 / 8
    assert (found.mean() - x @ y).abs() < 4 * (variance / draws)**0.5
    assert found.var() == pytest.approx(float(variance), rel=0.05)


def test_parts_of_vectors_add_up_to_the_sketch_of_the_whole():
    vectors = torch.randn(3, 40, dtype=torch.float64)
    sketch, whole, parts = Sketch(40, 7), *torch.zeros(2, 3, 7, dtype=torch.float64)
    sketch.add(whole, vectors)
    sketch.add(parts, vectors[:, :15])
    sketch.add(parts, vectors[:, 15:], 15)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize('metric', ['cka', 'rbf_cka'])
def test_a_sketch_as_long_as_the_grams_loses_nothing(paths, metric):
    exact = compute_similarity(paths, metric)
    sketched = compute_similarity(paths, dict(type=metric, sketch=WHOLE))
    assert sketched.values.shape == (len(exact.values), WHOLE) and sketched.symmetric
    rows = torch.arange(len(exact.values)).numpy()
    torch.testing.assert_close(torch.from_numpy(sketched.table[rows]), exact.values, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(sketched.table[rows[:, None], rows]), exact.values, rtol=0, atol=1e-5)
    assert sketched.mean() == pytest.approx(exact.mean(), abs=1e-5)


def test_errors_are_as_large_as_stated(paths):
    exact, size = compute_similarity(paths).values, 200
    vectors = compute_similarity(paths, dict(type='cka', sketch=size)).values
    error = (vectors @ vectors.T - exact) / ((1 - exact.square()) * Sketch(WHOLE, size).collision**0.5)
    pairs = torch.triu_indices(*exact.shape, 1)
    assert 0.5 < error[tuple(pairs)].square().mean()**0.5 < 1.5
    assert error[tuple(pairs)].abs().max() < 5


def test_stacks_of_any_height_and_zoos_that_grow_give_the_same_sketches(paths):
    metric = dict(type='cka', sketch=50)
    values = compute_similarity(paths, metric).values
    torch.testing.assert_close(compute_similarity(paths, metric, memory=16 * BATCH**2 * 3).values, values, rtol=0,
                               atol=1e-6)
    torch.testing.assert_close(compute_similarity(paths[1:], metric).values, values[7 - 1:], rtol=0, atol=1e-6)


def test_sketches_are_kept_in_files(paths, tmp_path):
    similarity = compute_similarity(paths, dict(type='cka', sketch=50))
    save_similarity(tmp_path / 'similarity.safetensors', similarity)
    loaded = load_similarity(tmp_path / 'similarity.safetensors')
    assert loaded.sketched and torch.equal(loaded.values, similarity.values)
    part = loaded.sub(['d', 'a'])
    assert part.values.shape == (9 + 6, 50) and torch.equal(part.values[:9], loaded.values[loaded.rows('d')])


def test_constant_layers_are_like_nothing(tmp_path, caplog):
    zoo = {'net': [torch.randn(30, 3), torch.full((30, 4), 0.1)]}
    values = compute_similarity(write_zoo(tmp_path, zoo, 30), dict(type='cka', sketch=20)).table[[0, 1]]
    assert values == pytest.approx(torch.tensor([[1, 0], [0, 0]]).numpy(), abs=1e-6)
    assert "The output of 'layer.0' in net does not vary" in caplog.text


@pytest.mark.parametrize('metric, message', [
    (dict(type='cka', sketch=0), 'sketch = 0 must be a whole number of at least 2'),
    (dict(type='cka', sketch=True), 'sketch = True must be'),
    (dict(type='cka', sketch=8, legacy=True), 'Leave one of legacy and sketch out'),
    (dict(type='lr', sketch=8), "similarity 'lr' has no option 'sketch'")])
def test_sketches_that_cannot_be_are_refused(paths, metric, message):
    with pytest.raises(ConfigError, match=message):
        compute_similarity(paths, metric)


@pytest.mark.parametrize('bijective', [False, True])
def test_partition_of_whole_sketches_is_that_of_all_pairs(nets, paths, bijective):
    nodes = {name: chain(features) for name, features in nets.items()}
    exact, sketched = (partition(compute_similarity(paths, metric), nodes, 2, 0.5, restarts=4, bijective=bijective)
                       for metric in ('cka', dict(type='cka', sketch=WHOLE)))
    assert sketched.blocks == exact.blocks and sketched.anchors == exact.anchors
    assert sketched.objective == pytest.approx(exact.objective, abs=1e-4)
    assert sketched.upper_bound == pytest.approx(exact.upper_bound, abs=1e-4)


def test_fewer_swaps_find_no_more(nets, paths, monkeypatch):
    nodes = {name: chain(features) for name, features in nets.items()}
    similarity = compute_similarity(paths)
    best = partition(similarity, nodes, 2, 0.5, restarts=1)
    monkeypatch.setattr(solver, 'SWAP_PAIRS', 1)
    fewer = partition(similarity, nodes, 2, 0.5, restarts=1)
    assert len(fewer.traces[0]) <= len(best.traces[0])
    assert fewer.objective <= best.objective
