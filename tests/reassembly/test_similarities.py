"""Similarities from stacked Grams against their definitions, layer by layer in float64."""
import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import save_file
from similarity_helpers import biased_cka, chain, explained, hsic1, random_similarity, unbiased_cka, write_zoo

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.reassembly.similarity.gram_files import GramSet, write_grams
from mmreuse.reassembly.similarity.similarities import compute_similarity
from mmreuse.reassembly.similarity.similarity_matrix import load_similarity, save_similarity
from mmreuse.registry import SIMILARITIES
from mmreuse.statistics.grams import GramAccumulator
from mmreuse.utils.files.io import load_tensors, save_tensors

METRICS = [dict(type=name, legacy=legacy) for name in ('cka', 'rbf_cka', 'lr') for legacy in (False, True)]


def smooth_net(seed: int, widths: list[int], samples: int = 48) -> list[torch.Tensor]:
    """Features of related layers: a common signal through random maps, rectified, means far from zero."""
    signal = torch.randn(samples, 6, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for width in widths:
        signal = (signal @ torch.randn(signal.shape[1], width, generator=generator)).relu()
        signal = signal + 0.3 * torch.randn(signal.shape, generator=generator) + 1
        signal = signal / signal.std()
        layers.append(signal)
    return layers


@pytest.fixture
def zoo():
    return {'a': smooth_net(1, [5, 9, 12]), 'b.c': smooth_net(2, [7, 8]), 'd': smooth_net(3, [4, 6, 6, 10])}


def pairwise(zoo, function) -> torch.Tensor:
    layers = [layer for features in zoo.values() for layer in features]
    return torch.tensor([[function(x, y) for y in layers] for x in layers])


def mean_over(function, batch: int):
    return lambda x, y: sum(map(function, x.split(batch), y.split(batch))) / len(x.split(batch))


def rbf(x: torch.Tensor, all_pairs: bool) -> torch.Tensor:
    distances = torch.cdist(x.double(), x.double()).square()
    pairs = distances.flatten() if all_pairs else distances[~torch.eye(len(x), dtype=torch.bool)]
    return torch.exp(-distances / (2 * pairs.median()))


def biased_rbf(x: torch.Tensor, y: torch.Tensor) -> float:
    centre = torch.eye(len(x), dtype=torch.float64) - 1 / len(x)
    k, m = (centre @ rbf(item, True) @ centre for item in (x, y))
    return float((k * m).sum() / (k.norm() * m.norm()))


def unbiased_rbf(x: torch.Tensor, y: torch.Tensor) -> float:
    k, m = rbf(x, False), rbf(y, False)
    return hsic1(k, m) / (hsic1(k, k) * hsic1(m, m))**0.5


def explained_centred(x: torch.Tensor, y: torch.Tensor) -> float:
    return explained(x - x.mean(0), y - y.mean(0))


@pytest.mark.parametrize(('metric', 'batch', 'reference'), [
    (dict(type='cka'), 48, lambda x, y: unbiased_cka(x, y, 48)),
    (dict(type='cka'), 20, lambda x, y: unbiased_cka(x, y, 20)),
    (dict(type='cka', legacy=True), 48, biased_cka),
    (dict(type='cka', legacy=True), 20, mean_over(biased_cka, 20)),
    (dict(type='rbf_cka'), 48, unbiased_rbf),
    (dict(type='rbf_cka', legacy=True), 20, mean_over(biased_rbf, 20)),
    (dict(type='lr'), 48, explained_centred),
    (dict(type='lr', legacy=True), 24, mean_over(explained, 24)),
], ids=lambda value: '' if callable(value) else str(value))
@pytest.mark.parametrize('memory', [2**31, 16 * 48**2 * 3], ids=['one tile', 'tiles'])
def test_stacked_grams_give_the_pairwise_values(tmp_path, zoo, metric, batch, reference, memory):
    similarity = compute_similarity(write_zoo(tmp_path, zoo, batch), metric, memory=memory)
    expected = pairwise(zoo, reference)
    assert similarity.keys == ('a', 'b.c', 'd') and similarity.offsets == (0, 3, 5, 9)
    assert similarity.symmetric == (metric['type'] != 'lr')
    assert (similarity.values.double() - expected).abs().max() < 1e-5


@pytest.mark.parametrize('metric', METRICS, ids=str)
def test_orthogonal_maps_scale_and_position_do_not_matter(tmp_path, metric):
    features = torch.randn(40, 6)
    rotation = torch.linalg.qr(torch.randn(6, 6))[0]
    shift = 0 if metric == dict(type='lr', legacy=True) else 5
    other = torch.randn(40, 6) + features
    zoo = {'one': [features, other], 'two': [3 * features @ rotation + shift, 0.01 * other @ rotation]}
    values = compute_similarity(write_zoo(tmp_path, zoo, 40), metric).values
    torch.testing.assert_close(values[:2, :2], values[2:, 2:], rtol=0, atol=2e-5)
    torch.testing.assert_close(values[:2, :2], values[:2, 2:], rtol=0, atol=2e-5)
    torch.testing.assert_close(values.diagonal(), torch.ones(4), rtol=0, atol=1e-6)


def test_unrelated_wide_features_are_alike_only_to_the_biased_estimate(tmp_path):
    paths = write_zoo(tmp_path, {'net': [torch.randn(60, 2000), torch.randn(60, 2000)]}, 60)
    assert compute_similarity(paths, dict(type='cka', legacy=True)).values[0, 1] > 0.9
    assert compute_similarity(paths, 'cka').values[0, 1].abs() < 0.05


def test_unbiased_minibatches_agree_with_the_full_batch(tmp_path):
    zoo = {'a': smooth_net(1, [12, 20], 512), 'b': smooth_net(2, [20, 30], 512)}
    full = pairwise(zoo, lambda x, y: unbiased_cka(x, y, 512))
    small = write_zoo(tmp_path, zoo, 32)
    assert (compute_similarity(small).values - full).abs().max() < 0.02
    assert (compute_similarity(small, dict(type='cka', legacy=True)).values - full).abs().max() > 0.02


def test_regression_is_directed_and_saturates_with_width(tmp_path, caplog):
    narrow, wide = torch.randn(30, 3), torch.randn(30, 40)
    similarity = compute_similarity(write_zoo(tmp_path, {'net': [narrow, wide]}, 30), 'lr')
    assert similarity.values[0, 1] == pytest.approx(1, abs=1e-5)
    assert similarity.values[1, 0] < 0.3 and not similarity.symmetric
    assert "output of 'layer.0' in net" in caplog.text


def test_a_constant_layer_is_like_nothing_and_named(tmp_path, caplog):
    zoo = {'net': [torch.randn(30, 3), torch.full((30, 4), 0.1)]}
    for metric in ('cka', 'rbf_cka', dict(type='cka', legacy=True)):
        caplog.clear()
        values = compute_similarity(write_zoo(tmp_path, zoo, 30), metric).values
        assert values.tolist() == [[1, 0], [0, 0]]
        assert "The output of 'layer.0' in net does not vary" in caplog.text


def test_a_new_similarity_is_one_function(tmp_path, zoo):

    @SIMILARITIES.register_module(name='trace_product')
    def trace_product(grams: GramSet, *, power: int = 1) -> torch.Tensor:
        return grams.product(lambda batch: batch.centred.diagonal(dim1=1, dim2=2)**power)

    try:
        similarity = compute_similarity(write_zoo(tmp_path, zoo, 48), dict(type='trace_product', power=2))
    finally:
        SIMILARITIES.module_dict.pop('trace_product')
    assert similarity.metric == 'trace_product' and similarity.options == {'power': 2}


def test_file_round_trip_and_part(tmp_path, zoo):
    similarity = compute_similarity(write_zoo(tmp_path, zoo, 48), dict(type='cka', legacy=True))
    save_similarity(tmp_path / 'similarity.safetensors', similarity)
    loaded = load_similarity(tmp_path / 'similarity.safetensors')
    assert torch.equal(loaded.values, similarity.values)
    assert {**vars(loaded), 'values': 0} == {**vars(similarity), 'values': 0}
    assert loaded.content_hash() == similarity.content_hash()
    part = similarity.sub(['d', 'a'])
    assert part.offsets == (0, 4, 7) and part.content_hash() != similarity.content_hash()
    assert torch.equal(part.values[part.rows('d'), part.rows('a')],
                       similarity.values[similarity.rows('d'), similarity.rows('a')])
    with pytest.raises(ConfigError, match="network 'z' is not in the similarity matrix, which holds a, b.c, d"):
        similarity.sub(['z'])


def test_wrong_files_are_named(tmp_path, zoo):
    paths = write_zoo(tmp_path, zoo, 48)
    (tmp_path / 'other').mkdir()
    other = write_zoo(tmp_path / 'other', {'e': zoo['a']}, 48, data_hash='sha256:1')
    with pytest.raises(ArtefactError, match='e.safetensors and .*a.safetensors hold Grams over different samples'):
        compute_similarity(paths + other)
    with pytest.raises(ArtefactError, match='different minibatches'):
        compute_similarity(paths + write_zoo(tmp_path / 'other', {'e': zoo['a']}, 24))
    with pytest.raises(ArtefactError, match="of \\['a'\\]"):
        compute_similarity([paths[0], paths[0]])
    with pytest.raises(ArtefactError, match='No Gram file'):
        compute_similarity([])
    with pytest.raises(ArtefactError, match='nothing.safetensors: is not a file'):
        compute_similarity([tmp_path / 'nothing.safetensors'])
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    with pytest.raises(ArtefactError, match='b.c.safetensors: is truncated'):
        compute_similarity(paths)
    with pytest.raises(ArtefactError, match='a.safetensors: is not a similarity matrix'):
        load_similarity(paths[0])
    save_similarity(paths[0], compute_similarity(paths[:1]))
    with pytest.raises(ArtefactError, match="a.safetensors: holds 'mmreuse.similarity'"):
        compute_similarity(paths)


def test_wrong_metrics_are_named(tmp_path, zoo):
    paths = write_zoo(tmp_path, zoo, 48)
    with pytest.raises(ConfigError, match="there is no similarity 'ckb'. Nearest: 'cka'"):
        compute_similarity(paths, 'ckb')
    with pytest.raises(ConfigError, match="similarity 'cka' has no option 'debiased'. Known: 'legacy'"):
        compute_similarity(paths, dict(type='cka', debiased=True))


def test_grams_of_other_nodes_are_not_written(tmp_path, zoo):
    accumulator = GramAccumulator(3, 48)
    accumulator.update(zoo['a'])
    with pytest.raises(ArtefactError, match='3 rows of Grams for 3 nodes of a'):
        write_grams(tmp_path / 'a.safetensors', accumulator.result(), key='a', nodes=chain(zoo['d']),
                    weights_hash='', data_hash='')
    assert not list(tmp_path.iterdir())


def _similarity_on_rank(rank: int, world: int, store: str, paths, results) -> None:
    torch.distributed.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=world)
    torch.set_num_threads(1)
    results[rank] = [compute_similarity(paths, metric).values for metric in ('cka', 'lr')]
    torch.distributed.destroy_process_group()


