"""Weight matching: planted permutations, its objective against what `transform` gives, local optimality."""
from functools import partial
from itertools import permutations

import pytest
import torch
from torch import nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.graph import Permute, TracedModel, trace, transform
from mmreuse.graph.proof.verify import random_permutations
from mmreuse.merging.interpolation.descent import Aligner, best_descent, state_of
from mmreuse.merging.matchers.weights import weight_matching
from mmreuse.merging.matching.match_spaces import match_spaces

from .architectures import (
    Plain,
    assert_planted,
    assert_same_function,
    graph_of,
    permuted,
    places,
    regnet,
    resnext,
    swin,
    vit,
)

ARCHITECTURES = [Plain, vit, swin, resnext, regnet]


def product(graph: TracedModel, other: TracedModel, maps: dict[str, Permute], buffers: bool = False) -> float:
    """Inner product of two networks' weights along their spaces, the second permuted by `transform`."""
    target, own = state_of(graph), state_of(TracedModel(transform(other, maps), other.inputs, other.spaces, ()))
    names = {name for name, _ in graph.model.named_parameters()} if not buffers else set(target)
    return sum(float((target[key] * own[key]).sum()) for key in target if key in names)


@pytest.mark.parametrize('make', ARCHITECTURES)
def test_a_permuted_clone_is_put_back_without_data(make):
    graph = graph_of(make)
    clone, planted = permuted(graph, seed=3)
    found = match_spaces([graph, clone], None, 'weight_matching')
    assert_planted(found, planted)
    assert_same_function(graph, clone, found)
    assert all(matching.score == pytest.approx(1) for matching in found.values())


@pytest.mark.parametrize('make', ARCHITECTURES)
@pytest.mark.parametrize('include_buffers', [False, True])
def test_similarities_predict_what_a_permutation_does_to_the_objective(make, include_buffers):
    graph, other = graph_of(make), graph_of(make, seed=1)
    aligner = Aligner(other, list(graph.spaces), state_of(graph), include_buffers=include_buffers)
    start = product(graph, other, {}, include_buffers)
    assert aligner.objective() == pytest.approx(start, rel=1e-9)
    for name, space in graph.spaces.items():
        index = random_permutations({name: space}, 5)[name].index if space.block_space is None else within(space)
        if space.axes and not any(child.block_space == name for child in graph.spaces.values()):
            similarity = aligner.similarity(name)
            gain = similarity[torch.arange(space.size), index].sum() - similarity.trace()
            change = product(graph, other, {name: Permute(index)}, include_buffers) - start
            assert change == pytest.approx(float(gain), rel=1e-6, abs=1e-9 * abs(start)), name


def within(space) -> torch.Tensor:
    """A permutation that leaves every member in its block."""
    index = torch.arange(space.size)
    for block in range(space.num_blocks):
        index[space.blocks == block] = (space.blocks == block).nonzero().flatten().roll(1)
    return index


@pytest.mark.parametrize('make', ARCHITECTURES)
def test_the_objective_never_decreases_and_ends_where_no_exchange_helps(make, monkeypatch):
    graph, other = graph_of(make), graph_of(make, seed=1)
    values, step = [], Aligner._step

    def watched(aligner: Aligner, names: list[str]) -> bool:
        before = aligner.objective()
        improved = step(aligner, names)
        values.append(aligner.objective() - before)
        assert improved == (values[-1] > 0)
        return improved

    monkeypatch.setattr(Aligner, '_step', watched)
    aligner = best_descent(partial(Aligner, other, list(graph.spaces), state_of(graph)), 1, 0)
    assert min(values) >= 0 and max(values) > 0
    maps = {name: Permute(index) for name, index in aligner.places.items()}
    assert aligner.objective() == pytest.approx(product(graph, other, maps), rel=1e-9)
    assert not aligner.descend(torch.Generator())  # what was left out, for nothing near it had changed, is solved
    best = aligner.objective()
    for name, space in graph.spaces.items():
        if space.blocks is None and not any(child.block_space == name for child in graph.spaces.values()):
            index = aligner.places[name].clone()
            index[[0, 1]] = index[[1, 0]]
            assert product(graph, other, {**maps, name: Permute(index)}) <= best + 1e-9 * abs(best)


