"""The search: exact where it can be, reproducible, resumable, and sparing with the proxy."""
import itertools
import json
import math

import numpy as np
import pytest
import torch
from tiny_zoo import make_partition, make_zoo, resnet

from mmreuse.errors import ArtefactError, ConfigError, DataError, InfeasibleError
from mmreuse.reassembly.assembly.assembly import ComponentCache
from mmreuse.reassembly.assembly.genotype import Rules, genotype_from_dict, genotype_hash, genotype_to_dict
from mmreuse.reassembly.assembly.prefix import PrefixNaswot
from mmreuse.reassembly.search.bounds import Bounds
from mmreuse.reassembly.search.proxies import naswot
from mmreuse.reassembly.search.scoring import Scorer
from mmreuse.reassembly.search.search import like, pareto_front, random_assembly, search, time_candidates
from mmreuse.reassembly.search.trellis import build_assemblies
from mmreuse.reassembly.zoo.costs import CostTable
from mmreuse.reassembly.zoo.structures import Candidate
from mmreuse.registry import PROXIES

SIZE = (16, 16)


@pytest.fixture(scope='module')
def ground(tmp_path_factory):
    """Assemblies of four tiny nets, and what builds them."""
    zoo = make_zoo(tmp_path_factory.mktemp('zoo'), *(resnet(f'width{width}', width) for width in (2, 3, 4, 6)))
    partition, nodes = make_partition(zoo)
    rules = Rules(stem='cifar', match_resolution=False)
    return build_assemblies(partition, CostTable(zoo, nodes, 5, SIZE), rules), ComponentCache(zoo, nodes, 5)


def batches(count: int = 3, size: int = 6) -> list:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(size, 3, *SIZE, generator=generator), torch.arange(size) % 5) for _ in range(count)]


@pytest.fixture
def counted():
    """A proxy that costs nothing, is almost a sum over pieces, and counts its calls."""
    calls = []

    @PROXIES.register_module(name='counted', force=True)
    def score(model, images, labels=None):
        calls.append(model)
        params = sum(p.numel() for p in model.parameters())
        return math.sin(params / 3000) + float(images.mean()) + 0.001 * (params % 7)

    yield calls
    PROXIES._module_dict.pop('counted')


def genotypes(assemblies, count: int) -> list:
    paths = itertools.product(*(range(len(row)) for row in assemblies.choices))
    joined = (path for path in paths if all(
        assemblies.choices[i][a].target == assemblies.choices[i + 1][b].source
        for i, (a, b) in enumerate(itertools.pairwise(path))))
    return [assemblies.genotype(path) for path in itertools.islice(joined, count)]


@pytest.mark.parametrize('memory', [0, 40_000, 1 << 30])
def test_prefix_shared_naswot_is_plain_naswot_to_the_last_bit(ground, memory):
    assemblies, pieces = ground
    images, _ = batches(1)[0]
    shared = PrefixNaswot(memory=memory, normalise=True)
    for genotype in genotypes(assemblies, 40):
        assert shared(pieces.steps(genotype), images, 0) == naswot(pieces.build(genotype), images, normalise=True)
        assert shared.kept.bytes == sum(prefix.nbytes for prefix, _ in shared.kept._kept.values()) <= memory
    if memory == 1 << 30:
        assert shared.pieces_saved > shared.pieces_run
    if memory == 0:
        assert shared.pieces_saved == 0


def test_a_genotype_is_the_same_net_whatever_was_built_before(ground):
    assemblies, pieces = ground
    images, _ = batches(1)[0]
    first, *others = genotypes(assemblies, 5)
    tiny_memory = ComponentCache(pieces.zoo, pieces.nodes, 5, memory=1)
    for genotype in others:
        tiny_memory.build(genotype)
    assert tiny_memory.kept.bytes <= 1
    state = torch.random.get_rng_state()
    with torch.no_grad():
        assert torch.equal(tiny_memory.build(first)(images), pieces.build(first)(images))
        other_seed = ComponentCache(pieces.zoo, pieces.nodes, 5, seed=1).build(first)(images)
    assert not torch.equal(other_seed, pieces.build(first)(images))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_genotype_survives_json_and_its_name_tells_it_from_others(ground):
    assemblies, _ = ground
    some = genotypes(assemblies, 30)
    assert [genotype_from_dict(json.loads(json.dumps(genotype_to_dict(g)))) for g in some] == some
    assert len({genotype_hash(g) for g in some}) == len(some)
    with pytest.raises(ArtefactError, match='not a genotype'):
        genotype_from_dict({'blocks': []})


