"""Modes of modules come back, each its own, also after an error."""
import pytest
from torch import nn

from mmreuse.utils.modes import evaluating, kept_modes


def mixed():
    net = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1))).train()
    net[1][1].eval()
    return net, [module.training for module in net.modules()]


def test_every_module_is_in_evaluation_mode_inside():
    net, modes = mixed()
    with evaluating(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.modules()] == modes


@pytest.mark.parametrize('guard', [evaluating, kept_modes])
def test_modes_come_back_after_an_error(guard):
    net, modes = mixed()
    with pytest.raises(RuntimeError), guard(net):
        net.train()
        raise RuntimeError
    assert [module.training for module in net.modules()] == modes
