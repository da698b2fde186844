"""Structured pruning: sums over spaces, exact removal, targets."""
import copy

import pytest
import timm
import torch
import torchvision
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mmreuse.errors import ConfigError, InfeasibleError, SpaceError
from mmreuse.graph import Select, trace, transform
from mmreuse.models.backbones import CifarResNet
from mmreuse.modularization.structured.moments import ClassMoments
from mmreuse.networks import record_of
from mmreuse.networks.resize import difference, resize
from mmreuse.pruning import listed_weights, magnitude, narrow_to, prune_channels
from mmreuse.pruning.channels import choice as channel_choice
from mmreuse.pruning.channels.choice import channel_scores, choose_channels, prunable_spaces
from mmreuse.pruning.channels.elimination import elimination, elimination_losses, input_moments
from mmreuse.pruning.channels.parts import predict_macs
from mmreuse.statistics import MomentAccumulator
from mmreuse.utils.cost.complexity import count_macs, count_params
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


class Repetitive(nn.Module):
    """Each channel within is there twice, the second time a little larger."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 6, 3), nn.Linear(6, 4)
        with torch.no_grad():
            for own in (self.first.weight, self.first.bias):
                own[:6] *= torch.arange(1, 7).view(6, *[1] * (own.dim() - 1))
                own[6:] = 1.1 * own[:6]

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).mean((2, 3)))


def test_elimination_takes_what_others_say_too_and_calibration_makes_up_for_it():
    torch.manual_seed(0)
    net, images = Repetitive().eval(), torch.randn(64, 3, 8, 8)
    narrow = prune_channels(net, images[:1], 0.5, [images], 'elimination', cost='channels', spaces=['first'],
                            renormalizers=[dict(type='calibrate', ridge=1e-9)])
    assert narrow.first.out_channels == 6
    torch.testing.assert_close(narrow(images), net(images), rtol=1e-3, atol=1e-3)
    other = prune_channels(net, images[:1], 0.5, [images], cost='channels', spaces=['first'],
                           renormalizers=[dict(type='calibrate', ridge=1e-9)])
    assert (other(images) - net(images)).abs().max() > 0.01  # by magnitude, of some channels both go


def test_elimination_of_inputs_that_are_constant_ends():
    """Their covariance is rounding alone, and not even positive."""
    noise = torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-12
    covariance = (noise + noise.T).fill_diagonal_(0)
    losses = elimination_losses(torch.ones(3, 8, dtype=torch.float64), covariance)
    assert losses.min() > 0 and losses.max() <= 2


def test_elimination_of_inputs_that_are_constant_but_for_rounding_costs_nothing():
    x = torch.randn(500, 4)
    x[:, 1] = 0.1 + torch.randn(500) * 1e-8  # as float32 computes what is constant
    taken = MomentAccumulator(4)
    taken.update(x)
    weights = dict(mixed=torch.randn(3, 4), idle=torch.tensor([[0., 1, 0, 0]]))
    by_class = ClassMoments(1, 4)
    by_class.add(x[:, None], torch.zeros(500, dtype=torch.long))
    for moments in (taken.result(), by_class.mixed(torch.ones(1))):
        found = elimination({f'{name}.weight': weight for name, weight in weights.items()},
                            moments=dict.fromkeys(weights, moments))
        assert not found['idle.weight'].any()
        losses = found['mixed.weight'].sum(0)
        assert losses[1] == 0 and losses[[0, 2, 3]].min() > 0 and losses.max() < 1.1


def test_elimination_judges_layers_that_are_called_as_functions_by_their_weights(caplog):
    net = make_vit()
    graph = trace(net, torch.zeros(1, 3, 8, 8))
    moments = input_moments(graph, ['blocks.0.mlp.fc2'], [torch.randn(8, 3, 8, 8)])
    assert not caplog.records and moments['blocks.0.mlp.fc2'].count == 8 * 5

    class Called(Repetitive):
        def forward(self, x):
            x = self.first(x).relu()
            x = nn.functional.conv2d(x, self.second.weight, self.second.bias)
            return self.head(x.mean((2, 3)))

    narrow = prune_channels(Called().eval(), torch.zeros(1, 3, 8, 8), 0.5, [torch.randn(16, 3, 8, 8)], 'elimination',
                            cost='channels', spaces=['first'])
    assert narrow.first.out_channels == 6 and 'what second reads cannot be seen' in caplog.text


def test_any_cost_may_be_the_target():
    def weights(dense, pruned, inputs):
        return sum(p.numel() for p in pruned.parameters()) / sum(p.numel() for p in dense.parameters())

    net = make_net()
    pruned = prune_channels(net, IMAGE, 0.5, cost=weights)
    assert 0.3 < weights(net, pruned, ()) <= 0.5


@pytest.mark.parametrize('name, costs', [
    ('grouped', ('macs', 'params', 'bytes')), ('vit', ('macs', 'params', 'bytes')), ('densenet', ('macs',))])
def test_costs_by_table_are_what_the_network_costs(name, costs):
    image, net = torch.zeros(1, 3, 32, 32), make_small(name)
    count = dict(macs=lambda net: count_macs(net, (image,)), params=count_params,
                 bytes=lambda net: sum(each.numel() * each.element_size() for each in net.state_dict().values()))
    for cost, of in ((cost, count[cost]) for cost in costs):
        pruned = prune_channels(net, image, cost=cost, limit=0.6 * of(net), multiple=4)
        assert record_of(pruned).structure['predicted'] == pytest.approx(of(pruned))
        assert 0.4 * of(net) < of(pruned) <= 0.6 * of(net)
    with pytest.raises(InfeasibleError, match=r'the least possible is \d+ parameters'):
        prune_channels(net, image, 0.01, cost='params')


@pytest.mark.parametrize('share', [0.7, 0.5, 0.05])
def test_every_space_keeps_the_same_share(share):
    net = nn.Sequential(nn.Conv2d(3, 20, 1), nn.Conv2d(20, 10, 1), nn.Flatten(), nn.LazyLinear(4))
    net(IMAGE)
    with torch.no_grad():
        for place in range(20):  # the later, the larger, and the first layer by far
            net[0].weight[place] = net[0].bias[place] = 100 * (place + 1)
    pruned = prune_channels(net, IMAGE, share, cost='channels', minimum=0.01)
    assert [pruned[0].out_channels, pruned[1].out_channels] == [max(1, round(share * width)) for width in (20, 10)]
    assert torch.equal(pruned[0].bias, net[0].bias[-pruned[0].out_channels:])
    assert prune_channels(net, IMAGE, share, cost='channels', minimum=0.5, multiple=4)[0].out_channels >= 12


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
    (dict(target=0.5, saliency='elimination'), ConfigError, 'needs images'),
    (dict(target=0.5, renormalizers=['reset']), ConfigError, 'loader'),
    (dict(target=0.5, loader=[], renormalizers=[lambda model, loader, ends: None]), ConfigError, 'ends'),
    (dict(target=0.5, cost='flops'), ConfigError, "no cost 'flops'"),
    (dict(target=0.5, limit=9.), ConfigError, 'one of the two'),
    (dict(), ConfigError, 'one of the two'),
    (dict(cost='latency', limit=9.), ConfigError, 'LatencyCost'),
])
def test_bad_input(options, error, match):
    with pytest.raises(error, match=match):
        prune_channels(make_net(), IMAGE, **options)


def test_goals_are_those_of_the_channels_that_are_left():
    net, loader, seen = make_net(), make_loader(), []

    def recorder(model, loader, *, samples=24, targets=None):
        seen.extend(targets)

    pruned = prune_channels(net, IMAGE, 0.6, loader, renormalizers=[recorder])
    kept = [next(place for place, row in enumerate(net.conv1.weight) if torch.equal(row, own))
            for own in pruned.conv1.weight]
    images = torch.cat([images for images, _ in loader])
    expected = net.conv1(images).transpose(0, 1).flatten(1)[kept]
    torch.testing.assert_close(seen[0]['conv1'].mean.float(), expected.mean(1).detach(), rtol=1e-4, atol=1e-5)
    repaired = prune_channels(net, IMAGE, 0.6, loader, renormalizers=[dict(type='repair', samples=24)])
    found = repaired.conv1(images).transpose(0, 1).flatten(1)
    torch.testing.assert_close(found.var(1), expected.var(1), rtol=1e-3, atol=1e-4)


class Grouped(nn.Module):
    """Spaces of blocks: group norms, grouped convolutions with several channels a group, and with one."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm1 = nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(3, 12)
        self.conv, self.norm2 = nn.Conv2d(12, 16, 3, padding=1), nn.GroupNorm(4, 16)
        self.grouped, self.norm3 = nn.Conv2d(16, 32, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(32)
        self.mix, self.norm4 = nn.Conv2d(32, 18, 1), nn.GroupNorm(18, 18)
        self.depthwise, self.head = nn.Conv2d(18, 18, 3, groups=18), nn.Linear(18, 5)

    def forward(self, x):
        x = self.norm2(self.conv(self.norm1(self.stem(x)).relu())).relu()
        x = self.depthwise(self.norm4(self.mix(self.norm3(self.grouped(x)).relu())).relu())
        return self.head(x.mean((2, 3)))


NETS = {
    'grouped': Grouped,
    'resnext': lambda: torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=5, groups=8, width_per_group=4),
    'densenet': lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5),
    'vit': lambda: timm.create_model('vit_tiny_patch16_224', img_size=32, patch_size=8, depth=2, num_classes=5,
                                     embed_dim=24, num_heads=4),
    'torchvision vit': lambda: torchvision.models.VisionTransformer(32, 8, 1, 4, 24, 48, num_classes=5),
    'convnext': lambda: timm.create_model('convnext_atto', num_classes=5, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)),
}


