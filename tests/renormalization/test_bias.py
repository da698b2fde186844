"""Bias calibration, removal, zero bias."""
import copy

import pytest
import torch
from torch import nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.renormalization import bias_calibration, bias_removal, zero_bias

from .nets import average, images, make, same, state


def linear_chain(layers=5, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(layers))).double()
    for layer in net:
        nn.init.normal_(layer.bias)
    return net


X = torch.randn(6, 4, dtype=torch.float64)


def test_midpoint_of_a_chain_is_the_closed_form():
    ends = [linear_chain(seed=0), linear_chain(seed=1)]
    net = average(*ends)
    bias_calibration(net, [X], ends=ends)
    for number, layer in enumerate(net):
        mean = (ends[0][number].bias + ends[1][number].bias) / 2
        torch.testing.assert_close(layer.bias, mean * 2.**-number, rtol=1e-12, atol=0)
        torch.testing.assert_close(layer.weight, (ends[0][number].weight + ends[1][number].weight) / 2)


@pytest.mark.parametrize('share', [.5, .3])
def test_linear_net_becomes_homogeneous(share):
    """Orthogonally unlike networks: weights of one vanish on the other's features, so averaging scales by the shares.

    Then the calibrated net is the sum of both ends' functions, each shrunk by its share to the depth, biases included.
    """
    ends = [linear_chain(seed=0), linear_chain(seed=1)]
    for end, own in zip(ends, (slice(0, 2), slice(2, 4)), strict=True):
        with torch.no_grad():
            for layer in end:
                weight, bias = torch.zeros_like(layer.weight), torch.zeros_like(layer.bias)
                weight[own, own], bias[own] = layer.weight[own, own], layer.bias[own]
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
    net = average(*ends, share)
    bias_calibration(net, [X], ends=ends, weights=[1 - share, share])
    torch.testing.assert_close(net(X), (1 - share)**5 * ends[0](X) + share**5 * ends[1](X), rtol=1e-9, atol=1e-12)


def test_without_ends_the_merged_biases_stand_for_those_of_all():
    net = linear_chain()
    before = state(net)
    bias_calibration(net, [X], weights=[.5, .5], layers=['2', '3', '4'])
    for number, factor in enumerate([1, 1, 1, .5, .25]):
        torch.testing.assert_close(net[number].bias, before[f'{number}.bias'] * factor)


def test_depth_is_the_longest_way_so_a_shortcut_does_not_count():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.shortcut, self.last = (nn.Linear(4, 4) for _ in range(4))

        def forward(self, x):
            return self.last(self.second(torch.relu(self.first(x))) + self.shortcut(x))

    net = Block().double()
    before = state(net)
    bias_calibration(net, [X], weights=[.5, .5])
    for name, factor in dict(first=1, second=.5, shortcut=1, last=.25).items():
        torch.testing.assert_close(net.get_submodule(name).bias, before[f'{name}.bias'] * factor)


def test_calibration_refuses_what_it_does_not_fit():
    net = make('vgg-bn-bias')
    for family, norm in {'vgg-bn-bias': '1', 'vgg-ln': '1', 'resnet': 'bn1'}.items():
        net = make(family)
        before = state(net)
        with pytest.raises(SpaceError, match=f"has norms \\('{norm}'\\)"):
            bias_calibration(net, [images()], weights=[.5, .5])
        assert same(before, state(net))
    net = make('vgg')
    with pytest.raises(ConfigError, match='needs the end models'):
        bias_calibration(net, [images()])
    with pytest.raises(SpaceError, match="no parameter '0.bias'"):
        bias_calibration(net, [images()], ends=[make('vgg'), make('vgg-nobias')])
    with pytest.raises(DataError, match='loader is empty'):
        bias_calibration(net, [], weights=[.5, .5])
    with pytest.raises(SpaceError, match='no layer with a bias'):
        bias_calibration(nn.Sequential(nn.Linear(4, 4, bias=False)).double(), [X], weights=[.5, .5])


def test_a_bias_of_two_layers_has_no_depth():
    net = linear_chain()
    net[3].bias = net[1].bias
    before = state(net)
    with pytest.raises(SpaceError, match=r'1\.bias and 3\.bias are one parameter'):
        bias_calibration(net, [X], weights=[.5, .5])
    assert same(before, state(net))


def test_removal_zeroes_the_last_in_order_of_execution():
    class Swapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
            nn.init.ones_(self.norm.bias)

        def forward(self, x):
            return self.second(self.norm(self.first(x)))

    for last, zero in {0: set(), 1: {'second'}, 2: {'second', 'norm'}, 3: {'second', 'norm', 'first'}}.items():
        net = Swapped().double()
        before = state(net)
        assert bias_removal(net, [X], last=last) == last
        changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {f'{name}.bias' for name in zero}
        assert all(not net.state_dict()[name].any() for name in changed)
    with pytest.raises(ConfigError, match='has 3 biases'):
        bias_removal(Swapped().double(), [X], last=4)


def test_removal_chooses_by_validation_and_takes_the_fewest():
    net = linear_chain()
    with torch.no_grad():
        for layer in net:
            layer.bias[:] = 0
        net[3].bias[0] = 1000  # every image gets class 0 until this is gone
    clean = copy.deepcopy(net)
    zero_bias(clean, [X])
    labels = clean(X).argmax(1)
    before = state(net)
    bias_removal(net, [X], validation=[(X, labels)])
    assert same(state(net), {**before, '3.bias': torch.zeros(4, dtype=torch.float64)})
    seen = []

    def score(model):
        seen.append([bool(layer.bias.any()) for layer in model])
        return -abs(sum(seen[-1]) - 2)

    net = linear_chain()
    assert bias_removal(net, [X], score=score) == 3
    assert [sum(each) for each in seen] == [5, 4, 3, 2, 1, 0]
    assert [bool(layer.bias.any()) for layer in net] == [True, True, False, False, False]
    with pytest.raises(ConfigError, match='never the test set'):
        bias_removal(net, [X])


def test_zero_bias_clears_all():
    net = make('vgg-ln')
    before = state(net)
    zero_bias(net, [])
    assert all(not value.any() if name.endswith('bias') else torch.equal(value, before[name])
               for name, value in net.state_dict().items())
    with pytest.raises(SpaceError, match='no biases'):
        zero_bias(nn.Linear(2, 2, bias=False), [])