def test_a_small_space_is_searched_exhaustively(ground, counted):
    assemblies, pieces = ground
    bounds = Bounds(max_params=9000, min_flops=100_000)
    result = search(assemblies, Scorer(pieces, batches(2), 'counted'), bounds, num_candidates=5000)
    assert result.exhaustive and len(result.candidates) == result.feasible and not result.screened
    assert result.evaluations == len(counted) == 2 * result.feasible
    expected = max(np.mean([PROXIES.get('counted')(pieces.build(c.genotype), images) for images, _ in batches(2)])
                   for c in result.candidates)
    scores = [c.scores['counted'] for c in result.candidates]
    assert scores == sorted(scores, reverse=True) and scores[0] == pytest.approx(expected)
    assert all(c.params <= 9000 and c.flops > 100_000 for c in result.candidates)


@pytest.mark.parametrize('method', ['enumerate', 'milp'])
def test_a_search_comes_near_the_best_with_few_evaluations(ground, counted, method):
    assemblies, pieces = ground
    scorer = Scorer(pieces, batches(4), 'counted')
    everything = search(assemblies, scorer, num_candidates=5000)
    ranks = sorted((c.scores['counted'] for c in everything.candidates), reverse=True)
    result = search(assemblies, Scorer(pieces, batches(4), 'counted'), num_candidates=32, finalists=4, method=method)
    assert len(result.candidates) + len(result.screened) == 32 and len(result.candidates) >= 4
    assert result.evaluations < 32 * 4 * 0.7 < everything.evaluations
    assert result.candidates[0].scores['counted'] >= ranks[len(ranks) // 20]


def test_equal_seeds_give_equal_results_and_the_callback_follows(ground, counted):
    assemblies, pieces = ground
    told = []
    results = [search(assemblies, Scorer(pieces, batches(2), 'counted'), num_candidates=12, finalists=3, seed=seed,
                      callback=told.append) for seed in (4, 4, 5)]
    assert results[0] == results[1] != results[2]
    assert [p.scored for p in told[:3]] == sorted(p.scored for p in told[:3])
    assert {p.planned for p in told} == {12} and told[-1].scored == 12


def test_a_killed_search_goes_on_where_it_stopped(ground, counted, tmp_path):
    assemblies, pieces = ground
    log = tmp_path / 'logs' / 'scores.jsonl'
    run = dict(num_candidates=14, finalists=3, seed=1)
    whole = search(assemblies, Scorer(pieces, batches(2), 'counted', log=log), **run)
    lines = log.read_text().splitlines(keepends=True)
    done = len(counted)
    log.write_text(''.join(lines[:9]) + lines[9][:20])
    again = search(assemblies, Scorer(pieces, batches(2), 'counted', log=log), **run)
    assert again == whole and len(counted) - done == done - 8
    assert [json.loads(line) for line in log.read_text().splitlines()] == [json.loads(line) for line in lines]
    with pytest.raises(ArtefactError, match='another proxy, data, zoo or seed'):
        Scorer(pieces, batches(3), 'counted', log=log)
    log.write_text('{"kind": "mmreuse.scores"}\nnonsense\n')
    with pytest.raises(ArtefactError, match='not a log of scores'):
        Scorer(pieces, batches(2), 'counted', log=log)


def test_scores_that_are_not_finite_rank_last(ground, caplog):
    assemblies, pieces = ground

    @PROXIES.register_module(name='sometimes_nan', force=True)
    def score(model, images, labels=None):
        params = sum(p.numel() for p in model.parameters())
        return math.nan if params % 3 == 0 else -float(params)

    try:
        result = search(assemblies, Scorer(pieces, batches(1), 'sometimes_nan'), num_candidates=5000)
    finally:
        PROXIES._module_dict.pop('sometimes_nan')
    scores = [c.scores['sometimes_nan'] for c in result.candidates]
    finite = [score for score in scores if math.isfinite(score)]
    assert scores[:len(finite)] == sorted(finite, reverse=True) and 0 < len(finite) < len(scores)
    assert all(c.params % 3 == 0 for c in result.candidates[len(finite):])
    assert all(math.isfinite(c.scores['sometimes_nan']) for c in result.pareto)
    assert 'ranks last' in caplog.text


def test_naswot_through_a_search_shares_prefixes_and_data_free_proxies_take_one_batch(ground):
    assemblies, pieces = ground
    scorer = Scorer(pieces, batches(2), 'naswot')
    result = search(assemblies, scorer, num_candidates=24, finalists=4)
    assert scorer._shared.pieces_saved > 0
    best = result.candidates[0]
    plain = np.mean([naswot(pieces.build(best.genotype), images) for images, _ in batches(2)])
    assert best.scores['naswot'] == pytest.approx(plain, abs=1e-12)
    assert Scorer(pieces, batches(3), 'synflow').num_batches == 1


def test_the_pareto_front_is_what_nothing_beats():
    rng = np.random.default_rng(0)
    some = [Candidate(None, int(p), int(f), {'s': float(s)}) for s, p, f in rng.integers(0, 6, (60, 3))]
    some.append(Candidate(None, -1, -1, {'s': math.nan}))
    front = pareto_front(some, 's')

    def beats(a, b):
        better = [a.scores['s'] - b.scores['s'], b.params - a.params, b.flops - a.flops]
        return min(better) >= 0 and max(better) > 0

    assert list(front) == [c for c in some[:-1] if not any(beats(other, c) for other in some)]
    assert pareto_front([], 's') == ()


def test_a_random_assembly_is_of_equal_budget_and_seeded(ground):
    assemblies, _ = ground
    reference = random_assembly(assemblies, seed=3)
    drawn = [random_assembly(assemblies, like(reference, 0.3), seed) for seed in range(8)]
    assert drawn[0] == random_assembly(assemblies, like(reference, 0.3), 0) and len(set(map(str, drawn))) > 1
    for candidate in drawn:
        assert abs(candidate.params / reference.params - 1) <= 0.3
        assert abs(candidate.flops / reference.flops - 1) <= 0.3


def test_finalists_can_be_timed(ground, counted):
    assemblies, pieces = ground
    result = search(assemblies, Scorer(pieces, batches(1), 'counted'), num_candidates=6, finalists=2)
    timed = time_candidates(result, pieces, SIZE, top=2, repeats=2)
    assert all(c.latency > 0 for c in timed.candidates[:2])
    assert [c.genotype for c in timed.candidates] == [c.genotype for c in result.candidates]


def test_what_cannot_be_searched_is_said(ground, counted):
    assemblies, pieces = ground
    scorer = Scorer(pieces, batches(1), 'counted')
    with pytest.raises(InfeasibleError, match='max_params = 10 binds.*nearest feasible value is'):
        search(assemblies, scorer, Bounds(max_params=10))
    with pytest.raises(ConfigError, match='latency is bounded but was not measured'):
        search(assemblies, scorer, Bounds(max_latency=1.0))
    with pytest.raises(ConfigError, match='num_candidates = 0'):
        search(assemblies, scorer, num_candidates=0)
    with pytest.raises(ConfigError, match="there is no proxy 'naswott'. Nearest: 'naswot'"):
        Scorer(pieces, batches(1), 'naswott')
    with pytest.raises(DataError, match='at least one'):
        Scorer(pieces, [], 'naswot')
    assert not counted
