"""Matching by activations and weights together: its ends, its objective, planted permutations."""
from functools import partial

import pytest
import torch

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.merging.interpolation.descent import Aligner
from mmreuse.merging.matchers.blended import blended
from mmreuse.merging.matchers.weights import weight_matching
from mmreuse.merging.matching.match_spaces import match_spaces
from mmreuse.statistics import collect

from .architectures import Plain, assert_planted, batches, graph_of, permuted, resnext, vit


@pytest.fixture(scope='module', params=[Plain, vit, resnext], ids=lambda make: make.__name__)
def independent(request):
    """Three networks that have nothing in common, and their moments."""
    graphs = [graph_of(request.param, seed) for seed in range(3)]
    return graphs, collect(graphs, batches())


def assert_equal_maps(first, second):
    assert list(first) == list(second)
    assert all(torch.equal(first[name].map.index, second[name].map.index) for name in first)


def test_activations_alone_are_permuting(independent):
    graphs, moments = independent
    assert_equal_maps(blended(graphs, moments, weight=1.), match_spaces(graphs, moments, 'permute'))
    graphs, moments = graphs[:2], collect(graphs[:2], batches())  # of two models all pairs are those with the first
    found, expected = blended(graphs, moments, weight=1.), match_spaces(graphs, moments, 'permute')
    assert all(found[name].score == pytest.approx(expected[name].score) for name in moments)


def test_weights_alone_are_weight_matching(independent):
    graphs, moments = independent
    found, expected = blended(graphs, moments, weight=0., seed=3), weight_matching(graphs, seed=3)
    assert_equal_maps(found, expected)
    assert all(found[name].score == pytest.approx(expected[name].score) for name in found)


def test_a_blend_differs_from_both_and_never_loses(independent, monkeypatch):
    graphs, moments = independent
    gains, step = [], Aligner._step

    def watched(aligner: Aligner, names: list[str]) -> bool:
        before = aligner.objective()
        improved = step(aligner, names)
        gains.append((aligner.objective() - before) / abs(before))
        return improved

    monkeypatch.setattr(Aligner, '_step', watched)
    found = blended(graphs, moments, weight=.5)
    assert min(gains) > -1e-12 and max(gains) > 0
    ends = [blended(graphs, moments, weight=end) for end in (0., 1.)]
    assert all(any(not torch.equal(found[name].map.index, end[name].map.index) for name in found) for end in ends)


@pytest.mark.parametrize('make', [Plain, vit, resnext])
def test_permuted_clones_are_put_back(make):
    graph = graph_of(make)
    clones = [permuted(graph, seed) for seed in (1, 2)]
    graphs = [graph, *(clone for clone, _ in clones)]
    found = match_spaces(graphs, collect(graphs, batches()), partial(blended, weight=.5))
    for number, (_, planted) in enumerate(clones, 1):
        assert_planted(found, planted, number)


def test_spaces_without_moments_are_matched_by_weights():
    graph = graph_of()
    clone, planted = permuted(graph, seed=1)
    moments = collect([graph, clone], batches(), spaces=['stem.0'])
    assert_planted(blended([graph, clone], moments), planted)


def test_mistakes_are_named():
    graph = graph_of()
    moments = collect([graph, graph], batches())
    with pytest.raises(ConfigError, match='weight = 1.5'):
        blended([graph, graph], moments, weight=1.5)
    with pytest.raises(ConfigError, match="needs joint moments; 'weight_matching'"):
        blended([graph, graph], None)
    with pytest.raises(SpaceError, match=r'has \(12, 12, 12\) features.*moments are of \(12, 12\)'):
        blended([graph, graph, graph], moments)
