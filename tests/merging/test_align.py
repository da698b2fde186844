"""Networks in the order of another: planted permutations are found, functions stay what they were."""
import pytest
import timm
import torch
from mmengine.registry import init_default_scope
from renormalization.nets import same, state
from torch import nn

from merging.architectures import batches, graph_of, permuted
from merging.planted import independent
from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.graph import trace, transform
from mmreuse.graph.proof.verify import random_permutations
from mmreuse.merging import align, interpolate
from mmreuse.models import CifarResNet, CifarVGG
from mmreuse.registry import MODELS
from mmreuse.renormalization import measure_ends, measure_together, reset

INPUT = torch.zeros(1, 3, 32, 32)


def mobilenet():
    init_default_scope('mmreuse')
    return MODELS.build(dict(
        type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.MobileNetV3', arch='small_050'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=288)))


NETS = {
    'vgg': lambda: CifarVGG(11, 4, num_classes=5, last_pool='avg'),
    'vgg-bn': lambda: CifarVGG(11, 4, norm='bn', num_classes=5),
    'vgg-ln': lambda: CifarVGG(11, 4, norm='ln', num_classes=5),
    'resnet': lambda: CifarResNet(8, 4, num_classes=5, shortcut='conv1x1'),
    'resnet-ln': lambda: CifarResNet(8, 4, num_classes=5, norm='ln'),
    'resnet-plain': lambda: CifarResNet(8, 4, num_classes=5, norm=None),
    'resnext': lambda: timm.create_model('test_resnet', num_classes=5),
    'vit': lambda: timm.models.VisionTransformer(
        depth=2, embed_dim=24, num_heads=3, img_size=32, patch_size=16, num_classes=5),
    'mobilenet': mobilenet,
}


def net(name, seed=0):
    """Random everywhere, with a function that says something of its input."""
    torch.manual_seed(seed)
    model = independent(NETS[name](), seed)
    reset(model, batches())
    return model


def clone(model, seed=1):
    """The same function in another order."""
    graph = trace(model, INPUT)
    return transform(graph, random_permutations(graph.spaces, seed)).eval()


@pytest.mark.parametrize('matcher', ['weight_matching', 'permute'])
@pytest.mark.parametrize('name', NETS)
def test_a_planted_permutation_is_found_so_that_the_midpoint_is_the_end(name, matcher):
    first = net(name)
    other = clone(first)
    assert not same(state(first), state(other))
    aligned = align([first, other], batches(1, 64), matcher, inputs=INPUT, verify=False)
    assert [type(model) for model in aligned] == [type(first)] * 2
    midpoint = interpolate(aligned, (.5, .5))
    with torch.no_grad():
        found, expected = midpoint(batches(1)[0]), first(batches(1)[0])
    assert expected.std(0).max() > 1e-2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert same(state(aligned[0]), state(first))
    if matcher == 'weight_matching':
        assert same(state(aligned[1]), state(first)) and aligned.cosines == pytest.approx([1, 1])


@pytest.mark.parametrize('matcher', ['identity', 'weight_matching', dict(type='permute', reference=1)])
@pytest.mark.parametrize('name', ['vgg-ln', 'resnet', 'vit'])
def test_functions_stay_what_they_were_and_the_first_its_order(name, matcher):
    models = [independent(net(name), seed) for seed in range(3)]
    before = [state(model) for model in models]
    aligned = align(models, batches(), matcher, inputs=INPUT, samples=20)
    x = batches(1)[0]
    with torch.no_grad():
        for model, own in zip(models, aligned, strict=True):
            torch.testing.assert_close(own(x), model(x), rtol=1e-3, atol=1e-4)
    assert same(state(aligned[0]), before[0])
    assert all(same(state(model), own) for model, own in zip(models, before, strict=True))
    assert [own.keys() for own in map(state, aligned)] == [own.keys() for own in before]


def test_weight_matching_brings_weights_closer_and_more_restarts_no_less():
    models = [independent(net('vgg'), seed) for seed in range(2)]
    cosines = [align(models, None, matcher, inputs=INPUT, verify=False).cosines[1] for matcher in (
        'identity', dict(type='weight_matching', restarts=1), dict(type='weight_matching', restarts=4))]
    assert cosines[0] + .05 < cosines[1] <= cosines[2]


def test_the_score_is_what_the_matcher_saw():
    models = [net('vgg-bn'), clone(net('vgg-bn'))]
    assert align(models, None, 'identity', inputs=INPUT).score is None
    assert align(models, batches(), 'permute', inputs=INPUT, verify=False).score == pytest.approx(1, abs=.1)


def test_moments_are_taken_once_for_all_matchers():
    models, moments = [net('vgg'), net('vgg', 1)], {}
    align(models, batches(), 'permute', inputs=INPUT, moments=moments, samples=20)
    assert set(moments) == set(trace(models[0], INPUT).spaces)
    again = align(models, None, 'permute', inputs=INPUT, moments=moments, verify=False)
    assert len(again) == 2


@pytest.mark.parametrize('name', ['vgg', 'vgg-bn', 'resnet-ln'])
def test_statistics_follow_without_another_pass(name):
    models = [independent(net(name), seed) for seed in range(2)]
    aligned = align(models, None, inputs=INPUT, verify=False)
    expected = measure_ends(aligned, batches())
    for found, own in zip(aligned.permuted(measure_ends(models, batches())), expected, strict=True):
        for layer, moments in own.items():
            torch.testing.assert_close(found[layer].mean, moments.mean, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found[layer].variance, moments.variance, rtol=1e-4, atol=1e-6)
    together = measure_together(aligned, batches())
    for layer, moments in aligned.matched(measure_together(models, batches())).items():
        size = moments.mean.shape[1]
        covariance = together[layer].covariance.reshape(2, size, 2, size).diagonal(dim1=1, dim2=3)
        torch.testing.assert_close(moments.covariance, covariance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('matcher', ['zip', dict(type='procrustes', everywhere=True),
                                     dict(type='cca', everywhere=True)])
def test_matchers_that_do_more_than_permute_are_sent_to_merge(matcher):
    models = [net('vgg'), net('vgg', 1)]
    with pytest.raises(ConfigError, match="features of space 'features.0' one to one.*merging.merge takes any"):
        align(models, batches(), matcher, inputs=INPUT, verify=False)


def wider():
    return CifarVGG(11, 6, num_classes=5, last_pool='avg').eval()


@pytest.mark.parametrize('other, loader, matcher, error, message', [
    (wider, batches(), 'permute', SpaceError, "'features.0' has 4 features in model 0 and 6 in model 1"),
    (lambda: net('resnet'), None, 'weight_matching', SpaceError, 'not of the structure'),
    (lambda: net('vgg', 1), None, 'permute', ConfigError, 'give a loader'),
    (lambda: net('vgg', 1), [], 'permute', DataError, 'empty'),
    (lambda: net('vgg', 1), None, 'weight_matchin', ConfigError, 'weight_matching')])
def test_what_does_not_fit(other, loader, matcher, error, message):
    with pytest.raises(error, match=message):
        align([net('vgg'), other()], loader, matcher, inputs=INPUT)


def test_features_and_weights_that_are_not_finite():
    models = [net('vgg'), net('vgg', 1)]
    nn.init.constant_(models[1].features[3].weight, torch.nan)
    for matcher in ('weight_matching', 'permute'):
        with pytest.raises(DataError, match='not finite'):
            align(models, batches(), matcher, inputs=INPUT, verify=False)


def test_no_models():
    with pytest.raises(ConfigError, match='no models'):
        align([], None, inputs=INPUT)


def test_a_clone_of_any_other_net():
    """Through the graph helpers' own planted clones, as matchers are tested."""
    graph = graph_of()
    other, _ = permuted(graph, 3)
    aligned = align([graph.model, other.model], None, inputs=INPUT)
    assert same(state(aligned[1]), state(graph.model))
