"""One linear map per space, on ordinary modules."""
import copy

import pytest
import torch
import torchvision
from space_models import Attention, CifarResNet, Flattened, Shuffled, image
from torch import nn

from mmreuse.errors import SpaceError
from mmreuse.graph import Assign, Dense, Permute, Select, trace, transform


def outputs(model: nn.Module, size: int = 16) -> torch.Tensor:
    x = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return copy.deepcopy(model).double().eval()(x)


def randomised(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() and tensor.dim() < 2:
                tensor.uniform_(0.5, 1.5)
    return model


def without(model: nn.Module, graph, name: str, dropped: torch.Tensor) -> nn.Module:
    """The model with some features of a space zero: what writes or shifts them, and what they are centred by."""
    model = copy.deepcopy(model)
    state = model.state_dict()
    for axis in graph.spaces[name].axes:
        if axis.role != 'read' and not axis.tensor.endswith(('running_var', '.norm.weight')):
            positions = torch.isin(axis.index, dropped).nonzero().flatten()
            state[axis.tensor].index_fill_(axis.dim, positions, 0)
    return model


def test_a_permutation_keeps_function_and_keys():
    model = randomised(CifarResNet(2))
    graph = trace(model, image())
    maps = {name: Permute(torch.randperm(space.size)) for name, space in graph.spaces.items()}
    permuted = transform(graph, maps)
    torch.testing.assert_close(outputs(permuted), outputs(model), rtol=1e-9, atol=1e-9)
    assert list(permuted.state_dict()) == list(model.state_dict())
    assert not torch.equal(permuted.conv1.weight, model.conv1.weight)
    rebuilt = CifarResNet(2)
    rebuilt.load_state_dict(permuted.state_dict())


def test_permutations_compose():
    graph = trace(randomised(Flattened()), image(8))
    first, second = torch.randperm(6), torch.randperm(6)
    twice = transform(trace(transform(graph, {'conv': Permute(first)}), image(8)), {'conv': Permute(second)})
    once = transform(graph, {'conv': Permute(first[second])})
    for key, value in once.state_dict().items():
        assert torch.equal(value, twice.state_dict()[key])


@pytest.mark.parametrize('build, name, size', [
    (lambda: CifarResNet(2), 'layer1.0.conv1', 16),
    (lambda: CifarResNet(2), 'layer2', 16),  # padded channels
    (Flattened, 'conv', 8),
    (lambda: torchvision.models.resnet18(num_classes=5), 'layer2', 32),
    (lambda: torchvision.models.densenet121(num_classes=5), 'features.conv0', 32),
    (lambda: torchvision.models.mobilenet_v2(num_classes=5), 'features.3.conv.0.0', 32),
])
def test_removing_zero_features_is_exact(build, name, size):
    model = randomised(build())
    graph = trace(model, image(size))
    n = graph.spaces[name].size
    dropped = torch.randperm(n)[:n // 3]
    kept = torch.tensor(sorted(set(range(n)) - set(dropped.tolist())))[torch.randperm(n - len(dropped))]
    model = without(model, graph, name, dropped)
    graph = trace(model, image(size))
    if (name, size) == ('layer2', 16):
        with pytest.raises(SpaceError, match='layer2'):  # its forward counts the padded channels
            transform(graph, {name: Select(kept)})
        return
    smaller = transform(graph, {name: Select(kept)})
    torch.testing.assert_close(outputs(smaller, size), outputs(model, size), rtol=1e-9, atol=1e-9)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())


def test_sizes_of_layers_follow():
    graph = trace(torchvision.models.mobilenet_v2(), image(32))
    space = graph.spaces['features.3.conv.0.0']
    smaller = transform(graph, {space.name: Select(torch.arange(10))})
    expand, depthwise, project = (smaller.features[3].conv[i] for i in (0, 1, 2))
    assert (expand[0].out_channels, expand[1].num_features) == (10, 10)
    assert (depthwise[0].in_channels, depthwise[0].out_channels, depthwise[0].groups) == (10, 10, 10)
    assert project.in_channels == 10


def test_heads_are_removed_with_all_that_is_in_them():
    class Wide(Attention):
        def forward(self, x):
            self.heads = self.qkv.out_features // 12  # three times four features a head
            return super().forward(x)

    model = randomised(Wide())
    graph = trace(model, image())
    heads = graph.spaces['qkv:0'].block_space
    with torch.no_grad():
        model.proj.weight[:, 4:8] = 0
    graph = trace(model, image())
    smaller = transform(graph, {heads: Select(torch.tensor([2, 0]))})
    assert (smaller.qkv.out_features, smaller.proj.in_features, smaller.bias.shape[0]) == (24, 8, 2)
    torch.testing.assert_close(outputs(smaller), outputs(model), rtol=1e-9, atol=1e-9)


def test_groups_are_removed_as_wholes():
    model = randomised(Shuffled())
    model.norm = nn.Identity()
    with torch.no_grad():
        model.head.weight[:, 6:12] = 0
    graph = trace(model, image())
    smaller = transform(graph, {graph.spaces['grouped'].block_space: Select(torch.tensor([2, 0]))})
    assert (smaller.grouped.groups, smaller.grouped.in_channels, smaller.grouped.out_channels) == (2, 8, 12)
    torch.testing.assert_close(outputs(smaller), outputs(model), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('build, size', [(lambda: CifarResNet(2), 16), (Flattened, 8), (Shuffled, 16), (Attention, 16)])
def test_dense_and_index_maps_agree(build, size):
    graph = trace(randomised(build()), image(size))
    from mmreuse.graph.proof.verify import random_permutations
    maps = random_permutations(graph.spaces, seed=1)
    by_index = transform(graph, maps).state_dict()
    by_matrix = transform(graph, {name: item.dense(item.size) for name, item in maps.items()}).state_dict()
    for key, value in by_index.items():
        torch.testing.assert_close(by_matrix[key], value)


def test_an_invertible_map_of_a_linear_space_keeps_the_function():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(4 * 144, 5))
    graph = trace(model, image())
    matrix = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q * 2
    flat = torch.randn(4, 4, dtype=torch.float64) + 3 * torch.eye(4)
    mapped = transform(trace(model.double(), image().double()),
                       {'0': Dense(matrix, matrix.inverse()), '1': Dense(flat, flat.inverse())})
    torch.testing.assert_close(outputs(mapped), outputs(model), rtol=1e-9, atol=1e-9)
    assert len(graph.spaces) == 2


def test_duplicated_features_are_folded_exactly():
    model = randomised(CifarResNet(2))
    graph = trace(model, image())
    name = 'layer2.0.conv1'
    state = model.state_dict()
    for axis in graph.spaces[name].axes:
        if axis.role != 'read':  # feature 1 becomes a copy of feature 0
            state[axis.tensor].select(axis.dim, 1).copy_(state[axis.tensor].select(axis.dim, 0))
    n = graph.spaces[name].size
    folded = transform(graph, {name: Assign(torch.tensor([0, *range(n - 1)]), n - 1)})
    torch.testing.assert_close(outputs(folded), outputs(model), rtol=1e-9, atol=1e-9)


def test_a_space_can_grow():
    model = randomised(Flattened())
    graph = trace(model, image(8))
    spread = torch.cat([torch.eye(6), torch.rand(3, 6)])
    grown = transform(graph, {'conv': Dense(torch.cat([torch.eye(6), torch.eye(6)[:3]]),
                                            torch.cat([torch.eye(6), torch.zeros(6, 3)], 1))})
    assert grown.conv.out_channels == 9 and grown.fc.in_features == 9 * 16 and spread.shape == (9, 6)
    torch.testing.assert_close(outputs(grown, 8), outputs(model, 8), rtol=1e-9, atol=1e-9)


def test_tied_parameters_stay_tied():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 8), nn.Linear(3, 8)
            self.b.weight = self.a.weight
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            return self.head(torch.relu(self.a(x) + self.b(x)))

    model = Tied()
    graph = trace(model, torch.zeros(2, 3))
    permuted = transform(graph, {name: Permute(torch.randperm(8)) for name in graph.spaces})
    x = torch.randn(4, 3)
    assert permuted.b.weight is permuted.a.weight
    torch.testing.assert_close(permuted(x), model(x))


@pytest.mark.parametrize('maps, message', [
    ({'layer9': Permute(torch.arange(4))}, "no feature space 'layer9'.*Nearest: layer3"),
    ({'layer1': Permute(torch.arange(4))}, "'layer1' .16 features.*needs 16 indices"),
    ({'layer2': Select(torch.arange(3))}, 'fixes a width'),
])
def test_bad_maps_are_refused_before_anything_happens(maps, message):
    with pytest.raises(SpaceError, match=message):
        transform(trace(CifarResNet(2), image()), maps)


def test_members_do_not_leave_their_block():
    graph = trace(Shuffled(), image())
    with pytest.raises(SpaceError, match='inside their block'):
        transform(graph, {'before': Permute(torch.arange(12).roll(1))})
    with pytest.raises(SpaceError, match='equal sizes'):
        transform(graph, {'before': Select(torch.arange(11))})
