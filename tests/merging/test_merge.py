"""Merging in one call."""
import pytest
import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.graph import Assign, trace, transform
from mmreuse.graph.proof.verify import random_permutations
from mmreuse.merging import Matching
from mmreuse.merging import merge as merge_models
from mmreuse.registry import RENORMALIZERS
from mmreuse.statistics import SpaceMoments, reset_bn

from .planted import FAMILIES, ResNet, images, independent, outputs, randomised, same


def loader(size: int = 16, batches: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(8, 3, size, size, generator=generator) for _ in range(batches)]


def merge(*args, **options):
    """Outputs mean the same in all these models."""
    return merge_models(*args, heads=None if options.get('stop') is not None else 'merge', **options)


def with_clone(model: nn.Module, size: int = 16) -> list[nn.Module]:
    graph = trace(model, images(1, size))
    return [model, transform(graph, random_permutations(graph.spaces, 4)).eval()]


@pytest.mark.parametrize('matcher', ['permute', 'zip', dict(type='zip', alpha=0.1), 'weight_matching'])
def test_a_permuted_clone_is_found(matcher):
    """Where no feature is dead each is joined with its own image."""
    model = randomised(ResNet())
    reset_bn(model, loader())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.bias)
    merged = merge(with_clone(model), loader(), matcher, inputs=images(1))
    same(merged, model, images())


@pytest.mark.parametrize('name', ['densenet', 'convnext', 'vit'])
def test_clones_of_other_families_are_found(name):
    build, size = FAMILIES[name]
    model = randomised(build())
    merged = merge(with_clone(model, size), loader(size), 'permute', inputs=images(1, size), verify=False)
    same(merged, model, images(size=size), tolerance=1e-4)


def test_moments_are_taken_once_and_only_where_they_are_needed():
    models = with_clone(randomised(ResNet()))
    moments: dict[str, SpaceMoments] = {}
    merge(models, loader(), inputs=images(1), stop='layer1', moments=moments)
    first = dict(moments)
    graph = trace(models[0], images(1))
    assert 0 < len(first) < len(graph.spaces)
    merge(models, loader(), 'permute', inputs=images(1), moments=moments, verify=False)
    assert set(moments) == set(graph.spaces)
    assert all(moments[name] is known for name, known in first.items())
    with_data = merge(models, loader(), 'permute', inputs=images(1), verify=False)
    without = merge(models, None, 'permute', inputs=images(1), moments=moments, verify=False)
    for found, known in zip(outputs(without, images()), outputs(with_data, images()), strict=True):
        assert torch.equal(found, known)


def test_no_data_is_read_for_a_matcher_of_weights():
    class Untouched:
        def __iter__(self):
            raise AssertionError('data was read')

    merge(with_clone(ResNet()), Untouched(), 'weight_matching', inputs=images(1))


def test_samples_are_counted():
    moments: dict[str, SpaceMoments] = {}
    merge(with_clone(randomised(ResNet())), loader(), inputs=images(1), samples=5, positions=3, stop='conv1',
          moments=moments)
    assert [each.count for each in moments.values()] == [15]


@pytest.mark.parametrize('place, outputs_expected', [(0.4, 2), ('layer2', 2), (0, 2), (None, 1), (1., 1)])
def test_stops_by_share_and_name(place, outputs_expected):
    model = randomised(ResNet())
    merged = merge([model, independent(model, 1)], loader(), inputs=images(1), stop=place, verify=False)
    assert len(outputs(merged, images())) == outputs_expected


def test_overrides_reach_single_spaces():
    model = randomised(ResNet())
    frozen = merge([model, independent(model, 1)], loader(), 'permute', inputs=images(1), overrides={'.*': 'identity'})
    plain = merge([model, independent(model, 1)], loader(), 'identity', inputs=images(1))
    other = merge([model, independent(model, 1)], loader(), 'permute', inputs=images(1))
    assert torch.equal(outputs(frozen, images())[0], outputs(plain, images())[0])
    assert not torch.equal(outputs(frozen, images())[0], outputs(other, images())[0])


def test_refit_comes_closer_to_the_models():
    """What a matching loses of the features is made good in the mean square."""
    model = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(192, 5))
    models = [model, independent(model, 1)]
    errors = []
    for again in (False, True):
        merged = merge(models, loader(), inputs=images(1), stop='1', refit=again, positions=None)
        found = outputs(merged, loader()[0])
        errors.append(sum(float((each - outputs(own, loader()[0])[0]).pow(2).mean())
                          for each, own in zip(found, models, strict=True)))
    assert errors[1] < 0.9 * errors[0]


