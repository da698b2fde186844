"""Modules learned in one call."""
import pytest
import torch
from torch import nn

from mmreuse.apis import modularize
from mmreuse.errors import ConfigError, DataError


@pytest.fixture(scope='module')
def blobs():
    """Four classes around points of their own, and a network that tells them apart."""
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(100)
    images = 2 * torch.randn(4, 10)[labels] + torch.randn(400, 10)
    net = nn.Sequential(nn.Linear(10, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                        nn.Linear(64, 4))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net.eval(), images, labels


@pytest.mark.parametrize('classes', [[2], [3, 1]])
def test_a_module_in_one_call(blobs, classes):
    net, images, labels = blobs
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    module = modularize(net, (images, labels), classes, ratio=.2, epochs=20)
    assert all(tensor.equal(before[name]) for name, tensor in net.state_dict().items())
    assert module[0].state_dict().keys() == before.keys()
    masked = [name for name, parameter in net.named_parameters() if not name.startswith('1.')]
    kept = sum(int(module[0].state_dict()[name].count_nonzero()) for name in masked)
    assert kept <= .2 * sum(before[name].numel() for name in masked)
    own = [labels == label for label in classes] + [~torch.isin(labels, torch.tensor(classes))] * (len(classes) == 1)
    recalls = [float((module(images[chosen]).argmax(1) == number).double().mean()) for number, chosen in enumerate(own)]
    assert min(recalls) > .9
    again = modularize(net, list(zip(images.split(50), labels.split(50), strict=True)), classes, ratio=.2, epochs=20)
    assert all(tensor.equal(again.state_dict()[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize('classes, options, error, message', [
    ([2], dict(ratio=0), ConfigError, 'share of 0'), ([1, 1], {}, ConfigError, 'distinct'),
    ([1], dict(epochs=0), ConfigError, 'epochs=0'), ([5], {}, DataError, r'classes \[5\]')])
def test_what_cannot_be_learned(blobs, classes, options, error, message):
    net, images, labels = blobs
    with pytest.raises(error, match=message):
        modularize(net, (images, labels), classes, **options)
