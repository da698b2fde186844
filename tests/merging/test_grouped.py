"""Fronts of several models as one grouped network."""
import pytest
import torch
from torch import Tensor, nn

from mmreuse.errors import SpaceError
from mmreuse.graph import trace
from mmreuse.merging import MergedModel, merge_weights
from mmreuse.merging.partial.grouped import group_fronts
from mmreuse.models.backbones import CifarResNet, CifarVGG
from mmreuse.utils.cost.complexity import count_macs, count_params

from .planted import images, in_order, outputs, randomised
from .test_export import check

SIZE = 16


def merged(models: list[nn.Module], start: str, size: int = SIZE) -> MergedModel:
    graphs = [trace(randomised(model, seed), images(1, size)) for seed, model in enumerate(models)]
    return merge_weights(graphs, in_order(graphs), start=start)


def resnets(shortcut: str = 'conv1x1') -> list[nn.Module]:
    return [CifarResNet(8, width=4, shortcut=shortcut, num_classes=5) for _ in range(2)]


@pytest.mark.parametrize('start', [
    'conv1', 'layer1.0.conv1', 'layer2.0', 'layer3.0.conv2'])
def test_a_grouped_front_computes_the_same_at_the_same_cost(start):
    """In the middle of residual blocks the stream crosses beside what the merging layer reads."""
    model = merged(resnets(), start)
    grouped = group_fronts(model, images(1, SIZE))
    torch.testing.assert_close(outputs(grouped, images(3, SIZE)), outputs(model, images(3, SIZE)))
    assert count_params(grouped) == count_params(model)
    assert count_macs(grouped, (3, SIZE, SIZE)) == count_macs(model, (3, SIZE, SIZE))
    convolutions = [module for module in grouped.front.modules() if isinstance(module, nn.Conv2d)]
    assert all(module.groups == 2 for module in convolutions)
    check(grouped, SIZE)


def test_three_fronts_of_a_vgg():
    models = [CifarVGG(11, width=2, norm='bn', last_pool='avg', num_classes=5) for _ in range(3)]
    model = merged(models, 'features.11', 32)
    grouped = group_fronts(model, images(1, 32))
    torch.testing.assert_close(outputs(grouped, images(2, 32)), outputs(model, images(2, 32)))
    assert grouped.front.get_submodule('features.0').groups == 3


def test_a_merged_model_is_left_as_it_is():
    model = merged(resnets(), 'layer2.0.conv1')
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in group_fronts(model, images(1, SIZE)).parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.norm(self.conv1(x)).relu()).relu().mean((2, 3))


def test_what_cannot_be_grouped_is_named():
    with pytest.raises(SpaceError, match=r"'norm' \(GroupNorm\) is neither"):
        group_fronts(merged([Normalised(), Normalised()], 'conv2'), images(1, SIZE))
    with pytest.raises(SpaceError, match='one by one'):  # pads channels on both sides
        group_fronts(merged(resnets('pad'), 'layer3.0.conv1'), images(1, SIZE))
    whole = merged(resnets(), 'layer1')
    whole.fronts = None
    with pytest.raises(SpaceError, match='merge with a start'):
        group_fronts(whole, images(1, SIZE))
