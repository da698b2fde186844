"""What images leave open is decided by weights: a network comes back from a merge with its own permuted copy."""
import logging

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.mobilenetv3 import InvertedResidualConfig

from mmreuse.errors import DataError
from mmreuse.graph import Assign, trace, transform
from mmreuse.graph.proof.verify import random_permutations
from mmreuse.merging import Matching, match_spaces, merge
from mmreuse.merging.matching.undecided import spare_living
from mmreuse.statistics import collect

from .helpers import moments_of, normal
from .planted import images, outputs, same


def mobilenet_v3():
    rows = [(8, 3, 16, 8, True, 'RE', 2, 1), (8, 3, 24, 12, False, 'RE', 2, 1), (12, 5, 32, 12, True, 'HS', 1, 1)]
    return torchvision.models.MobileNetV3([InvertedResidualConfig(*row, width_mult=1.) for row in rows],
                                          last_channel=32, num_classes=5)


def repvgg():
    blocks = tuple(timm.models.byobnet.ByoBlockCfg(type='rep', d=1, c=width, s=stride)
                   for width, stride in ((12, 1), (16, 2), (24, 2)))
    return timm.models.byobnet.ByobNet(timm.models.byobnet.ByoModelCfg(blocks, stem_type='rep', stem_chs=8),
                                       num_classes=5)


NETS = {'mobilenet-v3': mobilenet_v3, 'repvgg': repvgg,
        'regnet': lambda: timm.create_model('regnety_002', num_classes=5),
        'ghostnet': lambda: timm.create_model('ghostnet_050', num_classes=5)}


def with_dead_features(model, share=.15):
    """Norms of their own, some of which shift their feature below any activation."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, .5, 1.5, generator=generator)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, 0., .3, generator=generator)
            with torch.no_grad():
                module.bias[torch.rand(module.num_features, generator=generator) < share] = -30.
    return model.eval()


@pytest.mark.parametrize('matcher', ['permute', 'zip'])
@pytest.mark.parametrize('net', ['mobilenet-v3', 'repvgg', pytest.param('regnet', marks=pytest.mark.slow),
                                 pytest.param('ghostnet', marks=pytest.mark.slow)])
def test_a_network_comes_back_from_its_permuted_copy_though_features_are_dead(net, matcher):
    x = images(8, 32)
    graph = trace(with_dead_features(NETS[net]()), x[:1])
    copied = transform(graph, random_permutations(graph.spaces, 3))
    merged = merge([graph.model, copied], [x], matcher, inputs=x[:1], heads='merge', verify=False)
    # Larger images wake up features that were dead on those that were matched on.
    for seen in (x, 20 * images(4, 32).flip(0, 2)):
        same(merged, graph.model, seen, 1e-4)


class Mlp(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, width), nn.Linear(width, width), nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu())


@pytest.mark.parametrize('matcher', ['permute', 'zip', 'optimal', 'kmeans'])
def test_features_that_are_equal_on_the_images_are_told_apart(matcher):
    """The images use two of six inputs, and on these features come in equal pairs."""
    net = Mlp()
    with torch.no_grad():
        net.first.weight[1::2, :2] = net.first.weight[::2, :2]
        net.first.bias[1::2] = net.first.bias[::2]
    x = torch.randn(100, 6)
    x[:, 2:] = 0
    graph = trace(net.eval(), x[:1])
    copied = transform(graph, random_permutations(graph.spaces, 1))
    merged = merge([net, copied], [x], matcher, inputs=x[:1], heads='merge', verify=False)
    same(merged, net, torch.randn(50, 6), 1e-4)


def test_three_models_agree_on_what_is_dead():
    x = images(8, 32)
    graph = trace(with_dead_features(mobilenet_v3()), x[:1])
    copies = [transform(graph, random_permutations(graph.spaces, seed)) for seed in (1, 2)]
    merged = merge([graph.model, *copies], [x], 'permute', inputs=x[:1], heads='merge', verify=False)
    same(merged, graph.model, 20 * x.flip(0), 1e-4)


def test_decided_spaces_are_left_as_they_are():
    nets = [Mlp(), Mlp()]
    for net in nets:
        nn.init.ones_(net.first.bias)
        nn.init.ones_(net.second.bias)
    graphs = [trace(net, torch.zeros(1, 6)) for net in nets]
    moments = collect(graphs, [torch.randn(200, 6)])
    before = {name: each.covariance.clone() for name, each in moments.items()}
    match_spaces(graphs, moments, 'zip')
    assert all(torch.equal(moments[name].covariance, table) for name, table in before.items())


def test_what_is_zero_does_not_shrink_what_lives():
    """Group 0 is of a living and a zero feature, group 1 of two living ones, group 2 of zero ones."""
    first, second = normal(50, 3), normal(50, 3, seed=4)
    first[:, 2] = second[:, 0] = second[:, 2] = 0
    matching = Matching(Assign(torch.tensor([0, 1, 2, 0, 1, 2]), 3), (3, 3), 1.)
    spared = spare_living(matching, moments_of(first, second))
    assert spared.map.index.tolist() == [0, 1, 2, -1, 1, 2]
    assert spared.map.weight.tolist() == [1, .5, .5, 0, .5, .5]


def test_a_merge_keeps_features_whose_partner_is_dead():
    """The first network has four living features and the second two, which are joined with two of the four."""
    nets = [Mlp(), Mlp()]
    with torch.no_grad():
        for net, dead in zip(nets, (4, 6), strict=True):
            net.first.bias[:dead], net.first.bias[dead:] = -100., 5.
    x = torch.randn(200, 6)
    rows = merge(nets, [x], 'permute', inputs=x[:1], heads='merge', verify=False).trunk.first.weight.detach()
    living = nets[0].first.weight.detach()[4:]
    assert int((torch.cdist(living, rows).min(1).values < 1e-6).sum()) == 2
    assert torch.cdist(living / 2, rows).min() > 1e-3


def test_little_evidence_is_said(caplog):
    nets = [Mlp(), Mlp()]
    with caplog.at_level(logging.WARNING):
        merge(nets, [torch.randn(200, 6)], 'zip', inputs=torch.zeros(1, 6), heads='merge', verify=False)
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        merge(nets, [torch.randn(5, 6)], 'zip', inputs=torch.zeros(1, 6), heads='merge', verify=False)
    assert 'compared on 5 images only' in caplog.text
    with pytest.raises(DataError, match='no feature varies'):
        merge(nets, [torch.zeros(200, 6)], 'zip', inputs=torch.zeros(1, 6), heads='merge', verify=False)
    caplog.clear()
    x = images(70, 8)
    convolutional = [with_dead_features(nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)), .8)
                     for _ in range(2)]
    with caplog.at_level(logging.WARNING):
        outputs(merge(convolutional, [x], 'permute', inputs=x[:1], heads='merge', verify=False), x)
    assert 'most features of 1 of 1 spaces are constant' in caplog.text
