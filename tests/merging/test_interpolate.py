"""Weighted means of networks."""
import itertools

import pytest
import torch
from renormalization.nets import NETS, average, images, make, same, state
from torch import nn

from merging.architectures import graph_of
from mmreuse.errors import ConfigError, SpaceError
from mmreuse.merging import interpolate
from mmreuse.models import CifarResNet, CifarVGG


@pytest.mark.parametrize('family', NETS)
def test_weights_of_one_end_give_it_to_the_last_bit(family):
    ends = [make(family, seed).float() for seed in range(3)]
    for number, end in enumerate(ends):
        weights = [0.] * 3
        weights[number] = 1.
        assert same(state(interpolate(ends, weights)), state(end))


@pytest.mark.parametrize('family', NETS)
def test_between_two_ends_it_is_the_line(family):
    ends = [make(family, seed) for seed in range(2)]
    before = [state(end) for end in ends]
    found, expected = state(interpolate(ends, (.7, .3))), state(average(*ends, .3))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, msg=key)
    assert all(same(state(end), own) for end, own in zip(ends, before, strict=True))


def test_any_number_of_ends_and_any_weights():
    """A linear layer's output is linear in its parameters."""
    ends, weights = [nn.Linear(8, 3).double() for _ in range(4)], (.5, -.25, 2., 0.)
    x = images()[:, 0, 0]
    expected = sum(weight * end(x) for weight, end in zip(weights, ends, strict=True))
    torch.testing.assert_close(interpolate(ends, weights)(x), expected)


def test_integers_and_the_mode_are_the_firsts():
    ends = [nn.Sequential(nn.BatchNorm1d(2)).train() for _ in range(2)]
    ends[0](torch.randn(4, 2))
    found = interpolate(ends, (.5, .5))
    assert found[0].num_batches_tracked == 1 and found.training
    assert found[0].num_batches_tracked.dtype == torch.int64


def test_an_end_of_weight_zero_has_no_say():
    ends = [nn.Linear(2, 2) for _ in range(2)]
    nn.init.constant_(ends[1].weight, torch.nan)
    assert same(state(interpolate(ends, (1, 0))), state(ends[0]))
    assert interpolate(ends, (.9, .1)).weight.isnan().all()


class Pair(nn.Module):
    """Two layers of one shape whose weights are one parameter, one memory or neither."""

    def __init__(self, tie):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(4, 4) for _ in range(3))
        if tie == 'parameter':
            self.second.weight = self.first.weight
        if tie == 'memory':
            self.second.weight = nn.Parameter(self.first.weight.detach())

    def forward(self, x):
        return self.third(self.second(self.first(x).relu()))


@pytest.mark.parametrize('ties', itertools.product(['parameter', 'memory', None], repeat=2))
def test_one_hot_weights_give_a_network_back_whatever_is_tied(ties):
    ends = [Pair(tie) for tie in ties]
    x = torch.randn(3, 4)
    for number, end in enumerate(ends):
        found = interpolate(ends, [float(number == other) for other in range(2)])
        assert same(state(found), state(end)) and torch.equal(found(x), end(x))
        assert (found.first.weight is found.second.weight) == (ties[0] == 'parameter' and ties[1] is not None)


@pytest.mark.parametrize('other, key, what', [
    (lambda: CifarVGG(11, 4, norm='ln', num_classes=3), 'features.1', 'BatchNorm2d in model 0 and LayerNorm2d'),
    (lambda: CifarVGG(11, 6, norm='bn', num_classes=3), 'features.0.weight', r'\(4, 3, 3, 3\) in model 0 and of shape'),
    (lambda: CifarVGG(11, 4, norm='bn', bias=False, num_classes=3), 'features.0.bias', 'in model 0 and absent'),
    (lambda: CifarVGG(13, 4, norm='bn', num_classes=3), 'features.3', 'MaxPool2d in model 0 and Conv2d'),
    (lambda: CifarVGG(11, 4, norm='bn', num_classes=5), 'classifier.weight', r'\(3, 32\) in model 0'),
    (lambda: CifarResNet(8, 4, num_classes=3), None, 'CifarVGG in model 0 and CifarResNet'),
    (lambda: graph_of().model, None, 'Plain in model 1')])
def test_the_first_difference_is_named(other, key, what):
    name = f"'{key}'" if key else 'it'
    with pytest.raises(SpaceError, match=f'{name} is .*{what}'):
        interpolate([CifarVGG(11, 4, norm='bn', num_classes=3), other()], (.5, .5))


@pytest.mark.parametrize('models, weights, message', [
    (0, (), 'no models'), (2, (1.,), 'one finite weight'), (2, (.5, torch.nan), 'one finite weight')])
def test_weights_that_do_not_fit(models, weights, message):
    with pytest.raises(ConfigError, match=message):
        interpolate([nn.Linear(2, 2)] * models, weights)