def test_renormalizers_get_the_result_and_what_they_ask_for():
    calls = []

    def plain(model, loader, *, samples=None):
        calls.append((model, loader, samples))

    def with_ends(model, loader, *, samples=None, ends):
        calls.append(ends)

    model = randomised(ResNet())
    data = loader()
    merged = merge(with_clone(model), data, 'permute', inputs=images(1), samples=16, renormalizers=[plain, with_ends])
    assert calls[0] == (merged, data, 16)
    assert len(calls[1]) == 2
    for end in calls[1]:
        same(end, model, images())


def test_renormalizers_by_name():
    """Statistics measured on the data, in trunk and tails."""
    model = randomised(ResNet())
    models = [model, independent(model, 1)]
    plain, reset = (merge(models, loader(), inputs=images(1), stop='layer2', renormalizers=methods)
                    for methods in ((), ['reset']))
    assert 'reset' in RENORMALIZERS
    for part in ('trunk.layer1.0.bn1', 'tails.1.layer3.0.bn2'):
        assert not torch.equal(plain.get_submodule(part).running_var, reset.get_submodule(part).running_var)
    with torch.no_grad():
        features = torch.cat([reset.trunk.conv1(each) for each in loader()])
    mean = features.movedim(1, -1).flatten(0, -2).mean(0)
    torch.testing.assert_close(reset.trunk.bn1.running_mean, mean, rtol=1e-4, atol=1e-5)


def test_one_model_is_compressed():
    model = randomised(ResNet(8))

    def halve(moments: SpaceMoments) -> Matching:
        size = len(moments.mean)
        return Matching(Assign(torch.arange(size) % (size // 2), size // 2), moments.sizes, 0.)

    merged = merge([model], loader(), halve, inputs=images(1))
    assert merged.trunk.conv1.out_channels == 4
    assert outputs(merged, images())[0].shape == (2, 5)


def test_what_cannot_be_merged():
    model = randomised(ResNet())
    data = loader()
    broken = [*data[:1], torch.full((8, 3, 16, 16), torch.nan)]
    with pytest.raises(DataError, match='batch 1.*not finite'):
        merge([model, model], broken, inputs=images(1))
    with pytest.raises(SpaceError, match="'layer22' does not exist.*Nearest: 'layer2"):
        merge([model, model], data, inputs=images(1), stop='layer22')
    with pytest.raises(SpaceError, match=r'\(7, 16\).*stop='):
        merge([model, ResNet(classes=7)], data, inputs=images(1))
    with pytest.raises(ConfigError, match='give a loader'):
        merge([model, model], None, inputs=images(1), renormalizers=['reset'])
    with pytest.raises(DataError, match='100'):
        merge([model, model], data, inputs=images(1), samples=100)
    with pytest.raises(ConfigError, match='no models'):
        merge([], data, inputs=images(1))


@pytest.mark.parametrize('stop', [None, 'layer2'])
@pytest.mark.parametrize('order', ['simultaneous', 'sequential'])
def test_repair_of_a_merge_with_a_clone_changes_nothing(stop, order):
    """Ends, targets and the merged model are one function, wherever the merge ends."""
    model = randomised(ResNet())
    reset_bn(model, loader())
    renormalizer = dict(type='repair', samples=16, order=order)
    merged = merge(with_clone(model), loader(), 'permute', inputs=images(1), stop=stop, renormalizers=[renormalizer])
    # In simultaneous order each batch is normalised by its own statistics.
    same(merged, model, images(), tolerance=1e-2 if order == 'simultaneous' else 1e-4)


def test_repair_gives_a_merge_of_strangers_the_deviation_of_its_ends():
    """On a plain net and the same data, sequential REPAIR meets its goal, the mean over the ends."""
    models = [nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                            nn.Flatten(), nn.Linear(8, 4)).eval() for _ in range(2)]
    data = loader()
    deviations = {name: [] for name in ('ends', 'plain', 'repaired')}
    nets = dict(plain=merge(models, data, 'permute', inputs=images(1)).trunk,
                repaired=merge(models, data, 'permute', inputs=images(1), renormalizers=[
                    dict(type='repair', samples=16, order='sequential')]).trunk)
    for name, net in [*nets.items(), *(('ends', model) for model in models)]:
        deviations[name].append(net[:3](torch.cat(data)).std((0, 2, 3)).mean().item())
    goal = sum(deviations['ends']) / 2
    assert deviations['repaired'][0] == pytest.approx(goal, rel=1e-3)
    assert deviations['plain'][0] < 0.9 * goal
