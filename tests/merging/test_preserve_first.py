"""Merges that preserve a front: points, counts, oracles, and sweeps that measure once."""
import copy

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from mmreuse.errors import ConfigError, InfeasibleError, SpaceError, TraceError
from mmreuse.graph import Dense, TracedModel, trace
from mmreuse.merging import (
    Ensemble,
    PreserveFirst,
    find_start,
    interpolate,
    merge,
    merge_weights,
    preserve_first_points,
    preserve_point,
    record_merge,
)
from mmreuse.merging.partial import preserve_first as library
from mmreuse.models.backbones import CifarResNet, CifarVGG
from mmreuse.networks import create, load, save
from mmreuse.renormalization import measure_ends
from mmreuse.utils.cost.complexity import count_macs, count_params

from .planted import ResNet, images, in_order, outputs, permuted_clones, randomised, same

SIZE = 32


def vgg(**options) -> nn.Module:
    return CifarVGG(11, width=2, last_pool='avg', num_classes=5, **options).eval()


def resnet() -> nn.Module:
    return CifarResNet(8, width=4, shortcut='conv1x1', num_classes=5).eval()


def pair(build=vgg, size: int = SIZE, **options) -> list[TracedModel]:
    """Two nets from different initialisations."""
    torch.manual_seed(1)
    made = [create(f'{__name__}:{build.__name__}', **options).eval() for _ in range(2)]
    return [trace(randomised(each, seed), images(1, size)) for seed, each in enumerate(made)]


def scored(model: nn.Module, place) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(rows) for rows, _ in place.test])


def sweep(graphs: list[TracedModel], matchers: dict, starts: list, size: int = SIZE, **options):
    """Places with some images for statistics and others for tests."""
    loader = [images(8, size), images(8, size) + 1]
    test = [(images(3, size), torch.arange(3)), (images(2, size) - 1, torch.arange(2))]
    study = PreserveFirst(graphs, matchers, loader, **options)
    return study, study.places(starts, test)


# -- points and counts -------------------------------------------------------------------


def test_published_points():
    vgg16 = trace(CifarVGG(16, width=4, last_pool='avg', num_classes=10), images(1, SIZE))
    assert [point.layers for point in preserve_first_points(vgg16)] == list(range(1, 14))
    resnet20 = preserve_first_points(trace(CifarResNet(20, shortcut='conv1x1', num_classes=10), images(1, SIZE)))
    assert [point.layers for point in resnet20] == [2, 4, 6, 7, 8, 10, 12, 13, 14, 16, 18, 19]
    assert [point.name for point in resnet20[2:4]] == ['layer1.2.conv1', 'layer1.2.conv2']
    assert [point.index for point in resnet20] == list(range(1, 13))


@pytest.mark.parametrize('norm, published', [
    (None, {1: (.0001, .006), 2: (.0026, .127), 3: (.0076, .187), 4: (.0177, .308), 5: (.0377, .368), 6: (.0778, .488),
            7: (.118, .609), 8: (.198, .669), 9: (.358, .789), 10: (.519, .910), 11: (.679, .940), 12: (.839, .970),
            13: (.9997, 1.)}),
    ('bn', {3: (.008, .188), 7: (.118, .609), 10: (.519, .910), 12: (.839, .970)})])
def test_published_costs_of_vgg16(norm, published):
    """The published count doubles activations and norms, one of each too many: they run once behind the merge."""
    graph = trace(CifarVGG(16, norm=norm, last_pool='avg', num_classes=10), images(1, SIZE))
    whole, points = preserve_point(graph, None), preserve_first_points(graph)
    assert whole.params == (14_719_818 if norm is None else 14_728_266)
    for index, (params, macs) in published.items():
        assert points[index - 1].params / whole.params - 1 == pytest.approx(params, abs=6e-4)
        assert points[index - 1].macs / whole.macs - 1 == pytest.approx(macs, abs=2e-3)


def test_published_costs_of_resnet20():
    graph = trace(CifarResNet(20, shortcut='conv1x1', num_classes=10), images(1, SIZE))
    whole, points = preserve_point(graph, None), preserve_first_points(graph)
    assert whole.params == 272_474 and whole.macs / 1e6 == pytest.approx(41.2, abs=.05)
    for index, params, macs in ((3, 1.045, 1.302), (6, 1.141, 1.508), (8, 1.243, 1.681), (12, 1.998, 2.)):
        assert points[index - 1].params / whole.params == pytest.approx(params, abs=1e-3)
        assert points[index - 1].macs / whole.macs == pytest.approx(macs, abs=2e-3)


