"""Probes: what they measure, and how a search gives them all images at once."""
import copy
import math

import pytest
import torch
from torch import nn

import mmreuse.reassembly.search.proxies  # noqa: F401
from mmreuse.errors import ConfigError
from mmreuse.registry import PROXIES


class Features(nn.Module):
    """A network whose features are given numbers of each image, and whose head does not matter."""

    def __init__(self, *columns: int) -> None:
        super().__init__()
        self.columns = list(columns)
        self.head = nn.Linear(len(columns), 3)

    def forward(self, images):
        return self.head(images.flatten(1)[:, self.columns])


@pytest.fixture
def data():
    """Images whose first three numbers tell the class, and the others nothing."""
    torch.manual_seed(0)
    labels = torch.arange(150) % 3
    images = torch.randn(150, 1, 3, 3)
    images.flatten(1)[:, :3] += 4 * nn.functional.one_hot(labels)
    return images, labels


def test_a_probe_sees_what_features_say_of_the_classes(data):
    probe = PROXIES.get('ridge_probe')
    scores = [probe(Features(*columns), *data) for columns in ((0, 1, 2), (0, 4, 5), (6, 7, 8))]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0.9 and scores[2] < 0.5


def test_agreement_is_the_share_of_the_teacher_that_features_explain(data):
    images, _ = data
    agreement = PROXIES.get('agreement')
    goals = images.flatten(1)[:, :2] @ torch.tensor([[1., 2.], [3., -1.]]) + 7
    assert agreement(Features(0, 1), images, goals=goals) == pytest.approx(1, abs=1e-6)
    part = agreement(Features(0, 8), images, goals=goals)
    assert 0.1 < part < 0.9 and agreement(Features(7, 8), images, goals=goals) < 0.1


def test_probes_leave_the_model_as_it_was_and_take_statistics_from_the_images(data):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)).train()
    other = copy.deepcopy(model).eval()
    other[1].running_mean.fill_(3)
    state = copy.deepcopy(model.state_dict())
    probe = PROXIES.get('ridge_probe')
    assert probe(model, *data) == probe(other, *data)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model.training and not any(module._forward_pre_hooks for module in model.modules())


def test_what_cannot_be_probed_is_said(data):
    images, labels = data
    probe = PROXIES.get('ridge_probe')
    with pytest.raises(ConfigError, match="proxy 'ridge_probe' needs labels.*agreement asks a teacher"):
        probe(Features(0), images)
    with pytest.raises(ConfigError, match='no linear layer at its end'):
        probe(nn.Flatten(), images, labels)
    assert math.isnan(probe(nn.Sequential(nn.Flatten(), nn.Linear(9, 2), nn.Threshold(9e9, math.nan),
                                          nn.Linear(2, 3)), images, labels))