def make_small(name):
    torch.manual_seed(0)
    return NETS[name]().eval()


@pytest.mark.parametrize('name', NETS)
def test_a_pruned_network_comes_back_from_its_state(name):
    image = torch.zeros(1, 3, 32, 32)
    net = make_small(name)
    pruned = prune_channels(net, image, 0.6, minimum=0.25)
    if name in ('grouped', 'resnext', 'vit', 'torchvision vit'):  # blocks are among what went
        blocks = next(space.block_space for space in trace(net, image).spaces.values() if space.block_space)
        left = trace(pruned, image).spaces.get(blocks)  # one head alone is no block of anything
        assert left is None or left.size < trace(net, image).spaces[blocks].size
    images = torch.randn(2, 3, 32, 32)
    for rebuilt in (narrow_to(make_small(name), image, pruned.state_dict()),
                    resize(make_small(name), difference(net, pruned))):
        rebuilt.load_state_dict(pruned.state_dict(), assign=True)
        torch.testing.assert_close(rebuilt.eval()(images), pruned.eval()(images))


@pytest.mark.parametrize('name', sorted(NETS.keys() - {'torchvision vit'}))
def test_macs_are_predicted_to_the_unit(name):
    image = torch.zeros(1, 3, 32, 32)
    graph = trace(make_small(name), image)
    predict = predict_macs(graph)
    assert predict({}) == count_macs(graph.model, (image,))
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        widths = {name: int(torch.randint(1, graph.spaces[name].size, (), generator=generator))
                  for name in prunable_spaces(graph)}
        narrow = transform(graph, {name: Select(torch.arange(width)) for name, width in widths.items()})
        assert predict(widths) == count_macs(narrow, (image,))