def test_published_costs_of_resnet50():
    """The published operations are of images of 32 x 32 (0.086 billion); those of 224 x 224 are 4.1 billion.

    Published are also points 2 and 31, the first of a stage, at which its shortcut counted as preserved: 1.437 times
    the parameters at point 31. Here the stream is merged before that shortcut, which runs once: 1.355.
    """
    graph = trace(torchvision.models.resnet50(), images(1, 64))
    small, large = (images(1, size) for size in (32, 224))
    whole = preserve_point(graph, None, inputs=(small,))
    points, full = (preserve_first_points(graph, inputs=(size,)) for size in (small, large))
    assert len(points) == 37 and whole.params == 25_557_032 and whole.macs / 1e9 == pytest.approx(.086, abs=5e-4)
    known = {8: (1.009, 1.187, 10), 16: (1.054, 1.420, 21), 23: (1.193, 1.613, 30), 29: (1.324, 1.768, 39),
             35: (1.786, 1.933, 47)}
    for index, (params, macs, layers) in known.items():
        point = points[index - 1]
        assert (point.layers, point.params / whole.params) == (layers, pytest.approx(params, abs=5e-4))
        assert point.macs / whole.macs == pytest.approx(macs, abs=4e-3)
    shortcut = count_params(graph.model.layer4[0].downsample[0])
    assert (points[30].params + shortcut) / whole.params == pytest.approx(1.437, abs=5e-4)
    ratios = [point.macs / preserve_point(graph, None, inputs=(large,)).macs for point in full[7::7]]
    assert ratios == pytest.approx([1.193, 1.404, 1.602, 1.790, 1.987], abs=1e-3)


@pytest.mark.parametrize('build', [vgg, resnet, ResNet])
def test_costs_are_those_of_the_merged_model(build):
    graph = trace(build(), images(1, SIZE))
    graphs = [graph] * 3
    for point in [preserve_point(graph, start, 3) for start in (None, dict(index=1), .5)] + preserve_first_points(
            graph, 3)[::3]:
        merged = merge_weights(graphs, in_order(graphs), start=point.name or None)
        assert (count_params(merged), count_macs(merged, (3, SIZE, SIZE))) == (point.params, point.macs)


def test_places_by_name_share_index_and_budget():
    graph = trace(vgg(), images(1, SIZE))
    points = preserve_first_points(graph)
    names = [point.name for point in points]
    assert names == [f'features.{number}' for number in (0, 3, 6, 8, 11, 13, 16, 18)]
    assert find_start(graph, None) is find_start(graph, '') is find_start(graph, dict(index=0)) is None
    assert find_start(graph, dict(index=3)) == names[2] and find_start(graph, 'features.7') == 'features.7'
    assert preserve_point(graph, 'features.7').index == 3
    for point in points[::3]:
        assert find_start(graph, dict(params=point.params)) == point.name
        assert find_start(graph, dict(gmacs=point.macs / 1e9 + 1e-12)) == point.name
        assert find_start(graph, dict(params=point.params - 1)) == (names[point.index - 2] if point.index > 1 else None)


@pytest.mark.parametrize('start, error, message', [
    ('features.99', SpaceError, "'features.99'.*Nearest: 'features.9"),
    (dict(index=9), SpaceError, 'points 0 to 8.*no point 9'),
    (dict(gmacs=1e-9), InfeasibleError, 'costs gmacs'),
    (dict(depth=3), ConfigError, 'dict.index=NUMBER'),
    (1., ConfigError, 'nothing to merge')])
def test_places_that_do_not_exist(start, error, message):
    with pytest.raises(error, match=message):
        find_start(trace(vgg(), images(1, SIZE)), start)


# -- oracles -----------------------------------------------------------------------------


PLAIN = dict(repair='repair', rescale='rescale', calibrated='bias_calibration', zero='zero_bias')


def test_nothing_preserved_and_no_order_is_linear_interpolation():
    graphs = pair()
    study, places = sweep(graphs, dict(identity='identity'), [None])
    place, = places
    same(place.module(place.merge('identity')), interpolate(study.models, [.5, .5]), images(3, SIZE))


