"""The proof holds where the spaces are right and names the one that is wrong."""
from dataclasses import replace

import pytest
import torch
import torchvision
from space_models import Attention, CifarResNet, Flattened, Fused, Gated, Shuffled, SplitAttention, image

from mmreuse.errors import SpaceError
from mmreuse.graph import trace
from mmreuse.graph.proof.verify import random_permutations

MODELS = {
    'cifar_resnet': lambda: CifarResNet(1),
    'flattened': Flattened,
    'shuffled': Shuffled,
    'gated': Gated,
    'attention': Attention,
    'temperature': lambda: Attention('temperature'),
    'talking': lambda: Attention('talking'),
    'rotary': lambda: Attention('rotary'),
    'fused': Fused,
    'split': SplitAttention,
}


@pytest.mark.parametrize('name', MODELS)
def test_permuted_networks_compute_the_same(name):
    graph = trace(MODELS[name](), image(8 if name == 'flattened' else 16))
    report = graph.verify()
    assert report.spaces == len(graph.spaces) > 0
    assert report.error < 1e-9


@pytest.mark.parametrize('name', ['resnext50_32x4d', 'shufflenet_v2_x0_5', 'mobilenet_v3_small'])
def test_torchvision_networks_compute_the_same(name):
    assert trace(torchvision.models.get_model(name), image(64)).verify().error < 1e-9


def test_the_space_that_breaks_is_named():
    graph = trace(CifarResNet(1), image())
    space = graph.spaces['layer2.0.conv1']
    axes = tuple(axis for axis in space.axes if axis.role != 'read')  # forget who reads it
    broken = replace(graph, spaces=graph.spaces | {'layer2.0.conv1': replace(space, axes=axes)})
    with pytest.raises(SpaceError, match="'layer2.0.conv1' changes the function"):
        broken.verify()


def test_a_network_without_a_signal_proves_nothing():
    graph = trace(CifarResNet(1), image())
    constant = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 256, 4))
    constant.forward = lambda x: torch.zeros(1, 4)
    with pytest.raises(SpaceError, match='nothing can be proved'):
        replace(graph, model=constant, spaces={}).verify()


def test_random_permutations_move_blocks_as_wholes():
    spaces = trace(Shuffled(), image()).spaces
    maps = random_permutations(spaces, seed=3)
    order = maps[spaces['before'].block_space].index
    for name in ('before', 'grouped'):
        blocks = spaces[name].blocks
        assert torch.equal(blocks[maps[name].index], order[blocks])
