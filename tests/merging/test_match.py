"""Matching all spaces: planted permutations of real structures, blocks, overrides, what cannot be observed."""
import logging
import math

import pytest
import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.graph import Assign, Dense, trace, transform
from mmreuse.merging.matching.match_spaces import match_spaces
from mmreuse.merging.matching.matching import Matching
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments, collect

from .architectures import (
    INPUT,
    Plain,
    assert_planted,
    assert_same_function,
    batches,
    graph_of,
    permuted,
    places,
    regnet,
    resnext,
    swin,
    vit,
)

ARCHITECTURES = [Plain, vit, swin, resnext, regnet]


class Scaled(nn.Module):
    """Two blocks of channels that a constant tells apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        scale = torch.tensor([1., 2.], dtype=x.dtype).reshape(1, 2, 1, 1, 1)
        return self.head((x.unflatten(1, (2, 4)) * scale).flatten(1, 2)).mean((2, 3))


def neighbours(moments: SpaceMoments) -> Matching:
    """Joins neighbours: features 2j and 2j + 1 of all models become the j-th of half as many."""
    index = torch.cat([torch.arange(size) // 2 for size in moments.sizes])
    return Matching(Assign(index, moments.sizes[0] // 2), moments.sizes, 0.)


def rotated(moments: SpaceMoments) -> Matching:
    """A dense map that has no zeros: a random rotation of each model."""
    torch.manual_seed(len(moments.mean))
    turns = [torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))[0] for size in moments.sizes]
    return Matching(Dense(torch.cat(turns, 1) / len(turns), torch.cat([turn.T for turn in turns])), moments.sizes, 0.)


@pytest.fixture(scope='module')
def pairs():
    """Of each architecture a graph, a permuted clone, how it was permuted, and their moments."""
    found = {}
    for make in ARCHITECTURES:
        graph = graph_of(make)
        clone, planted = permuted(graph, seed=3)
        found[make.__name__] = graph, clone, planted, collect([graph, clone], batches())
    return found


@pytest.mark.parametrize('name', [make.__name__ for make in ARCHITECTURES])
def test_a_permuted_clone_is_put_back(pairs, name):
    graph, clone, planted, moments = pairs[name]
    found = match_spaces([graph, clone], moments, 'permute')
    assert list(found) == list(graph.spaces)
    assert_planted(found, planted)
    assert_same_function(graph, clone, found)
    alive = [name for name in found if name not in moments or moments[name].covariance.diagonal().min() > 0]
    assert all(found[name].score == pytest.approx(1, abs=1e-4) for name in alive) and len(alive) > len(found) / 2


def test_blocks_without_taps_follow_what_is_in_them_and_say_so(pairs, caplog):
    graph, clone, planted, moments = pairs['vit']
    with caplog.at_level(logging.INFO):
        found = match_spaces([graph, clone], moments, 'permute')
    heads = [name for name in graph.spaces if name.endswith('.blocks')]
    assert heads and set(found.notes) == set(heads)
    assert all(f"'{name}'" in caplog.text for name in heads)
    assert any(planted[name].index.tolist() != [0, 1, 2] for name in heads)


@pytest.mark.parametrize('name', ['vit', 'resnext', 'regnet'])
@pytest.mark.parametrize('matcher', ['zip', rotated], ids=['zip', 'dense'])
def test_any_matcher_stays_inside_its_blocks(pairs, name, matcher):
    """What `transform` proves of each model's map: features stay in their block, blocks go where they were sent."""
    graph, clone, _, moments = pairs[name]
    found = match_spaces([graph, clone], moments, matcher)
    for number, traced in enumerate((graph, clone)):
        maps = {name: matching.per_model()[number] for name, matching in found.items()}
        assert transform(traced, maps)(INPUT).shape == (1, 5)
    assert all(matching.size == graph.spaces[name].size for name, matching in found.items())


def test_groups_shrink_alike(pairs):
    graph, clone, _, moments = pairs['regnet']
    inside = [name for name, space in graph.spaces.items() if space.blocks is not None]
    blocks = sorted({graph.spaces[name].block_space for name in inside})
    found = match_spaces([graph, clone], moments, neighbours, spaces=[*inside, *blocks])
    for name in inside:
        blocks_of = graph.spaces[name].blocks
        assert found[name].size == graph.spaces[name].size // 2
        assert len(found[graph.spaces[name].block_space].per_model()[0].index) == graph.spaces[name].num_blocks
        first = found[name].per_model()[0].index
        assert all(len(blocks_of[first == member].unique()) == 1 for member in range(found[name].size))
    model = transform(graph, {name: matching.per_model()[0] for name, matching in found.items()})
    assert model(INPUT).shape == (1, 5)