@pytest.mark.parametrize('norm, renormalizers', [(None, PLAIN), ('bn', dict(reset='reset'))])
def test_the_first_point_is_the_input(norm, renormalizers):
    """The first layers read the same images: the mean of their outputs is the output of their mean."""
    graphs = pair(norm=norm)
    study, places = sweep(graphs, {name: name for name in ('permute', 'zip', 'cca', 'identity')}, [None, 'features.0'])
    found = []
    for place in places:
        cells = {}
        for matcher in study.matchers:
            merged = place.merge(matcher)
            twins = {name: place.renormalized(merged, matcher, method) for name, method in renormalizers.items()}
            cells |= {(matcher, name): scored(twin, place) for name, twin in twins.items()}
            if norm is None:
                cells[matcher] = scored(merged, place)
        found.append(cells)
    for key, expected in found[0].items():
        torch.testing.assert_close(found[1][key], expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
        assert bool(expected.isfinite().all()) and float(expected.std(0).max()) > 0


def test_the_last_point_is_the_ensemble_where_the_rest_is_linear():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv2(self.conv1(x).relu()))

    torch.manual_seed(0)
    nets = [Net(), Net()]
    nets[1].head = copy.deepcopy(nets[0].head)
    study, places = sweep([trace(net, images(1)) for net in nets], dict(identity='identity'), ['conv1', 'conv2'], 16)
    found = [scored(place.merge('identity'), place) for place in places]
    with torch.no_grad():
        expected = torch.cat([Ensemble(nets)(each) for each in (images(3), images(2) - 1)])
    torch.testing.assert_close(found[1], expected)
    assert not torch.allclose(found[0], expected, rtol=1e-3)


NETS = {
    'vgg': (vgg, SIZE),
    'resnet': (resnet, 16),
    'efficientnet': (lambda: timm.create_model('test_efficientnet', num_classes=5), 32),
    'vit': (lambda: timm.models.VisionTransformer(
        depth=1, embed_dim=24, num_heads=3, img_size=16, patch_size=8, num_classes=5), 16),
}


@pytest.mark.parametrize('name', NETS)
def test_a_permuted_clone_merges_into_its_original_at_every_point(name):
    build, size = NETS[name]
    model = randomised(build())
    graphs, matchings = permuted_clones(model, images(1, size))
    points = preserve_first_points(graphs[0])
    assert len(points) > 2
    for point in points[::max(1, len(points) // 4)]:
        same(merge_weights(graphs, matchings, start=point.name), model, images(size=size), tolerance=3e-5)


# -- sweeps ------------------------------------------------------------------------------


@pytest.mark.parametrize('build, size, matchers, memory', [
    (vgg, SIZE, ('permute', 'cca'), 1e9), (vgg, SIZE, ('zip', ), 3e4), (resnet, 16, ('permute', ), 3e4),
    pytest.param(resnet, 16, ('permute', 'zip'), 1e9, marks=pytest.mark.slow)])
def test_a_sweep_is_a_merge_at_every_place(build, size, matchers, memory):
    """Whatever of the features is kept: with little memory, none of the widest."""
    graphs = pair(build, size)
    starts = [None, *[point.name for point in preserve_first_points(graphs[0])][1::2]]
    study, places = sweep(graphs, {name: name for name in matchers}, starts, size, memory=memory)
    for place in places:
        for matcher in matchers:
            merged = place.merge(matcher)
            expected = merge_weights(graphs, study.whole(matcher).matchings, start=place.start)
            wanted = torch.cat([outputs(expected, each)[0] for each in (images(3, size), images(2, size) - 1)])
            torch.testing.assert_close(scored(merged, place), wanted, rtol=1e-4, atol=1e-5)
            same(place.module(merged), expected, images(size=size))


def test_everything_is_measured_and_matched_once(monkeypatch):
    calls = []
    for name in ('collect', 'measure_ends', 'match_spaces', 'merge_weights'):
        original = getattr(library, name)
        monkeypatch.setattr(library, name, lambda *args, name=name, original=original, **options: (
            calls.append(name), original(*args, **options))[1])
    graphs = pair()
    study, places = sweep(graphs, dict(permute='permute', zip='zip'), [None, 'features.0', 'features.8', 'features.18'])
    for place in places:
        for matcher in study.matchers:
            for method in PLAIN.values():
                place.renormalized(place.merge(matcher), matcher, method)
    assert sorted(calls) == ['collect', 'match_spaces', 'match_spaces', 'measure_ends', 'merge_weights',
                             'merge_weights']


def test_a_cheaper_place_does_not_change_a_later_one():
    graphs = pair(norm='bn')
    study, places = sweep(graphs, dict(permute='permute'), ['features.4', 'features.18'])
    alone = next(sweep(graphs, dict(permute='permute'), ['features.18'])[1])
    for place in places:
        merged = place.renormalized(place.merge('permute'), 'permute', 'reset')
    expected = alone.renormalized(alone.merge('permute'), 'permute', 'reset')
    torch.testing.assert_close(scored(merged, place), scored(expected, alone))


def test_goals_are_the_statistics_of_the_rewritten_models():
    """For permutations; the mean of what two models measure when they are run."""
    graphs = pair()
    study, _ = sweep(graphs, dict(permute='permute', zip='zip', cca=dict(type='cca', everywhere=True)), [])
    whole = study.whole('permute')
    measured = measure_ends(whole.ends, study.images)
    for name, goal in whole.targets.items():
        first, second = (each[name] for each in measured)
        torch.testing.assert_close(goal.mean, (first.mean + second.mean) / 2, rtol=1e-4, atol=1e-6)
        deviation = (first.variance.sqrt() + second.variance.sqrt()) / 2
        torch.testing.assert_close(goal.variance.sqrt(), deviation, rtol=1e-4, atol=1e-6)
    for name, goal in study.whole('cca').targets.items():
        assert torch.equal(goal.mean, study.statistics[0][name].mean)
    joined = study.whole('zip')
    index = joined.matchings['features.0'].map.index
    for feature in range(2):
        members = torch.cat([each['features.0'].mean for each in study.statistics])[index == feature]
        assert float(joined.targets['features.0'].mean[feature]) == pytest.approx(float(members.mean()), rel=1e-5)


def test_goals_need_a_model_in_its_own_frame():
    graphs = pair()
    study, _ = sweep(graphs, dict(identity='identity'), [])
    mixed = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64))[0]
    placed = [library.resolve_maps(graph.spaces, {'features.0': Dense(mixed, mixed.T)}) for graph in graphs]
    with pytest.raises(SpaceError, match="'features.0'.*reference model"):
        library.merged_targets(study.statistics, placed)