def test_two_ranks_give_the_same_matrix(tmp_path, zoo):
    paths = write_zoo(tmp_path, zoo, 20)
    results = mp.Manager().dict()
    mp.start_processes(_similarity_on_rank, (2, str(tmp_path / 'store'), paths, results), nprocs=2, start_method='fork')
    for index, metric in enumerate(('cka', 'lr')):
        alone = compute_similarity(paths, metric).values
        for rank in range(2):
            torch.testing.assert_close(results[rank][index], alone, rtol=0, atol=1e-6)


def test_regression_sees_what_rounding_leaves_and_nothing_else(tmp_path):
    """A direction of a thousandth of the spread counts, dead channels do not become directions."""
    torch.manual_seed(0)
    spread = torch.randn(256, 40)
    faint = torch.randn(256, 1)
    net = [torch.cat([spread, 1e-3 * faint, torch.zeros(256, 60)], 1), faint.clone(), torch.randn(256, 1)]
    values = compute_similarity(write_zoo(tmp_path, {'net': net}, 256), 'lr').values
    assert values[1, 0] > 0.99  # its eigenvalue is 5e-7 of the largest
    assert values[2, 0] == pytest.approx(explained(*(x - x.mean(0) for x in (net[2], net[0][:, :41]))), abs=0.01)