def test_what_no_layer_reads_is_joined_one_to_one(pairs):
    """Two features of one model that are averaged in queries and in keys would count half."""
    graph, clone, planted, moments = pairs['vit']

    def fold(moments: SpaceMoments) -> Matching:
        size = moments.sizes[0]
        index = torch.cat([torch.arange(size) // 2, torch.arange(size) // 2 + size // 2])
        return Matching(Assign(index, size), moments.sizes, 0.)

    found = match_spaces([graph, clone], moments, fold)
    queries, values = 'blocks.0.attn.qkv:0', 'blocks.0.attn.qkv:1'
    assert torch.equal(found[queries].per_model()[1].index, planted[queries].index)
    assert 'one to one' in found.notes[queries]
    assert found[values].map.index.bincount().tolist() == [2] * 24 and values not in found.notes


def test_blocks_that_keep_their_places_are_matched_inside():
    graph = graph_of(Scaled)
    space = graph.spaces['conv']
    assert space.blocks is not None and space.block_space is None
    clone, planted = permuted(graph, seed=1)
    moments = collect([graph, clone], batches())
    found = match_spaces([graph, clone], moments, 'permute')
    assert_planted(found, planted)
    folded = match_spaces([graph, clone], moments, 'zip')['conv']
    assert all(len(space.blocks[item.index == member].unique()) <= 1
               for item in folded.per_model() for member in range(8))


def test_three_models_are_all_put_in_the_order_of_the_first():
    graph = graph_of(vit)
    clones = [permuted(graph, seed) for seed in (1, 2)]
    graphs = [graph, *(clone for clone, _ in clones)]
    found = match_spaces(graphs, collect(graphs, batches()), 'permute')
    for number, (_, planted) in enumerate(clones, 1):
        assert_planted(found, planted, number)


def test_a_frozen_space_holds_its_blocks(pairs):
    graph, clone, planted, moments = pairs['vit']
    found = match_spaces([graph, clone], moments, 'permute', overrides={r'blocks\.0\.attn\.qkv:1': 'identity'})
    still = torch.arange(24)
    assert torch.equal(found['blocks.0.attn.qkv:1'].per_model()[1].index, still)
    assert found['blocks.0.attn.qkv.blocks'].per_model()[1].index.tolist() == [0, 1, 2]
    assert 'must stay' in found.notes['blocks.0.attn.qkv.blocks']
    blocks = graph.spaces['blocks.0.attn.qkv:0'].blocks
    assert torch.equal(blocks[places(found['blocks.0.attn.qkv:0'], 1)], blocks)
    assert torch.equal(found['blocks.1.attn.qkv:0'].per_model()[1].index, planted['blocks.1.attn.qkv:0'].index)
    transform(clone, {name: matching.per_model()[1] for name, matching in found.items()})


def test_only_named_spaces_are_matched_and_their_blocks_stay(pairs):
    graph, clone, _, moments = pairs['vit']
    found = match_spaces([graph, clone], moments, 'permute', spaces=['blocks.0.attn.qkv:1', 'blocks.0.mlp.fc1'])
    assert list(found) == ['blocks.0.attn.qkv:1', 'blocks.0.mlp.fc1']
    blocks = graph.spaces['blocks.0.attn.qkv:1'].blocks
    assert torch.equal(blocks[places(found['blocks.0.attn.qkv:1'], 1)], blocks)


def test_matchers_of_one_space_and_of_all_go_together(pairs):
    graph, clone, planted, moments = pairs['Plain']
    seen = []

    def everything(graphs, moments, *, spaces):
        seen.append(list(spaces))
        return {name: Matching(Assign(torch.arange(12).repeat(2), 12), (12, 12), 0.) for name in spaces}

    found = match_spaces([graph, clone], moments, 'permute', overrides={'stem.*': everything, '.*': 'permute'})
    assert seen == [['stem.0']] and list(found) == list(graph.spaces)
    assert torch.equal(found['inner.0'].per_model()[1].index, planted['inner.0'].index)


def test_the_identity_needs_no_data(pairs):
    graph, clone, *_ = pairs['vit']
    found = match_spaces([graph, clone], None, 'identity')
    assert all(matching.map.index.tolist() == 2 * list(range(matching.size)) for matching in found.values())
    assert all(math.isnan(matching.score) for matching in found.values()) and not found.notes


def test_an_unobserved_space_alone_keeps_its_order(pairs):
    graph, clone, _, _ = pairs['vit']
    found = match_spaces([graph, clone], {}, 'permute', spaces=['blocks.0.attn.qkv.blocks'])
    assert found['blocks.0.attn.qkv.blocks'].map.index.tolist() == [0, 1, 2, 0, 1, 2]
    assert 'keeps its order' in found.notes['blocks.0.attn.qkv.blocks']


def test_models_of_differing_widths_reach_the_matcher():
    graph, other = graph_of(Plain), graph_of(Plain, seed=1, width=16)

    def widest(moments: SpaceMoments) -> Matching:
        index = torch.cat([torch.arange(size) for size in moments.sizes])
        return Matching(Assign(index, max(moments.sizes)), moments.sizes, 0.)

    found = match_spaces([graph, other], collect([graph, other], batches()), widest, spaces=['stem.0'])
    assert found['stem.0'].sizes == (12, 16) and found['stem.0'].size == 16


def test_mistakes_are_named_before_anything_is_matched(pairs):
    graph, clone, _, moments = pairs['Plain']
    graphs = [graph, clone]
    with pytest.raises(SpaceError, match="no moments of 'stem.0'.*weight_matching"):
        match_spaces(graphs, None, 'permute')
    with pytest.raises(SpaceError, match="no moments of 'stem.0'"):
        match_spaces(graphs, {name: item for name, item in moments.items() if name != 'stem.0'}, 'permute')
    with pytest.raises(SpaceError, match=r"'stem.0' has \(12, 12, 12\) features.*moments are of \(12, 12\)"):
        match_spaces([*graphs, clone], moments, 'permute')
    with pytest.raises(ConfigError, match="override 'stme' fits .* no feature space. Nearest: 'stem.0'"):
        match_spaces(graphs, moments, 'permute', overrides={'stme': 'identity'})
    with pytest.raises(ConfigError, match='not a regular expression'):
        match_spaces(graphs, moments, 'permute', overrides={'(': 'identity'})
    with pytest.raises(ConfigError, match="'<lambda>' is no matcher: it takes neither 'moments'"):
        match_spaces(graphs, moments, lambda features: features)
    with pytest.raises(ConfigError, match="no matcher 'permutate'. Nearest: 'permute'"):
        match_spaces(graphs, moments, 'permutate')


def test_an_unknown_name_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / 'permutate.py').write_text('raise IndexError')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyError, match="'permutate' is not registered"):
        MATCHERS.build(dict(type='permutate'))


