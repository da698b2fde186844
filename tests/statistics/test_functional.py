"""A network shows the same features whichever of its operations are modules of their own."""
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmreuse.graph import trace
from mmreuse.merging import match_spaces
from mmreuse.statistics import collect

RELUS = {
    'F.relu': F.relu,
    'torch.relu': torch.relu,
    'x.relu()': lambda x: x.relu(),
    'x.relu_()': lambda x: x.relu_(),
    'F.relu in place': lambda x: F.relu(x, inplace=True),
}


class Block(nn.Module):
    """Two convolutions around which the input is added."""

    def __init__(self, inside: int, outside: int, stride: int, relu) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inside, outside, 1, stride, bias=False)
        self.relu1, self.relu2 = (relu, relu) if relu else (nn.ReLU(), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(out + self.shortcut(x))


class Net(nn.Module):
    """A residual network with a dense layer behind its stages; with ``relu`` functions stand for modules."""

    def __init__(self, relu=None) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 6, 3, 1, 1), nn.BatchNorm2d(6)
        self.stage1 = nn.Sequential(Block(6, 6, 1, relu))
        self.stage2 = nn.Sequential(Block(6, 8, 2, relu), Block(8, 8, 1, relu))
        self.last, self.bn_last = nn.Conv2d(8, 10, 1), nn.BatchNorm2d(10)
        self.fc1, self.fc2 = nn.Linear(10, 12), nn.Linear(12, 4)
        self.relu1, self.relu2, self.relu3 = (relu,) * 3 if relu else (nn.ReLU(True), nn.ReLU(), nn.ReLU())
        self.pool = (lambda x: F.max_pool2d(x, 2)) if relu else nn.MaxPool2d(2)
        self.mean = (lambda x: F.adaptive_avg_pool2d(x, 1)) if relu else nn.AdaptiveAvgPool2d(1)
        self.flat = (lambda x: torch.flatten(x, 1)) if relu else nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.stage1(self.pool(self.relu1(self.bn(self.stem(x))))))
        x = self.flat(self.mean(self.relu2(self.bn_last(self.last(x)))))
        return self.fc2(self.relu3(self.fc1(x)))


class Dense(nn.Module):
    """The activation in front of the pooling shows in no module, and features before it are read elsewhere."""

    def __init__(self, relu=None) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, 1, 1), nn.Conv2d(6, 6, 3, 1, 1)
        self.norm, self.fc = nn.BatchNorm2d(12), nn.Linear(12, 4)
        self.relu1, self.relu2 = (relu,) * 2 if relu else (nn.ReLU(), nn.ReLU())
        self.mean = (lambda x: x.mean((2, 3))) if relu else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = torch.cat([x, self.conv2(self.relu1(x * 1.))], 1)
        return self.fc(self.mean(self.relu2(self.norm(x))))


def made(kind: type, relu, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = kind(relu).eval()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.uniform_(.5, 1.5)
    return net


@pytest.mark.parametrize('kind', [Net, Dense])
@pytest.mark.parametrize('relu', RELUS.values(), ids=RELUS)
def test_functional_operations_and_modules_show_the_same_features(kind, relu):
    loader = list(torch.randn(3, 5, 3, 8, 8))
    found = []
    for each in (None, relu):
        graphs = [trace(made(kind, each, seed), loader[0][:1]) for seed in range(2)]
        moments = collect(graphs, loader)
        assert list(moments) == list(graphs[0].spaces)
        found.append((moments, match_spaces(graphs, moments, 'zip')))
    (modules, joined), (functions, joined_too) = found
    for name, expected in modules.items():
        assert functions[name].count == expected.count, name
        torch.testing.assert_close(functions[name].mean, expected.mean, msg=name)
        torch.testing.assert_close(functions[name].covariance, expected.covariance, msg=name)
        assert torch.equal(joined_too[name].map.index, joined[name].map.index), name


def test_what_layers_read_is_what_is_seen():
    """Behind activations, and at the end of a stream before it is pooled."""
    net, images = made(Net, F.relu, 0), torch.randn(20, 3, 8, 8)
    moments = collect(trace(net, images[:1]), [images])
    with torch.no_grad():
        stem = F.max_pool2d(net.bn(net.stem(images)).relu(), 2)
        end = net.stage2(net.stage1(stem))
        hidden = net.stage1[0].bn1(net.stage1[0].conv1(stem)).relu()
        last = net.bn_last(net.last(end)).relu().mean((2, 3))
        rows = {'stage2': end, 'stage1.0.conv1': hidden, 'last': last, 'fc1': net.fc1(last).relu()}
    for name, features in rows.items():
        expected = features.transpose(0, 1).flatten(1).double().mean(1)
        torch.testing.assert_close(moments[name].mean, expected, rtol=1e-4, atol=1e-6, msg=name)


def test_hooks_and_modes_go():
    net = made(Dense, F.relu, 0)
    graph = trace(net, torch.zeros(1, 3, 8, 8))
    assert any(space.taps[-1].operation for space in graph.spaces.values())
    collect(graph, [torch.randn(4, 3, 8, 8)])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert torch.overrides._get_current_function_mode() is None