def test_a_deep_residual_stream_is_found_from_what_is_fixed():
    """From the identity in random order, all layers first fit themselves to a stream in the wrong order."""
    torch.manual_seed(0)
    graph = trace(vit(depth=8), torch.zeros(1, 3, 32, 32))
    clone, planted = permuted(graph, seed=1)
    aligner = Aligner(clone, list(graph.spaces), state_of(graph))
    aligner.match_outwards()
    assert torch.equal(aligner.places['blocks'].argsort(), planted['blocks'].index)
    assert aligner.objective() == pytest.approx(product(graph, graph, {}), rel=1e-6)
    assert_planted(weight_matching([graph, clone]), planted)


def test_one_hidden_layer_is_solved_exactly():
    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5), nn.ReLU(), nn.Linear(5, 3))

    graph, other = (trace(make(), torch.zeros(1, 3, 32, 32)) for _ in range(2))
    found = weight_matching([graph, other])
    best = max(permutations(range(5)), key=lambda index: product(graph, other, {'1': Permute(torch.tensor(index))}))
    assert places(found['1'], 1).tolist() == list(best)


def test_more_descents_are_never_worse():
    graph, other = graph_of(), graph_of(seed=1)
    make = partial(Aligner, other, list(graph.spaces), state_of(graph))
    gains = []
    for seed in range(4):
        values = [best_descent(make, restarts, seed).objective() for restarts in (1, 2, 4)]
        assert values == sorted(values)
        gains.append(values[-1] - values[0])
    assert max(gains) > 0


def test_running_statistics_take_part_where_asked():
    """Only the running means tell these features apart."""
    graph = graph_of()
    with torch.no_grad():
        for parameter in graph.model.parameters():
            parameter.fill_(.1)
    clone, planted = permuted(graph, seed=2)
    with_buffers, without = (weight_matching([graph, clone], include_buffers=flag) for flag in (True, False))
    assert_planted({'stem.0': with_buffers['stem.0']}, {'stem.0': planted['stem.0']})
    assert torch.equal(places(without['stem.0'], 1), torch.arange(12))


def test_heads_for_other_classes_do_not_take_part():
    graph, other = graph_of(), graph_of(classes=7)
    with torch.no_grad():
        for name, parameter in graph.model.named_parameters():
            if not name.startswith('head'):
                other.model.get_parameter(name).copy_(parameter)
    clone, planted = permuted(other, seed=2)
    assert_planted(weight_matching([graph, clone]), planted)


def test_unnamed_spaces_stay_and_hold_their_blocks():
    graph = graph_of(vit)
    clone, planted = permuted(graph, seed=3)
    found = weight_matching([graph, clone], spaces=['blocks', 'blocks.0.attn.qkv.blocks', 'blocks.0.attn.qkv:0'])
    assert list(found) == ['blocks', 'blocks.0.attn.qkv:0', 'blocks.0.attn.qkv.blocks']
    assert torch.equal(found['blocks'].per_model()[1].index, planted['blocks'].index)
    assert places(found['blocks.0.attn.qkv.blocks'], 1).tolist() == [0, 1, 2]


def test_every_model_is_matched_to_the_first():
    graph = graph_of()
    clones = [permuted(graph, seed) for seed in (1, 2, 3)]
    found = weight_matching([graph, *(clone for clone, _ in clones)])
    for number, (_, planted) in enumerate(clones, 1):
        assert_planted(found, planted, number)


def test_models_are_not_touched_and_orders_are_seeded():
    graph, other = graph_of(), graph_of(seed=1)
    before = {key: value.clone() for key, value in other.model.state_dict().items()}
    first, again = (weight_matching([graph, other], seed=4) for _ in range(2))
    assert all(torch.equal(first[name].map.index, again[name].map.index) for name in first)
    assert all(torch.equal(before[key], value) for key, value in other.model.state_dict().items())


def test_mistakes_are_named():
    graph = graph_of()
    with pytest.raises(SpaceError, match='12 features in model 0 and 16 in model 1'):
        weight_matching([graph, graph_of(width=16)])
    with pytest.raises(ConfigError, match='restarts = 0'):
        weight_matching([graph, graph], restarts=0)
    broken = graph_of()
    with torch.no_grad():
        broken.model.head.weight[0, 0] = torch.nan
    with pytest.raises(DataError, match='not finite'):
        weight_matching([graph, broken])
