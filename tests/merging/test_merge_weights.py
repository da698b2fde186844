"""The algebra of fusing, and its errors."""
import pytest
import torch
from torch import Tensor, nn

from mmreuse.errors import SpaceError
from mmreuse.graph import Assign, Dense, trace
from mmreuse.merging import Matching, merge_weights, spaces_between
from mmreuse.statistics import reset_bn

from .planted import ResNet, images, in_order, independent, joined, outputs, permuted_clones, randomised, same


class Mlp(nn.Module):
    """Two linear layers with a norm between them."""

    def __init__(self, width: int = 6, classes: int = 4) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x)).relu())


def dense(matching: Matching) -> tuple[list[Tensor], list[Tensor]]:
    """Each model's columns of M and rows of U."""
    item = matching.map.dense(sum(matching.sizes))
    return (list(item.merge_matrix.split(list(matching.sizes), 1)), list(item.unmerge_matrix.split(matching.sizes)))


def random_matching(sizes: tuple[int, ...], size: int, as_matrix: bool) -> Matching:
    if as_matrix:
        return Matching(Dense(torch.randn(size, sum(sizes)), torch.randn(sum(sizes), size)), sizes, 0.)
    index = torch.cat([torch.arange(size), torch.randint(size, (sum(sizes) - size,))])
    return Matching(Assign(index[torch.randperm(len(index))], size), sizes, 0.)


@pytest.mark.parametrize('as_matrix', [False, True])
@pytest.mark.parametrize('size', [4, 6, 9])
def test_layers_are_sums_of_mapped_layers(as_matrix, size):
    models = [randomised(Mlp(), seed) for seed in range(3)]
    models = [models[0], *(independent(model, seed + 1) for seed, model in enumerate(models[1:]))]
    matching = random_matching((6, 6, 6), size, as_matrix)
    merged = merge_weights([trace(model, torch.zeros(1, 3)) for model in models], {'first': matching}).trunk
    merge, unmerge = dense(matching)
    merge, unmerge = [each.float() for each in merge], [each.float() for each in unmerge]
    close = dict(rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        merged.first.weight, sum(m @ model.first.weight for m, model in zip(merge, models, strict=True)), **close)
    for key in ('first.bias', 'norm.weight', 'norm.bias', 'norm.running_mean', 'norm.running_var'):
        expected = sum(m @ model.state_dict()[key] for m, model in zip(merge, models, strict=True))
        torch.testing.assert_close(merged.state_dict()[key], expected, **close)
    read = sum(model.second.weight @ u for u, model in zip(unmerge, models, strict=True)) / 3
    torch.testing.assert_close(merged.second.weight, read, **close)
    torch.testing.assert_close(merged.second.bias, sum(model.second.bias for model in models) / 3, **close)
    assert merged.norm.num_batches_tracked.dtype == torch.long


def test_without_matchings_the_merge_is_the_mean():
    models = [independent(ResNet(), seed) for seed in range(2)]
    graphs = [trace(model, images(1)) for model in models]
    for merged in (merge_weights(graphs, {}), merge_weights(graphs, in_order(graphs))):
        for key, value in merged.trunk.state_dict().items():
            if value.is_floating_point():
                mean = torch.stack([model.state_dict()[key] for model in models]).double().mean(0)
                assert torch.equal(value, mean.float())


def test_models_are_left_as_they_were():
    graphs, matchings = permuted_clones(randomised(ResNet()), images(1))
    before = [{key: value.clone() for key, value in graph.model.state_dict().items()} for graph in graphs]
    merged = merge_weights(graphs, matchings, start='conv1', stop='layer2')
    with torch.no_grad():
        for parameter in merged.parameters():
            parameter.zero_()
    for graph, state in zip(graphs, before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in graph.model.state_dict().items())


def test_dense_maps_cross_cuts():
    """An invertible mixture of the input channels of 1x1 layers is undone by what reads it."""
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1), nn.Flatten(), nn.Linear(6 * 64, 4))
    mix = torch.randn(6, 6, dtype=torch.float64) + 3 * torch.eye(6, dtype=torch.float64)
    graphs = [trace(model, images(1, 8))] * 2
    matchings = {name: Matching(Dense(torch.cat([mix, mix], 1) / 2, torch.cat([mix.inverse()] * 2)), (6, 6), 1.)
                 for name in graphs[0].spaces}
    for start, stop in ((None, None), (None, '0'), (None, '1'), (None, '2'), ('0', None), ('2', None), ('0', '2')):
        same(merge_weights(graphs, matchings, start=start, stop=stop), model, images(2, 8), tolerance=1e-4)