@pytest.mark.parametrize('method', ['repair', 'bias_calibration'])
def test_a_sweep_puts_right_what_a_merge_puts_right(method):
    """There the models rewritten by their maps are run; here their statistics are known."""
    graphs = pair()
    loader = [images(8, SIZE), images(8, SIZE) + 1]
    study, places = sweep(graphs, dict(permute='permute'), ['features.8'])
    place = next(places)
    found = place.module(place.renormalized(place.merge('permute'), 'permute', method))
    expected = merge(study.models, loader, 'permute', inputs=images(1, SIZE), start='features.8', heads='merge',
                     renormalizers=[method])
    for key, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], tensor, rtol=1e-3, atol=1e-4)


def test_what_runs_the_ends_says_that_it_cannot():
    _, places = sweep(pair(), dict(permute='permute'), ['features.3'])
    place = next(places)
    with pytest.raises(TraceError, match='statistics only'):
        place.renormalized(place.merge('permute'), 'permute', 'closed_form_repair')


def test_data_is_asked_for():
    with pytest.raises(ConfigError, match='a matcher needs data'):
        PreserveFirst(pair(), dict(permute='permute'))
    with pytest.raises(ConfigError, match='no images'):
        next(PreserveFirst(pair(), dict(identity='identity')).places([None]))


def test_fronts_keep_their_own_statistics_and_biases():
    models = [graph.model for graph in pair(norm='bn')]
    options = dict(inputs=images(1, SIZE), start='features.11')
    merged, *others = (merge(models, [images(8, SIZE)], 'permute', **options, renormalizers=methods)
                       for methods in ([], ['reset'], ['zero_bias'], ['reset', 'repair']))
    for other in others:
        for key, tensor in merged.state_dict().items():
            assert not key.startswith('fronts') or torch.equal(other.state_dict()[key], tensor)
        assert not torch.equal(outputs(other, images(2, SIZE))[0], outputs(merged, images(2, SIZE))[0])
        assert list(other.state_dict()) == list(merged.state_dict()) and not other.fronts.training


def test_a_merge_of_a_sweep_is_saved(tmp_path):
    graphs = pair(norm='bn')
    _, places = sweep(graphs, dict(zip='zip'), ['features.8'])
    place = next(places)
    merged = place.module(place.renormalized(place.merge('zip'), 'zip', 'reset'))
    assert_comes_back(merged, graphs, tmp_path / 'merged.safetensors')


def assert_comes_back(merged: nn.Module, graphs: list[TracedModel], path) -> None:
    save(record_merge(merged, [graph.model for graph in graphs], images(1, SIZE), 'zip'), path)
    again = load(path, trust_code=True)
    assert torch.equal(outputs(again, images(2, SIZE))[0], outputs(merged, images(2, SIZE))[0])


def test_biases_that_a_renormalizer_adds_are_loaded(tmp_path):
    """REPAIR shifts what a layer without a bias gives; a shortcut, say."""
    graphs = pair(bias=False)
    _, places = sweep(graphs, dict(permute='permute'), ['features.8'])
    place = next(places)
    merged = place.module(place.renormalized(place.merge('permute'), 'permute', 'repair'))
    assert merged.joins[0].layer.bias is not None and merged.trunk.get_submodule('features.11').bias is not None
    assert_comes_back(merged, graphs, tmp_path / 'merged.safetensors')
