"""Structured pruning: sums over spaces, exact removal, targets."""
import copy

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mmreuse.errors import ConfigError, InfeasibleError, SpaceError
from mmreuse.graph import Select, trace, transform
from mmreuse.models.backbones import CifarResNet
from mmreuse.pruning import listed_weights, magnitude, prune_channels
from mmreuse.pruning.channel_choice import channel_scores, choose_channels, prunable_spaces
from mmreuse.utils.complexity import count_macs
from pruning.nets import make_loader, make_net

IMAGE = torch.zeros(1, 3, 5, 5)


def make_vit():
    torch.manual_seed(0)
    return VisionTransformer(img_size=8, patch_size=4, embed_dim=24, depth=1, num_heads=4, num_classes=4).eval()


def scored(net, image):
    graph = trace(net, image)
    return graph, channel_scores(graph, prunable_spaces(graph), magnitude(listed_weights(net)))


def test_scores_sum_over_what_writes_and_reads():
    net = make_net()
    _, scores = scored(net, IMAGE)
    inner = net.conv1.weight.abs().sum((1, 2, 3)) + net.conv2.weight.abs().sum((0, 2, 3))
    stream = (net.conv2.weight.abs().sum((1, 2, 3)) + net.shortcut.weight.abs().sum((1, 2, 3))
              + net.fc.weight.abs().sum(0))
    assert list(scores) == ['conv1', 'conv2']
    for score, expected in zip(scores.values(), (inner, stream), strict=True):
        torch.testing.assert_close(score, expected.double().detach(), rtol=1e-5, atol=1e-6)


def test_scores_of_grouped_kernels():
    net = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 8, 3, groups=8, bias=False),
                        nn.Conv2d(8, 4, 1, bias=False), nn.Flatten())
    _, scores = scored(net, IMAGE)
    first, depthwise, last = (net[number].weight.abs().detach().double() for number in range(3))
    expected = first.sum((1, 2, 3)) + depthwise.sum((1, 2, 3)) + last.sum((0, 2, 3))
    torch.testing.assert_close(scores['0'], expected)


def test_scores_of_heads():
    net = make_vit()
    graph, scores = scored(net, torch.zeros(1, 3, 8, 8))
    heads = next(name for name in scores if name.startswith('blocks.0.attn') and graph.spaces[name].size == 4)
    attention = net.blocks[0].attn
    expected = (attention.qkv.weight.abs().reshape(3, 4, 6, 24).sum((0, 2, 3))
                + attention.proj.weight.abs().reshape(24, 4, 6).sum((0, 2)))
    torch.testing.assert_close(scores[heads], expected.double().detach())


def test_what_is_dead_goes_and_nothing_changes():
    net = make_net()
    with torch.no_grad():
        for place in (1, 4):
            net.conv1.weight[place] = net.bn1.bias[place] = net.bn1.weight[place] = 0
            net.conv2.weight[:, place] = 0
    graph, scores = scored(net, IMAGE)
    name = next(name for name, score in scores.items() if (score == 0).sum() == 2)

    def cost(dense, pruned, inputs):
        return float(pruned.conv1.out_channels > 4)

    maps = choose_channels(graph, {name: scores[name]}, 0.5, cost)
    assert maps[name].index.tolist() == [0, 2, 3, 5]
    pruned = prune_channels(net, IMAGE, 0.5, cost=cost, spaces=[name])
    assert pruned.conv1.weight.shape == (4, 3, 3, 3)
    x = torch.randn(3, 3, 5, 5)
    torch.testing.assert_close(pruned(x), net(x))


@pytest.mark.parametrize('make, image, target', [
    (make_net, IMAGE, 0.3), (make_net, IMAGE, 0.8), (make_vit, torch.zeros(1, 3, 8, 8), 0.5)])
def test_targets_are_met_and_not_by_far(make, image, target):
    net = make()
    before = copy.deepcopy(net.state_dict())
    pruned = prune_channels(net, image, target, relative=False, minimum=0.01)
    share = count_macs(pruned, (image,)) / count_macs(net, (image,))
    assert 0.7 * target < share <= target
    assert pruned(image).shape == net(image).shape
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize('multiple', [1, 2, 4])
def test_no_space_could_be_wider(multiple):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 12, 3), nn.Conv2d(12, 20, 1), nn.Flatten(), nn.LazyLinear(4))
    net(IMAGE)
    graph, scores = scored(net, IMAGE)
    maps = choose_channels(graph, scores, 0.45, multiple=multiple)
    dense = count_macs(net, (IMAGE,))
    assert count_macs(transform(graph, maps), (IMAGE,)) <= 0.45 * dense
    for name, kept in maps.items():
        assert kept.size % multiple == 0
        wider = Select(torch.arange(min(kept.size + multiple, len(scores[name]))))
        assert count_macs(transform(graph, {**maps, name: wider}), (IMAGE,)) > 0.45 * dense