def test_errors_of_a_matcher_name_the_space(pairs):
    graph, clone, _, moments = pairs['Plain']

    def fails(moments: SpaceMoments) -> Matching:
        raise SpaceError('no feature is alive')

    with pytest.raises(SpaceError, match="space 'stem.0': no feature is alive"):
        match_spaces([graph, clone], moments, fails)
    broken = {**moments, 'inner.0': SpaceMoments(9, torch.full((24,), torch.nan), torch.eye(24), (12, 12))}
    with pytest.raises(DataError, match="space 'inner.0': feature 0 of model 0 is not finite"):
        match_spaces([graph, clone], broken, 'permute')


def test_a_block_that_would_grow_is_refused(pairs):
    graph, clone, _, moments = pairs['vit']

    def concatenate(moments: SpaceMoments) -> Matching:
        return Matching(Assign(torch.arange(sum(moments.sizes)), sum(moments.sizes)), moments.sizes, 0.)

    with pytest.raises(SpaceError, match='blocks cannot grow'):
        match_spaces([graph, clone], moments, concatenate)


def test_a_traced_model_matches_itself_in_place():
    graph = trace(vit().eval(), INPUT)
    found = match_spaces([graph, graph], collect([graph, graph], batches()), 'permute')
    assert all(torch.equal(places(matching, 1), torch.arange(matching.size)) for matching in found.values())
