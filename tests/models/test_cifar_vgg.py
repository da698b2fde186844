"""The VGG family: published sizes and names, initialisations, and spaces that can be permuted."""
import math

import pytest
import torch
from mmpretrain.models import ImageClassifier
from torch import nn

from mmreuse.errors import ConfigError
from mmreuse.graph import trace
from mmreuse.models import CifarVGG
from mmreuse.utils.cost.complexity import count_params


@pytest.mark.parametrize('options, params', [
    (dict(depth=16), 14_719_818), (dict(depth=16, norm='bn'), 14_728_266), (dict(depth=16, norm='ln'), 14_728_266),
    (dict(depth=11), 9_225_610)])
@pytest.mark.parametrize('last_pool', ['max', 'avg'])
def test_parameters_are_as_many_as_published(options, params, last_pool):
    with torch.device('meta'):
        net = CifarVGG(**options, last_pool=last_pool, num_classes=10)
        assert count_params(net) == params
        assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize('depth, last_pool, norm, names, modules', [
    (11, 'max', None, ['features.0', 'features.3', 'features.6', 'features.8', 'features.11', 'features.13',
                       'features.16', 'features.18', 'classifier'], 21),
    (11, 'avg', None, ['features.0', 'features.3', 'features.6', 'features.8', 'features.11', 'features.13',
                       'features.16', 'features.18', 'classifier.0'], 20),
    (13, 'avg', 'bn', ['features.0', 'features.3', 'features.7', 'features.10', 'features.14', 'features.17',
                       'features.21', 'features.24', 'features.28', 'features.31', 'classifier.0'], 34)])
def test_layers_have_the_published_names(depth, last_pool, norm, names, modules):
    net = CifarVGG(depth, width=2, norm=norm, last_pool=last_pool, num_classes=10)
    assert [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)] == names
    assert len(net.features) == modules


def test_average_pool_is_the_published_one():
    """Four max-pools leave 2x2 of 32x32 pixels, which are averaged."""
    net = CifarVGG(11, width=2, last_pool='avg', num_classes=3)
    x = torch.randn(2, 3, 32, 32)
    maps = net.features(x)
    assert maps.shape == (2, 16, 2, 2)
    assert torch.allclose(net(x), net.classifier(nn.AvgPool2d(2)(maps).flatten(1)))


def test_is_a_backbone_without_classes():
    classifier = ImageClassifier(
        backbone=dict(type='mmreuse.CifarVGG', depth=11, width=2),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=16))
    assert classifier(torch.randn(2, 3, 64, 64)).shape == (2, 3)


def test_without_bias_there_is_none():
    net = CifarVGG(11, width=2, norm='bn', bias=False, num_classes=3)
    assert not [name for name, _ in net.named_parameters()
                if name.endswith('bias') and not isinstance(net.get_submodule(name[:-5]), nn.BatchNorm2d)]


@pytest.mark.parametrize('init, conv_std, linear_std', [
    ('vgg_init', math.sqrt(2 / (9 * 128)), 0.01),
    ('lecun_normal', math.sqrt(1 / (9 * 64)), math.sqrt(1 / 128)),
    ('xavier', math.sqrt(2) * math.sqrt(2 / (9 * 64 + 9 * 128)), math.sqrt(2) * math.sqrt(2 / (128 + 100)))])
def test_inits_draw_the_published_distributions(init, conv_std, linear_std):
    net = CifarVGG(11, width=16, init=init, num_classes=100, norm='ln')
    conv = net.features[15]
    assert (conv.in_channels, conv.out_channels) == (64, 128)
    assert conv.weight.std().item() == pytest.approx(conv_std, rel=0.02)
    assert net.classifier.weight.std().item() == pytest.approx(linear_std, rel=0.03)
    assert not conv.bias.any() and not net.classifier.bias.any()


@pytest.mark.parametrize('options', [
    dict(), dict(norm='bn', last_pool='avg'), dict(norm='ln', bias=False)])
def test_every_convolution_writes_a_space_that_can_be_permuted(options):
    graph = trace(CifarVGG(11, width=4, num_classes=5, **options).eval(), torch.zeros(1, 3, 32, 32))
    graph.verify()
    assert len(graph.spaces) == 8
    assert [space.size for space in graph.spaces.values()] == [4, 8, 16, 16, 32, 32, 32, 32]


@pytest.mark.parametrize('options, message', [
    (dict(depth=12), '11, 13, 16 or 19'), (dict(norm='gn'), "no norm 'gn'"),
    (dict(last_pool=None), 'no last_pool None'), (dict(init='xavir'), "Nearest: 'xavier'")])
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        CifarVGG(**options)


def test_three_linear_layers_have_the_published_names():
    net = CifarVGG(16, norm='bn', hidden=512, num_classes=10)
    shapes = {name: tuple(module.weight.shape) for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    assert shapes == {'classifier.0': (512, 512), 'classifier.3': (512, 512), 'classifier.6': (10, 512)}
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
