"""A trained classifier of the digits, and configs of its modules."""
from functools import partial

import pytest
import torch
from modular_runs import BASE, TRAINED, write_module
from torch import nn

from mmreuse.datasets import Digits
from mmreuse.engine.run_config import run_config
from mmreuse.networks import create


@pytest.fixture(scope='session')
def trained(tmp_path_factory, repository):
    """A small classifier of the digits."""
    folder = tmp_path_factory.mktemp('base')
    path = folder / 'base.py'
    path.write_text(TRAINED.format(root=repository, base=BASE))
    run_config(path, work_dir=folder / 'run')
    return folder / 'run' / 'epoch_4.pth'


@pytest.fixture
def config(tmp_path, repository, trained):
    return partial(write_module, tmp_path, repository, trained)


def digits(split):
    data = Digits(split=split, pipeline=[])
    images = torch.stack([torch.as_tensor(data[number]['img']).permute(2, 0, 1) for number in range(len(data))])
    return (images.float() - 78) / 94, torch.as_tensor(data.get_gt_labels())


@pytest.fixture(scope='session')
def digits_net():
    """A small residual network of the digits, its training and its test data."""
    torch.manual_seed(0)
    images, labels = digits('train')
    net = create(dict(type='CifarResNet', depth=14, width=8, num_classes=10))
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for _ in range(4):
        for part in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[part]), labels[part]).backward()
            optimizer.step()
    return net.eval(), (images, labels), digits('test')
