"""A tiny network, and engines that may be absent."""
import pytest
import torch
from torch import nn

from mmreuse.deployment.process import require
from mmreuse.errors import ConfigError
from mmreuse.models.backbones import CifarResNet

INPUTS = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def make_net(width=4):
    torch.manual_seed(0)
    net = CifarResNet(8, width=width, num_classes=5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
    return net


def needs(engine: str) -> None:
    """Skip without this engine, and without importing it; the reason says how to get it."""
    try:
        require(engine)
    except ConfigError as error:
        pytest.skip(str(error))