def test_variances_that_became_negative_wait_for_a_reset():
    """A dense map may turn a running variance negative: the model gives NaN until statistics are taken anew."""
    graphs, matchings = permuted_clones(randomised(ResNet()), images(1))
    size = graphs[0].spaces['layer2.0'].size
    matrix = torch.cat([-torch.eye(size)] * 2, 1)
    merged = merge_weights(graphs, {**matchings, 'layer2.0': Matching(Dense(matrix, matrix.T), (size, size), 0.)},
                           stop='layer3')
    assert bool((merged.trunk.get_submodule('layer2.0.bn2').running_var < 0).all())
    reset_bn(merged, [images(4)])
    assert all(bool(found.isfinite().all()) for found in outputs(merged, images()))


def test_only_spaces_of_the_stretch_are_needed():
    graph = trace(ResNet(), images(1))
    assert spaces_between(graph) == list(graph.spaces)
    assert spaces_between(graph, stop='') == []
    stem, inner, *_ = graph.spaces
    assert spaces_between(graph, stop='conv1') == [stem]
    assert spaces_between(graph, stop='layer1.0.conv1') == [stem, inner]
    assert set(spaces_between(graph, start='layer2')) == {'layer2.0', 'layer3.0', 'layer3.0.conv1'}
    assert set(spaces_between(graph, start='layer2', stop='layer3.0.conv1')) == {'layer2.0', 'layer3.0.conv1'}


def test_matchings_of_other_spaces_do_no_harm():
    graphs, matchings = permuted_clones(randomised(ResNet()), images(1))
    needed = {name: matchings[name] for name in spaces_between(graphs[0], stop='layer1')}
    assert len(needed) < len(matchings)
    few, all_of_them = (merge_weights(graphs, given, stop='layer1').state_dict() for given in (needed, matchings))
    assert list(few) == list(all_of_them) and all(torch.equal(few[key], all_of_them[key]) for key in few)


def test_heads_of_other_sizes_stay_apart():
    graphs = [trace(randomised(ResNet(classes=classes)), images(1)) for classes in (5, 7)]
    with pytest.raises(SpaceError, match=r"'fc.weight' has shape \(5, 16\) in model 0 and \(7, 16\).*stop='pool'"):
        merge_weights(graphs, in_order(graphs))
    merged = merge_weights(graphs, in_order(graphs), stop='pool')
    assert [tuple(found.shape) for found in outputs(merged, images())] == [(2, 5), (2, 7)]


def test_models_must_be_of_one_structure():
    graphs = [trace(model, images(1)) for model in (ResNet(), nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()))]
    with pytest.raises(SpaceError, match='ResNet'):
        merge_weights(graphs, {})


@pytest.mark.parametrize('ties', [(True, False), (False, True), (True, True)])
def test_what_one_model_ties_and_the_other_does_not_is_not_averaged_into_one(ties):
    models = []
    for seed, tie in enumerate(ties):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
        if tie:
            net[2].weight = net[0].weight
        models.append(net)
    graphs = [trace(net, torch.zeros(1, 4)) for net in models]
    if all(ties):
        trunk = merge_weights(graphs, {}).trunk
        assert trunk[0].weight is trunk[2].weight
        torch.testing.assert_close(trunk[2].weight, (models[0][2].weight + models[1][2].weight) / 2)
    else:
        with pytest.raises(SpaceError, match="only one of the models 0 and 1 has '2.weight'|is not of the structure"):
            merge_weights(graphs, {})


def test_widths_that_differ_need_a_matching():
    graphs = [trace(ResNet(width), images(1)) for width in (4, 8)]
    with pytest.raises(SpaceError, match='needs a matching'):
        merge_weights(graphs, {})


def test_errors_name_what_is_wrong():
    graphs, matchings = permuted_clones(randomised(ResNet()), images(1))
    with pytest.raises(SpaceError, match="'layer9'.*Nearest: 'layer"):
        merge_weights(graphs, matchings, stop='layer9')
    with pytest.raises(SpaceError, match="'layer1' does not run behind 'layer2'"):
        merge_weights(graphs, matchings, start='layer2', stop='layer1')
    with pytest.raises(SpaceError, match="nothing is computed behind 'fc'"):
        merge_weights(graphs, matchings, stop='fc')
    with pytest.raises(SpaceError, match="'layer3.9' is not a feature space.*Nearest: 'layer3.0"):
        merge_weights(graphs, {'layer3.9': matchings['layer3.0']})
    with pytest.raises(SpaceError, match="the matching of 'layer3.0' is of models with"):
        merge_weights(graphs, {'layer3.0': joined([torch.arange(5), torch.arange(5)])})
    with pytest.raises(SpaceError, match='no models'):
        merge_weights([], {})
