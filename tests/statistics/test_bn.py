"""Population statistics of batch norms, against whole-data references."""
import copy

import pytest
import torch
from torch import nn

from mmreuse.errors import DataError, SpaceError
from mmreuse.statistics import collect_bn, reset_bn


def make_net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(.5), nn.Conv2d(6, 4, 2),
                        nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2))
    for module in net:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, .5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return net


def make_images(samples=40, offset=3.0):
    return torch.randn(samples, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 + offset


def population(features):
    features = features.double()
    return features.mean((0, 2, 3)), features.var((0, 2, 3), correction=0)


@pytest.mark.parametrize('offset', [3.0, 300.0])
def test_first_norm_gets_the_population_statistics_whatever_the_batches(offset):
    net, images = make_net(), make_images(offset=offset)
    reset_bn(net, images.split([3, 17, 2, 18]))
    with torch.no_grad():
        mean, variance = population(net[0](images))
    torch.testing.assert_close(net[1].running_mean.double(), mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net[1].running_var.double(), variance, rtol=2e-5, atol=0)


def test_averaging_batches_would_not():
    """What batch norm does with ``momentum=None`` is another number when batches differ in size and mean."""
    net, images = make_net(), make_images()
    images[:3] += 20
    moments = collect_bn(net, images.split([3, 37]))['1']
    with torch.no_grad():
        batches = [population(net[0](part)) for part in images.split([3, 37])]
        mean, variance = population(net[0](images))
    torch.testing.assert_close(moments.mean, mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(moments.variance, variance, rtol=1e-5, atol=0)
    assert not torch.allclose(sum(each[1] for each in batches) / 2, variance, rtol=.1)


def test_with_one_batch_the_evaluated_net_is_the_batch_normalised_net():
    net, images = make_net(), make_images()
    reference = copy.deepcopy(net).train()
    reference[3].eval()
    reset_bn(net, [images])
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(images), reference(images), rtol=1e-4, atol=1e-5)


def test_measuring_leaves_the_model_as_it_was():
    net = make_net().train()
    net[5].eval()
    state = copy.deepcopy(net.state_dict())
    moments = collect_bn(net, make_images().split(8))
    assert list(moments) == ['1', '5', '8'] and moments['1'].count == 40 * 4 and moments['8'].count == 40
    assert state.keys() == net.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert net.training and net[1].training and not net[5].training and net[1].track_running_stats
    assert not any(module._forward_pre_hooks for module in net)


def test_old_statistics_do_not_matter():
    first, second = make_net(), make_net()
    second[1].running_mean += 100
    for net in (first, second):
        reset_bn(net, make_images().split(8))
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


def test_budget_is_kept_to_the_sample():
    net, images = make_net(), make_images()
    moments = collect_bn(net, images.split(8), samples=21)
    whole = collect_bn(net, [images[:8], images[8:16], images[16:21]])
    assert moments['8'].count == 21
    for name in moments:
        torch.testing.assert_close(moments[name].mean, whole[name].mean, rtol=0, atol=0)
    with pytest.raises(DataError, match='after 40 of 41'):
        collect_bn(net, images.split(8), samples=41)


def test_a_norm_used_twice_sees_both_and_an_idle_one_is_left_alone():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.idle = nn.BatchNorm2d(3), nn.BatchNorm2d(5)

        def forward(self, x):
            return self.norm(x) + self.norm(x + 10)

    net, images = Twice(), make_images()
    assert list(reset_bn(net, images.split(10))) == ['norm']
    mean, variance = population(torch.cat([images, images + 10]))
    torch.testing.assert_close(net.norm.running_var.double(), variance, rtol=1e-5, atol=0)
    assert torch.equal(net.idle.running_var, torch.ones(5))


def test_errors_leave_the_model_unchanged():
    net, images = make_net().train(), make_images()
    state = copy.deepcopy(net.state_dict())
    poisoned = images.clone()
    poisoned[30] = float('nan')
    with pytest.raises(DataError, match="batch norm '1': .*not finite"):
        reset_bn(net, poisoned.split(8))
    with pytest.raises(DataError, match="batch norm '5' got one value per channel"):
        reset_bn(net, images.split(8), samples=1)
    with pytest.raises(DataError, match='loader is empty'):
        reset_bn(net, [])
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    with pytest.raises(SpaceError, match='Linear has no batch norm'):
        reset_bn(nn.Linear(2, 2), [torch.zeros(2, 2)])
