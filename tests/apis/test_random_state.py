"""Calls draw from seeds of their own: the global generator of PyTorch neither decides what they give, nor moves."""
import copy

import pytest
import torch
from torch import nn

from mmreuse.apis import merge, modularize, prune
from mmreuse.graph import cut, trace
from mmreuse.modularization import ModulePart, ReusableModule, apply_module, compact, mask_state
from mmreuse.modularization.masks.masks import apply_masks
from mmreuse.pruning import prune_channels
from mmreuse.utils.files.io import state_hash

IMAGES = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(64) % 4


def make_net(seed):
    generator_state = torch.get_rng_state()
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(.3), nn.Conv2d(8, 8, 3),
                        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(.3), nn.Linear(8, 4)).eval()
    torch.set_rng_state(generator_state)
    return net


def applied(net):
    masked = copy.deepcopy(net)
    apply_masks(masked)
    part = ModulePart(torch.ones(2, 4), torch.zeros(2))
    return apply_module(ReusableModule(mask_state(masked), {'problem': part}, state_hash(net)), net)


@pytest.mark.parametrize('call', [
    pytest.param(lambda net: trace(net, IMAGES[:2]).model, id='trace'),
    pytest.param(lambda net: nn.Sequential(*cut(trace(net, IMAGES[:2]), '4')), id='cut'),
    pytest.param(lambda net: merge([net, make_net(2)], IMAGES)[0], id='merge'),
    pytest.param(lambda net: prune(net, (IMAGES, LABELS), .5, 'woodfisher', fisher=dict(samples=32))[0], id='prune'),
    pytest.param(lambda net: prune_channels(net, IMAGES[:2], .5, [IMAGES], renormalizers=['reset']), id='channels'),
    pytest.param(lambda net: modularize(net, (IMAGES, LABELS), [1], epochs=1)[0], id='modularize'),
    pytest.param(lambda net: compact(net, IMAGES[:2]), id='compact'),
    pytest.param(applied, id='apply_module')])
def test_global_generator_neither_decides_nor_moves(call):
    net, found = make_net(1), []
    for seed in (5, 6):
        torch.manual_seed(seed)
        found.append(call(copy.deepcopy(net)).state_dict())
        drawn = torch.rand(4)
        torch.manual_seed(seed)
        assert torch.equal(torch.rand(4), drawn), 'the global generator was moved'
    assert all(torch.equal(found[0][key], tensor) for key, tensor in found[1].items())