def test_widths_are_multiples_but_not_those_of_heads():
    pruned = prune_channels(make_vit(), torch.zeros(1, 3, 8, 8), 0.6, multiple=8, relative=False)
    assert all(block.mlp.fc1.out_features % 8 == 0 for block in pruned.blocks)
    assert pruned.patch_embed.proj.out_channels % 8 == 0


def test_fisher_and_reset():
    net, loader = make_net(), make_loader()
    options = dict(fisher=dict(samples=20), renormalizers=[dict(type='reset', samples=20)])
    pruned = prune_channels(net, IMAGE, 0.6, loader, 'diagonal_fisher', relative=False, **options)
    assert count_macs(pruned, (IMAGE,)) <= 0.6 * count_macs(net, (IMAGE,))
    images = torch.cat([images for images, _ in loader])[:20]
    expected = nn.functional.conv2d(images, pruned.conv1.weight, padding=1).mean((0, 2, 3))
    torch.testing.assert_close(pruned.bn1.running_mean, expected, rtol=1e-4, atol=1e-5)


def test_any_cost_may_be_the_target():
    def weights(dense, pruned, inputs):
        return sum(p.numel() for p in pruned.parameters()) / sum(p.numel() for p in dense.parameters())

    net = make_net()
    pruned = prune_channels(net, IMAGE, 0.5, cost=weights)
    assert 0.3 < weights(net, pruned, ()) <= 0.5


@pytest.mark.slow
def test_latency_falls():
    pruned = prune_channels(make_net(), torch.zeros(64, 3, 64, 64), 0.6, cost='latency')
    assert pruned.conv1.out_channels < 6


def test_spaces_whose_width_is_fixed_are_left(caplog):
    net = CifarResNet(8, width=8, num_classes=4).eval()
    pruned = prune_channels(net, torch.zeros(1, 3, 8, 8), 0.6)
    assert 'keep their width' in caplog.text
    assert pruned.layer1[0].conv1.out_channels < 8 and pruned.layer1[0].conv2.out_channels < 8
    with pytest.raises(SpaceError, match='fixes a width'):
        prune_channels(net, torch.zeros(1, 3, 8, 8), 0.6, spaces=['layer.*'])


@pytest.mark.parametrize('options, error, match', [
    (dict(target=1.), ConfigError, 'target=1.0'),
    (dict(target=0.5, multiple=0), ConfigError, 'multiple=0'),
    (dict(target=0.01), InfeasibleError, 'Ask for 0'),
    (dict(target=0.5, spaces=['conv7']), SpaceError, "'conv7'.*Nearest"),
    (dict(target=0.5, exclude=['fc7']), SpaceError, "'fc7'"),
    (dict(target=0.5, saliency='woodfisher'), ConfigError, 'labelled data'),
    (dict(target=0.5, renormalizers=['reset']), ConfigError, 'loader'),
    (dict(target=0.5, loader=[], renormalizers=[lambda model, loader, ends: None]), ConfigError, 'ends'),
    (dict(target=0.5, cost='flops'), ConfigError, "no cost 'flops'"),
])
def test_bad_input(options, error, match):
    with pytest.raises(error, match=match):
        prune_channels(make_net(), IMAGE, **options)


def test_goals_are_those_of_the_channels_that_are_left():
    net, loader, seen = make_net(), make_loader(), []

    def recorder(model, loader, *, samples=24, goals=None):
        seen.extend(goals)

    pruned = prune_channels(net, IMAGE, 0.6, loader, renormalizers=[recorder])
    kept = [next(place for place, row in enumerate(net.conv1.weight) if torch.equal(row, own))
            for own in pruned.conv1.weight]
    images = torch.cat([images for images, _ in loader])
    expected = net.conv1(images).transpose(0, 1).flatten(1)[kept]
    torch.testing.assert_close(seen[0]['conv1'].mean.float(), expected.mean(1).detach(), rtol=1e-4, atol=1e-5)
    repaired = prune_channels(net, IMAGE, 0.6, loader, renormalizers=[dict(type='repair', samples=24)])
    found = repaired.conv1(images).transpose(0, 1).flatten(1)
    torch.testing.assert_close(found.var(1), expected.var(1), rtol=1e-3, atol=1e-4)