def test_what_cannot_be_predicted_is_counted():
    class Functional(nn.Module):  # no layer computes with the weight of the second convolution
        def __init__(self):
            super().__init__()
            self.conv, self.second, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 1), nn.Linear(8, 5)

        def forward(self, x):
            return self.head(nn.functional.conv2d(self.conv(x).relu(), self.second.weight).mean((2, 3)))

    image = torch.zeros(1, 3, 8, 8)
    net = Functional().eval()
    pruned = prune_channels(net, image, 0.5)
    assert count_macs(pruned, (image,)) <= 0.5 * count_macs(net, (image,))
    wider = transform(trace(net, image), {'conv': Select(torch.arange(pruned.conv.out_channels + 1)),
                                             'second': Select(torch.arange(pruned.second.out_channels))})
    assert count_macs(wider, (image,)) > 0.5 * count_macs(net, (image,))


def test_few_networks_are_built_to_choose(monkeypatch):
    built = []
    monkeypatch.setattr(channel_choice, 'transform', lambda *args: built.append(args) or transform(*args))
    prune_channels(make_small('vit'), torch.zeros(1, 3, 32, 32), 0.5)
    assert len(built) <= 4


def test_nothing_that_can_shrink_is_an_error_that_says_why(monkeypatch):
    with pytest.raises(SpaceError, match='(?i)nothing in Sequential can'):
        prune_channels(nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten()).eval(), IMAGE, 0.5)

    def refuse(graph, maps):
        raise SpaceError(f'The code fixes {", ".join(maps)}.')

    monkeypatch.setattr(channel_choice, 'transform', refuse)
    with pytest.raises(SpaceError, match=r'nothing in SmallNet can.*The code fixes conv'):
        prune_channels(make_net(), IMAGE, 0.5)
