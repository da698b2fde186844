"""Linear nets: published names and initialisation, an exact split, identity buffers that are weights to a merge."""
import copy

import pytest
import torch
from mmpretrain.models import ImageClassifier

from mmreuse.errors import ConfigError
from mmreuse.graph import Permute, trace, transform
from mmreuse.models import LinearMLP


def net(**options):
    model = LinearMLP(**{**dict(depth=5, width=6, in_features=12, num_classes=3, init_std=.4), **options}).double()
    for name, parameter in model.named_parameters():
        if name.endswith('bias'):
            torch.nn.init.normal_(parameter)
    return model


def test_names_shapes_and_initialisation():
    model = LinearMLP(depth=8, width=32, num_classes=10)
    layers = dict(model.named_children())
    assert list(layers) == [f'fc{number}' for number in range(8)]
    assert layers['fc0'].weight.std().item() == pytest.approx(.002, rel=.05)
    assert not any(layer.bias.any() for layer in layers.values())
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    residual = dict(LinearMLP(depth=5, residual=True, num_classes=10).named_buffers())
    assert list(residual) == ['res1', 'res2', 'res3'] and all(torch.equal(each, torch.eye(32))
                                                              for each in residual.values())


@pytest.mark.parametrize('residual', [False, True])
def test_is_the_product_of_its_matrices(residual):
    model, x = net(residual=residual), torch.randn(7, 3, 2, 2, dtype=torch.float64)
    bare = copy.deepcopy(model)
    product = torch.eye(12, dtype=torch.float64)
    for number in range(5):
        layer = getattr(bare, f'fc{number}')
        layer.bias.data.zero_()
        product = (layer.weight + getattr(bare, f'res{number}', 0)) @ product
    assert torch.allclose(bare(x), x.flatten(1) @ product.T)
    assert torch.allclose(model(x) - model(torch.zeros_like(x)), bare(x))


@pytest.mark.parametrize('residual, spaces', [(False, 4), (True, 4)])
def test_residual_buffers_are_permuted_on_both_sides(residual, spaces):
    model, x = net(residual=residual), torch.randn(4, 12, dtype=torch.float64)
    graph = trace(model.eval(), x[:1])
    graph.verify()
    assert [space.size for space in graph.spaces.values()] == [6] * spaces
    orders = {name: torch.randperm(6) for name in graph.spaces}
    permuted = transform(graph, {name: Permute(order) for name, order in orders.items()})
    assert torch.allclose(permuted(x), model(x))
    if residual:
        first, second = list(orders.values())[:2]
        assert torch.equal(permuted.res1, torch.eye(6, dtype=torch.float64)[second][:, first])


def test_is_a_backbone_without_classes():
    classifier = ImageClassifier(
        backbone=dict(type='mmreuse.LinearMLP', depth=3, width=4, in_features=12),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=4))
    assert classifier(torch.randn(2, 3, 2, 2)).shape == (2, 5)
    assert [name for name, _ in classifier.backbone.named_children()] == ['fc0', 'fc1']


def test_a_single_layer_is_refused():
    with pytest.raises(ConfigError, match='at least 2'):
        LinearMLP(depth=1)