@pytest.mark.parametrize('lie', [
    dict(sizes=[10**9]), dict(sizes=[]), dict(sizes='x'), dict(sizes=[2]), dict(nodes=[]), dict(nodes=[{}]),
    dict(key=None, weights_hash=None, nodes=3)], ids=str)
def test_gram_files_hold_what_they_say(tmp_path, lie):
    """What the metadata claims is held against the tensors before anything is allocated for it."""
    path, = write_zoo(tmp_path, {'net': [torch.randn(20, 3) for _ in range(3)]}, 10)
    tensors, metadata = load_tensors(path)
    save_tensors(path, tensors, {**metadata, **lie})
    with pytest.raises(ArtefactError, match='net.safetensors: (is not a complete Gram file|holds tensors of shapes)'):
        compute_similarity([path])


@pytest.mark.parametrize('text', ['{', '[' * 100_000])
def test_metadata_that_does_not_parse_is_named(tmp_path, text):
    save_file({'centred': torch.zeros(1)}, tmp_path / 'net.safetensors', metadata=dict(kind=text))
    with pytest.raises(ArtefactError, match='net.safetensors: is truncated or not a safetensors file'):
        compute_similarity([tmp_path / 'net.safetensors'])


@pytest.mark.parametrize('lie', [dict(keys=3), dict(offsets=[0, 10**9]), dict(node_names=None), dict(surplus=1)])
def test_similarity_files_hold_what_they_say(tmp_path, lie):
    save_similarity(tmp_path / 'similarity.safetensors', random_similarity({'a': 2, 'b': 3}))
    tensors, metadata = load_tensors(tmp_path / 'similarity.safetensors')
    save_tensors(tmp_path / 'similarity.safetensors', tensors, {**metadata, **lie})
    with pytest.raises(ArtefactError):
        load_similarity(tmp_path / 'similarity.safetensors')
