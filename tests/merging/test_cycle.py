"""Permutations of N models in one frame, from activations and from weights."""
from itertools import permutations

import pytest
import torch

from mmreuse.errors import SpaceError
from mmreuse.merging.interpolation.descent import Aligner, state_of
from mmreuse.merging.matchers import cycle
from mmreuse.merging.matchers.cycle import cycle_consistent, merge_many
from mmreuse.merging.matchers.weights import weight_matching
from mmreuse.merging.matching.match_spaces import match_spaces
from mmreuse.merging.matching.metrics import correlation
from mmreuse.registry import MATCHERS
from mmreuse.statistics import SpaceMoments, collect

from .architectures import Plain, assert_planted, batches, graph_of, permuted, places, resnext, vit


def noisy_copies(models: int, size: int, noise: float, seed: int = 0) -> tuple[SpaceMoments, list[torch.Tensor]]:
    """Moments of models that see the same features under noise, each in an order of its own; the orders."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(200, size, generator=generator, dtype=torch.float64)
    orders = [torch.arange(size)] + [torch.randperm(size, generator=generator) for _ in range(models - 1)]
    seen = torch.cat([(features + noise * torch.randn(features.shape, generator=generator))[:, order]
                      for order in orders], 1)
    return SpaceMoments(200, seen.mean(0), seen.T.cov(correction=0), (size,) * models), orders


def agreement(moments: SpaceMoments, matching) -> float:
    """Sum of the correlations of joined features over all pairs of models."""
    models, size = len(moments.sizes), moments.sizes[0]
    numbers = [places(matching, model) + model * size for model in range(models)]
    table = correlation(moments)
    return sum(float(table[numbers[i], numbers[j]].sum()) for i in range(models) for j in range(i))


def test_planted_orders_of_four_models_are_found():
    moments, orders = noisy_copies(models=4, size=10, noise=.3)
    matching = cycle_consistent(moments)
    for model, order in enumerate(orders):
        assert torch.equal(matching.per_model()[model].index, order)
    assert matching.score == pytest.approx(agreement(moments, matching) / 60)


@pytest.mark.parametrize('seed', range(5))
def test_all_pairs_agree_at_least_as_well_as_in_a_star(seed):
    moments, orders = noisy_copies(models=4, size=16, noise=2.5, seed=seed)
    star, joint = MATCHERS.get('permute')(moments), cycle_consistent(moments)
    assert agreement(moments, joint) > agreement(moments, star)
    right = [sum(int((item.index == order).sum()) for item, order in zip(matching.per_model(), orders, strict=True))
             for matching in (star, joint)]
    assert right[1] >= right[0]


def test_three_models_of_three_features_are_solved_exactly():
    for seed in range(5):
        moments, _ = noisy_copies(models=3, size=3, noise=3., seed=seed)
        table, best = correlation(moments).reshape(3, 3, 3, 3).transpose(1, 2), -torch.inf
        for second in permutations(range(3)):
            for third in permutations(range(3)):
                orders = [torch.arange(3), torch.tensor(second), torch.tensor(third)]
                best = max(best, sum(float(table[i, j, orders[i], orders[j]].sum()) for i in range(3)
                                     for j in range(i)))
        assert agreement(moments, cycle_consistent(moments)) == pytest.approx(best)


def test_each_match_to_the_others_gains(monkeypatch):
    moments, _ = noisy_copies(models=5, size=12, noise=3.)
    values, rematch = [], cycle._rematch

    def watched(table, order, model):
        before = cycle._agreement(table, order)
        improved = rematch(table, order, model)
        values.append(cycle._agreement(table, order) - before)
        assert improved == (values[-1] > 0)
        return improved

    monkeypatch.setattr(cycle, '_rematch', watched)
    cycle_consistent(moments)
    assert min(values) == 0 and max(values) > 0


def test_two_models_are_permuted_and_one_stays():
    moments, _ = noisy_copies(models=2, size=10, noise=2.)
    assert torch.equal(cycle_consistent(moments).map.index, MATCHERS.get('permute')(moments).map.index)
    alone, _ = noisy_copies(models=1, size=10, noise=2.)
    assert torch.equal(cycle_consistent(alone).map.index, torch.arange(10))


def test_unequal_widths_are_refused():
    with pytest.raises(SpaceError, match=r'\(3, 4\) features'):
        cycle_consistent(SpaceMoments(9, torch.zeros(7), torch.eye(7), (3, 4)))


@pytest.mark.parametrize('make', [Plain, vit, resnext])
@pytest.mark.parametrize('matcher', ['cycle_consistent', 'merge_many'])
def test_permuted_clones_are_put_back(make, matcher):
    graph = graph_of(make)
    clones = [permuted(graph, seed) for seed in (1, 2, 3)]
    graphs = [graph, *(clone for clone, _ in clones)]
    moments = collect(graphs, batches()) if matcher == 'cycle_consistent' else None
    found = match_spaces(graphs, moments, matcher)
    for number, (_, planted) in enumerate(clones, 1):
        assert_planted(found, planted, number)
    assert torch.equal(found[next(iter(found))].per_model()[0].index, torch.arange(found[next(iter(found))].size))


def inner_products(graphs, found) -> float:
    """Sum over all pairs of models of the inner product of their weights in the merged order."""
    states = []
    for number, graph in enumerate(graphs):
        aligner = Aligner(graph, list(found), state_of(graph))
        for name, matching in found.items():
            aligner.move({name: places(matching, number)})
        states.append(aligner.state())
    return sum(float((one[key] * two[key]).sum()) for i, one in enumerate(states) for two in states[:i] for key in one)


def test_weights_of_all_pairs_agree_better_than_in_a_star():
    graphs = [graph_of(seed=seed) for seed in range(4)]
    joint, star = merge_many(graphs, seed=1), weight_matching(graphs, seed=1)
    assert inner_products(graphs, joint) > inner_products(graphs, star)


def test_one_model_stays_and_two_are_weight_matched():
    graph, other = graph_of(), graph_of(seed=1)
    assert all(torch.equal(matching.map.index, torch.arange(matching.size)) and matching.score == pytest.approx(1)
               for matching in merge_many([graph]).values())
    joint, star = (inner_products([graph, other], matcher([graph, other])) for matcher in (merge_many, weight_matching))
    assert joint >= star - 1e-9


def test_heads_of_differing_classes_do_not_take_part():
    graphs = [graph_of(), graph_of(classes=7), graph_of(seed=1)]
    found = merge_many(graphs)
    assert all(torch.isfinite(torch.tensor(matching.score)) for matching in found.values())
