"""A recorded model computes what the model computes, on other batches and other values."""
import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmreuse.errors import TraceError
from mmreuse.graph import capture
from mmreuse.graph.program.emit import needed
from mmreuse.graph.program.recording import record


class InPlace(nn.Module):
    """Changes activations, views of them and a table in place; returns a nest with a number in it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.act = nn.ReLU(inplace=True)
        self.register_buffer('table', torch.randn(1, 4, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> dict:
        y = self.first(x)
        y += 1
        y[:, :2] *= 2
        y[:, 2:].relu_()
        mask = torch.zeros(1, 1, 6, 6)
        mask[..., :3, :] = 1
        mask[:, :, 0].fill_(3.0)
        y = self.act(self.second(y)) * mask + self.table
        return {'map': y, 'rest': (F.relu(y - 1, inplace=True).mean((1, 2, 3)), y.shape[0])}


class Tokens(nn.Module):
    """Reads the batch size as a number, by way of a division too, and branches on shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.linear, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8), nn.Linear(8, 3)
        self.token = nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        x = self.patches(x).flatten(2).transpose(1, 2)
        if x.shape[1] % 2 == 0:
            x = torch.cat([self.token.expand(batch, -1, -1), x, torch.zeros(batch, 1, 8, device=x.device)], dim=1)
        windows = self.linear(x).reshape(-1, 2, 8)
        x = x + windows.view(int(windows.shape[0] / (x.shape[1] / 2)), -1, 8)
        return self.head(torch.stack([row.mean(0) for row in x.unbind(1)][:batch - batch + 2]).sum(0).add(x[:, 0]))


class Twice(nn.Module):
    """Calls one block twice, with an in-place activation."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.block(x)).mean((2, 3)))


@dataclass
class Result:
    features: Tensor
    classes: int


class ReturnsDataclass(nn.Module):
    """Returns a dataclass from a child and from itself."""

    class Child(nn.Module):
        def forward(self, x: Tensor) -> Result:
            return Result(x * 2, 3)

    def __init__(self) -> None:
        super().__init__()
        self.child, self.head = self.Child(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Result:
        result = self.child(x)
        return Result(self.head(result.features), result.classes)


class TwoInputs(nn.Module):
    """Takes two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.right(self.left(x) + y)


MODELS = {
    'in place': (InPlace, (3, 8, 8)), 'tokens': (Tokens, (3, 8, 8)), 'twice': (Twice, (3, 8, 8)),
    'dataclass': (ReturnsDataclass, (4,)), 'root is a layer': (lambda: nn.Linear(4, 4), (4,)),
}


def same(left: object, right: object) -> bool:
    """Compare nests of tensors exactly."""
    if isinstance(left, Tensor):
        return torch.equal(left, right)
    if isinstance(left, Result):
        return same(vars(left), vars(right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@pytest.mark.parametrize('name', MODELS)
def test_captured_model_is_the_model_on_any_batch(name: str) -> None:
    build, shape = MODELS[name]
    model = build().eval()
    module = capture(model, torch.randn(1, *shape)).module()
    for batch in (1, 2, 5):
        x = torch.randn(batch, *shape)
        with torch.no_grad():
            assert same(module(x.clone()), model(x.clone()))
    assert module.state_dict().keys() == model.state_dict().keys()


def test_several_inputs_by_position_and_by_name() -> None:
    model = TwoInputs()
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    assert torch.equal(capture(model, (x, y)).module()(x, y), model(x, y))
    assert torch.equal(capture(model, {'y': y, 'x': x}).module()(y=y, x=x), model(x, y))


def test_captured_modules_copy_load_and_share() -> None:
    model = Twice().eval()
    module = capture(model, torch.randn(1, 3, 8, 8)).module()
    assert module.get_parameter('block.0.weight') is model.block[0].weight
    x = torch.randn(2, 3, 8, 8)
    expected = module(x)
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(twin(x), expected) and not torch.equal(module(x), expected)
    module.load_state_dict(twin.state_dict())
    assert torch.equal(module(x), expected)


def test_train_mode_reaches_the_layers_and_capture_restores_modes() -> None:
    model = Twice()
    model.block.eval()
    module = capture(model, torch.randn(1, 3, 8, 8)).module()
    assert model.training and model.head.training and not model.block[1].training
    x = torch.randn(4, 3, 8, 8)
    before = model.block[1].running_mean.clone()
    assert torch.equal(module.train()(x), copy.deepcopy(model).train()(x))
    assert not torch.equal(model.block[1].running_mean, before)


def test_a_recorded_table_keeps_what_was_written_into_it() -> None:
    recording = record(InPlace(), torch.randn(1, 3, 8, 8))
    writes = [node for node in recording.graph.nodes if node.meta['mutates'] and not node.meta['dynamic']]
    assert [node.target for node in writes] == ['__setitem__', 'fill_']
    output = next(iter(reversed(recording.graph.nodes)))
    assert set(writes) <= needed([output])


class Forward(nn.Module):
    """A child ``layer`` and any function around it."""

    def __init__(self, function) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer, x)


@torch.jit.script
def doubled(x: Tensor) -> Tensor:
    return x * 2


@pytest.mark.parametrize(('function', 'message'), [
    (lambda layer, x: layer(x) if x.sum() > 0 else x, "the model itself takes a Python .*'__bool__'"),
    (lambda layer, x: layer(x) * x.max().item(), "'item'"),
    (lambda layer, x: layer(torch.from_numpy(x.numpy() * 2)), "'numpy'"),
    (lambda layer, x: layer(doubled(x)), "module 'layer' reads a tensor of unknown origin"),
    (lambda layer, x: F.pad(layer(x), (0, x.shape[0] + 1)), "'pad' .* not a multiple"),
    (lambda layer, x: layer(x) / len(x) ** 0.5, 'not as a whole number, from the batch size'),
    (lambda layer, x: layer(x) + torch.rand(4), 'random in eval mode'),
    (lambda layer, x: layer(x).view(-1) if len(x) == 2 else layer(x), 'runs for some inputs and not for others'),
    (lambda layer, x: layer(x[:, :3]), "module 'layer' fails while the model runs on inputs of shape"),
])
def test_what_cannot_be_captured_is_named(function, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        capture(Forward(function), torch.randn(2, 4))


def test_inputs_of_a_wrong_kind_are_refused() -> None:
    with pytest.raises(TraceError, match='inputs must be a tensor'):
        capture(nn.Linear(3, 3), 5)


MMPRETRAIN = [
    dict(type='VisionTransformer', arch='deit-t', img_size=32, patch_size=8),
    dict(type='DistilledVisionTransformer', arch='deit-t', img_size=32, patch_size=8),
    dict(type='SwinTransformer', arch='tiny', img_size=64, window_size=2),
    dict(type='MlpMixer', arch='b', img_size=32, patch_size=8),
    dict(type='ConvNeXt', arch='atto'),
    dict(type='EfficientNet', arch='b0'),
    dict(type='ShuffleNetV2', widen_factor=0.5),
]


@pytest.mark.parametrize('config', MMPRETRAIN, ids=lambda config: config['type'])
def test_models_that_symbolic_tracing_cannot_follow(config: dict) -> None:
    models = pytest.importorskip('mmpretrain.models', reason='mmpretrain is not installed')
    config = dict(config)
    size = config.get('img_size', 32)
    model = getattr(models, config.pop('type'))(**config)
    model.eval()
    module = capture(model, torch.randn(1, 3, size, size)).module()
    x = torch.randn(4, 3, size, size)
    with torch.no_grad():
        assert same(module(x), model(x))
