"""What else a budget buys."""
import pytest
import torch

from mmreuse.engine.studies.equal_cost import equal_cost_networks, prune_to_budget
from mmreuse.errors import ConfigError
from mmreuse.models import CifarResNet
from mmreuse.utils.cost.complexity import count_macs, count_params


def test_the_first_within_a_budget_stays_and_the_first_of_the_others_is_pruned_to_it():
    torch.manual_seed(0)
    networks = {name: CifarResNet(8, width, num_classes=10).eval()
                for name, width in (('wide', 12), ('wider', 16), ('narrow', 4), ('narrower', 2))}
    images = torch.randn(64, 3, 8, 8)
    params, macs = count_params(networks['wide']) / 2, 0.6 * count_macs(networks['wide'], images[:1])
    found = equal_cost_networks(networks, images, params=params, macs=macs)
    assert list(found) == ['narrow', 'wide'] and found['narrow'] is networks['narrow']
    assert 0.7 * params < count_params(found['wide']) <= params and count_macs(found['wide'], images[:1]) <= macs
    assert count_params(networks['wide']) == 2 * params
    assert list(equal_cost_networks({'narrow': networks['narrow']}, images, macs=macs)) == ['narrow']
    with pytest.raises(ConfigError, match='CifarResNet is within the budget'):
        prune_to_budget(networks['narrow'], images, params=params)
