"""REPAIR in closed form against statistics of data."""
import copy

import pytest
import torch
from torch import nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.graph import Permute, trace, transform
from mmreuse.renormalization import closed_form_repair, matched, measure_ends, measure_together, output_orders, repair

from .nets import NETS, average, images, make, moments, outputs, same, state


def linear(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2)).double()


def gaussian(samples=200):
    mixing = torch.randn(5, 5, dtype=torch.float64)
    return torch.randn(samples, 5, dtype=torch.float64) @ mixing + 1


@pytest.mark.parametrize('share', [.5, .2])
def test_behind_a_linear_layer_it_is_what_data_says(share):
    ends, x = [linear(0), linear(1)], gaussian()
    first, second = average(*ends, share), average(*ends, share)
    options = dict(ends=ends, weights=[1 - share, share], layers=['0'])
    closed_form_repair(first, x.split(50), **options)
    repair(second, [x], **options)
    torch.testing.assert_close(first[0].weight, second[0].weight, rtol=1e-9, atol=0)
    torch.testing.assert_close(first[0].bias, second[0].bias, rtol=1e-9, atol=1e-12)
    got, wanted = moments(first[0](x).detach()), [moments(end[0](x).detach()) for end in ends]
    torch.testing.assert_close(got.variance.sqrt(), torch.lerp(wanted[0].variance.sqrt(), wanted[1].variance.sqrt(),
                                                               share))


def test_three_ends_and_population_moments_of_gaussian_data():
    """With the exact covariance of the inputs no data is seen at all."""
    ends, covariance = [linear(seed) for seed in range(3)], torch.cov(gaussian().T)
    weights = torch.stack([end[0].weight for end in ends]).detach()
    joint = torch.einsum('inp,pq,jnq->ijn', weights, covariance, weights)
    x = torch.linalg.cholesky(covariance) @ _whitened(400).T
    net = average(average(ends[0], ends[1], .5), ends[2], 1 / 3)
    own = matched(_space_moments(ends, x.T))
    torch.testing.assert_close(own.covariance, joint, rtol=1e-8, atol=1e-8)
    closed_form_repair(net, [x.T], moments={'0': own}, layers=['0'])
    deviations = [moments(end[0](x.T).detach()).variance.sqrt() for end in ends]
    torch.testing.assert_close(moments(net[0](x.T).detach()).variance.sqrt(), sum(deviations) / 3)


def _whitened(samples):
    x = torch.randn(samples, 5, dtype=torch.float64)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / samples)).T


def _space_moments(ends, x):
    return measure_together(ends, [x], layers=['0'])['0']


@pytest.mark.parametrize('family', NETS)
def test_a_network_that_is_its_own_end_stays_as_it_is(family):
    net, x = make(family), images()
    before = net(x)
    closed_form_repair(net, [x], ends=[copy.deepcopy(net), copy.deepcopy(net)])
    torch.testing.assert_close(net(x), before, rtol=1e-9, atol=1e-9)


def test_moments_taken_before_alignment_follow_it():
    first, second, x = make('vgg', 0), make('vgg', 1), images()
    graph = trace(second, torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    maps = {name: Permute(torch.randperm(space.size)) for name, space in graph.spaces.items()}
    aligned = transform(graph, maps)
    joint = measure_together([first, second], [x])
    orders = output_orders(graph, maps, joint)
    carried = {name: matched(each, [None, orders.get(name)]) for name, each in joint.items()}
    one, two = average(first, aligned), average(first, aligned)
    closed_form_repair(one, [x], moments=carried)
    closed_form_repair(two, [x], ends=[first, aligned])
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, two.state_dict()[name], rtol=1e-6, atol=1e-8)
    assert not torch.equal(one[2].weight, average(first, aligned)[2].weight)


def test_it_brings_back_variance_that_averaging_lost():
    ends, x = [make('vgg', 0), make('vgg', 1)], images()
    net = average(*ends)
    targets = measure_ends(ends, [x])
    closed_form_repair(net, [x], ends=ends)
    got = moments(outputs(net, x)[1]['0'])
    wanted = (targets[0]['0'].variance.sqrt() + targets[1]['0'].variance.sqrt()) / 2
    torch.testing.assert_close(got.variance.sqrt(), wanted, rtol=1e-6, atol=0)


def test_errors_leave_the_network_unchanged():
    ends, x = [make('vgg', 0), make('vgg', 1)], images()
    net = average(*ends)
    before = state(net)
    own = {name: matched(each) for name, each in measure_together(ends, [x]).items()}
    with pytest.raises(ConfigError, match='either `ends`'):
        closed_form_repair(net, [x], ends=ends, moments=own)
    with pytest.raises(SpaceError, match="no moments of '6'"):
        closed_form_repair(net, [x], moments={name: own[name] for name in ('0', '2')})
    with pytest.raises(SpaceError, match="'2' has 8 channels and moments of 6"):
        closed_form_repair(net, [x], moments={**own, '2': own['0']})
    with pytest.raises(ConfigError, match='weights'):
        closed_form_repair(net, [x], moments=own, weights=[1.])
    with pytest.raises(SpaceError, match="no layer '0'"):
        closed_form_repair(net, [x], ends=[net, make('resnet')])
    assert same(before, state(net))


def test_a_network_whose_weights_are_not_finite_is_refused_and_left_as_it_is():
    ends = [linear(0), linear(1)]
    net = average(*ends, .5)
    net[1].weight.data[0, 0] = float('nan')
    before = state(net)
    with pytest.raises(DataError, match="weights of '1', .* are not finite"):
        closed_form_repair(net, [gaussian()], ends=ends, layers=['0', '1'])
    assert all(torch.equal(value.nan_to_num(), before[name].nan_to_num()) for name, value in net.state_dict().items())
