"""Places where a merge may end: names, depths and costs."""
import itertools

import pytest
import timm
import torch
import torchvision
from torch import nn

from mmreuse.errors import ConfigError, InfeasibleError, SpaceError
from mmreuse.graph import trace
from mmreuse.merging import find_stop, merge_weights, spaces_between, stop_points
from mmreuse.models.backbones import CifarResNet
from mmreuse.utils.cost.complexity import count_macs, macs_by_operator

from .planted import ResNet, images, in_order


def gmacs(model: nn.Module, size: int) -> float:
    """As papers count: convolutions, linear layers and products, no norms."""
    counts = macs_by_operator(model, (3, size, size))
    return sum(count for operator, count in counts.items() if 'norm' not in operator) / 1e9


@pytest.fixture(scope='module')
def resnet20():
    """Of four times the usual width, as merged in the literature."""
    return trace(CifarResNet(20, width=64, shortcut='conv3x3', num_classes=10), images(1, 32))


def test_published_depths_of_a_resnet20(resnet20):
    depths = {point.name: point.depth * 20 for point in stop_points(resnet20)}
    assert [round(depths[name]) for name in ('layer1', 'layer2', 'layer3')] == [7, 13, 19]
    assert list(depths.values()) == sorted(depths.values())


def test_points_are_in_order_and_costs_add_up(resnet20):
    points = stop_points(resnet20)
    whole = count_macs(resnet20.model, (3, 32, 32))
    assert all(point.front_macs + point.tail_macs == whole for point in points)
    fronts = [point.front_macs for point in points]
    assert fronts == sorted(fronts) and fronts[0] > 0
    assert len({point.name for point in points}) == len(points)


def test_costs_are_those_of_the_merged_model():
    model = ResNet()
    graph = trace(model, images(1))
    for point in stop_points(graph)[::8]:
        merged = merge_weights([graph] * 3, in_order([graph] * 3), stop=point.name)
        assert count_macs(merged, (3, 16, 16)) == point.front_macs + 3 * point.tail_macs


def test_published_costs_of_a_resnet20(resnet20):
    graphs = [resnet20] * 2
    found = [gmacs(merge_weights(graphs, {}, stop=stop), 32) for stop in (None, 'layer2', 'layer1')]
    assert found == pytest.approx([0.681, 0.908, 1.134], abs=6e-4)
    assert len(resnet20.spaces) == 12 and len(spaces_between(resnet20, stop='layer2')) == 8


@pytest.mark.slow
def test_published_costs_of_a_resnet50():
    """Those count norms as well."""
    graph = trace(torchvision.models.resnet50(), images(1, 224))
    assert len(graph.spaces) == 37
    found = [count_macs(merge_weights([graph] * 2, {}, stop=stop), (3, 224, 224)) / 1e9
             for stop in (None, 'layer3', 'layer2', 'layer1')]
    assert found[0] == pytest.approx(4.11, abs=0.005)
    added = [more - less for less, more in itertools.pairwise(found)]
    assert added == pytest.approx([0.81, 1.47, 1.04], abs=0.01)


def test_a_depth_names_the_last_place_where_one_tensor_crosses(resnet20):
    assert find_stop(resnet20, 7 / 20) == 'layer1'
    assert find_stop(resnet20, 0.5) == 'layer2.0'  # 9 of 20 layers; the next block ends at 11
    assert find_stop(resnet20, 0) == '' and find_stop(resnet20, 0.01) == ''
    assert find_stop(resnet20, 1) is None and find_stop(resnet20, None) is None


def test_a_budget_merges_as_little_as_it_can(resnet20):
    points = [point for point in stop_points(resnet20) if point.tensors == 1]
    whole = points[0].front_macs + points[0].tail_macs
    for limit in (1.2 * whole, 1.5 * whole, 1.9 * whole):
        name = find_stop(resnet20, dict(gmacs=limit / 1e9), models=2)
        number = [point.name for point in points].index(name)
        costs = [point.front_macs + 2 * point.tail_macs for point in points]
        assert costs[number] <= limit < costs[number - 1]
    assert find_stop(resnet20, dict(gmacs=2 * whole / 1e9)) == ''
    assert find_stop(resnet20, dict(gmacs=whole / 1e9)) is None
    with pytest.raises(InfeasibleError, match='merged as a whole'):
        find_stop(resnet20, dict(gmacs=0.99 * whole / 1e9))


def test_stops_that_do_not_exist(resnet20):
    with pytest.raises(SpaceError, match=r"'layer9' does not exist.*Nearest: 'layer"):
        find_stop(resnet20, 'layer9')
    for wrong in (1.5, -0.1, dict(macs=1), [3], True):
        with pytest.raises(ConfigError, match='stop = '):
            find_stop(resnet20, wrong)


def test_layers_that_are_functions_count_as_well():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.act = nn.Parameter(torch.randn(4, 3)), nn.ReLU()
            self.head = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.act(nn.functional.linear(x, self.weight)))

    assert [point.depth for point in stop_points(trace(Functional(), torch.zeros(1, 3)))] == [0.5]


def test_blocks_of_a_transformer_are_stops():
    model = timm.models.VisionTransformer(depth=3, embed_dim=12, num_heads=2, img_size=16, patch_size=8, num_classes=3)
    points = {point.name: point for point in stop_points(trace(model, images(1)))}
    assert [points[f'blocks.{number}'].tensors for number in (0, 1)] == [1, 1]
    assert points['blocks.0.attn.proj'].tensors == 2
