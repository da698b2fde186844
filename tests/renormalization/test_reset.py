"""RESET of batch norms, against moments computed in one go."""
import pytest
import torch
from torch import nn

from mmreuse.errors import DataError
from mmreuse.registry import RENORMALIZERS


@pytest.fixture
def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).double()


@pytest.fixture
def batches() -> list[torch.Tensor]:
    return [torch.randn(size, 3, 6, 6, dtype=torch.float64) for size in (5, 2, 8)]


def reset(net: nn.Module, loader: list, **options) -> None:
    RENORMALIZERS.build(dict(type='reset', **options))(net, loader)


def test_statistics_are_those_of_all_images_taken_together(net, batches):
    weight = net[0].weight.clone()
    reset(net, batches)
    features = net[0](torch.cat(batches)).detach().movedim(1, -1).reshape(-1, 4)
    torch.testing.assert_close(net[1].running_mean, features.mean(0))
    torch.testing.assert_close(net[1].running_var, features.var(0, correction=0))
    assert torch.equal(net[0].weight, weight) and net.training


def test_budget_is_kept_to_the_sample(net, batches):
    reset(net, batches, samples=6)
    features = net[0](torch.cat(batches)[:6]).detach().movedim(1, -1).reshape(-1, 4)
    torch.testing.assert_close(net[1].running_mean, features.mean(0))


def test_network_without_batch_norms_stays_as_it_is(batches):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(1, 4)).double()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    reset(net, batches)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_too_few_samples_leave_the_statistics_alone(net, batches):
    with pytest.raises(DataError, match='ended after 15 of 16 samples'):
        reset(net, batches, samples=16)
    assert net[1].running_mean.abs().sum() == 0
