"""Parts of a cut network compose to the network; a block computes what the slice of the network computes."""
import copy
import random
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from mmreuse.errors import SpaceError, TraceError
from mmreuse.graph import Chain, SizedChain, cut, cut_across, cut_points, sequence_of_nodes, slice_block
from mmreuse.graph.program.cut import endpoints


class Residual(nn.Module):
    """A block with a shortcut and a batch norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(True)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.drop(self.norm(self.conv(x))))


class Net(nn.Module):
    """Stem, four residual blocks in two stages, and a head whose pooling is a function."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.stage1 = nn.Sequential(Residual(4), Residual(4))
        self.stage2 = nn.Sequential(nn.Conv2d(4, 6, 2, stride=2), Residual(6), Residual(6))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage2(self.stage1(self.stem(x))).mean((2, 3)))


def randomised(model: nn.Module) -> nn.Module:
    """Give every parameter and statistic a value of its own, so that nothing cancels by symmetry."""
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.1 if 'running_var' in name else torch.randn_like(tensor) * 0.02)
    model.eval()
    return model


def run(parts: tuple[nn.Module, ...], x: Tensor) -> Tensor:
    with torch.no_grad():
        for part in parts:
            x = part(x)
    return x


def true_slice(model: nn.Module, x: Tensor, first: str, last: str) -> tuple[Tensor, Tensor]:
    """Return what ``first`` is given and what ``last`` returns while the model runs on ``x``."""
    seen: dict[str, Tensor] = {}

    def enter(module: nn.Module, args: tuple) -> None:
        seen['input'] = args[0].clone()

    def leave(module: nn.Module, args: tuple, output: object) -> None:
        seen['output'] = output[0].clone() if isinstance(output, tuple) else output.clone()

    hooks = [model.get_submodule(endpoints(first)[0]).register_forward_pre_hook(enter),
             model.get_submodule(endpoints(last)[1]).register_forward_hook(leave)]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return seen['input'], seen['output']


def test_cut_points_are_named_in_execution_order() -> None:
    points = cut_points(Net(), torch.zeros(1, 3, 16, 16))
    assert [point.name for point in points] == ['stem', 'stage1.0', 'stage1', 'stage2.0', 'stage2.1', 'stage2']
    assert points[2].shape == (4, 7, 7)
    assert {point.layout for point in points} == {'nchw'}


@pytest.mark.parametrize('at', ['stem', 'stage1', 'stage1.1.act', ['stage2.0', 'stem'], ['stage1.0', 'stage2']])
def test_parts_compose_to_the_model(at: str | list[str]) -> None:
    model = randomised(Net())
    x = torch.randn(5, 3, 20, 14)
    parts = cut(model, at, torch.zeros(1, 3, 16, 16))
    assert len(parts) == (2 if isinstance(at, str) else len(at) + 1)
    assert torch.equal(run(parts, x), model(x))
    keys = [key for part in parts for key in part.state_dict()]
    assert sorted(keys) == sorted(model.state_dict()), 'every parameter is in one part, under its own name'


def test_parts_keep_whole_modules_and_train() -> None:
    model = randomised(Net()).train()
    front, tail = cut(model, 'stage1.0', torch.zeros(1, 3, 16, 16))
    assert isinstance(tail.get_submodule('stage2'), nn.Sequential) and isinstance(front.stem, nn.Conv2d)
    twin, x = copy.deepcopy(model), torch.randn(4, 3, 16, 16)
    torch.manual_seed(1)
    composed = tail(front(x))
    torch.manual_seed(1)
    assert torch.equal(composed, twin(x))
    composed.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval()
    assert not torch.equal(twin(x), model(x)), 'dropout was active'


def test_a_traced_graph_is_accepted() -> None:
    model, x = randomised(Net()), torch.randn(2, 3, 16, 16)
    graph = SimpleNamespace(model=model, inputs=x)
    assert torch.equal(run(cut(graph, 'stage1'), x), model(x))
    assert cut_points(graph) == cut_points(model, x)


@pytest.mark.parametrize(('at', 'message'), [
    ('stage1.7', r"module 'stage1.7' does not exist in Net. Nearest: 'stage1"),
    ('stage1.0.conv', r"behind 'stage1.0.conv': more than one tensor crosses there.*Nearest places.*'stage1.0"),
    ('head', "behind 'head'.* nothing follows"),
])
def test_places_that_are_none_are_refused_with_the_nearest(at: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        cut(Net(), at, torch.zeros(1, 3, 16, 16))
    with pytest.raises(TraceError, match='inputs are needed'):
        cut(Net(), at)


def test_a_module_that_never_runs_is_told_from_one_that_does_not_exist() -> None:
    model = Net()
    model.spare = nn.Linear(2, 2)
    with pytest.raises(SpaceError, match="'spare' does not run"):
        cut(model, 'spare', torch.zeros(1, 3, 16, 16))


def test_blocks_of_sequential_modules_are_chains_for_any_size() -> None:
    model = randomised(Net())
    block = slice_block(model, 'stage1.1', 'stage2.1', torch.zeros(1, 3, 16, 16))
    assert isinstance(block, Chain) and block.names == ('stage1.1', 'stage2.0', 'stage2.1')
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in block.state_dict().items())
    given, returned = true_slice(model, torch.randn(3, 3, 40, 28), 'stage1.1', 'stage2.1')
    twin = copy.deepcopy(block)
    assert torch.equal(block(given.clone()), returned)
    twin.load_state_dict({key: value + 1 for key, value in twin.state_dict().items()})
    assert not torch.equal(twin(given.clone()), returned)
    twin.load_state_dict(block.state_dict())
    assert torch.equal(twin(given.clone()), returned)


def test_groups_of_layers_are_named_by_their_ends() -> None:
    model = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.MaxPool2d(2),
                                     nn.Conv2d(4, 5, 3), nn.ReLU(True), nn.Flatten(), nn.Linear(45, 2)))
    nodes = sequence_of_nodes(model, torch.zeros(1, 3, 12, 12))
    assert nodes == ('0:2', '4:5')
    for first, last in (nodes, nodes[:1] * 2, nodes[1:] * 2):
        given, returned = true_slice(model, torch.randn(2, 3, 12, 12), first, last)
        assert torch.equal(slice_block(model, first, last, torch.zeros(1, 3, 12, 12))(given), returned)


def test_blocks_that_no_modules_add_up_to_are_recorded() -> None:
    model = randomised(Net())
    block = slice_block(model, 'stage1.1.conv', 'stage2.0', torch.zeros(1, 3, 16, 16))
    given, returned = true_slice(model, torch.randn(3, 3, 16, 16), 'stage1.1.conv', 'stage2.0')
    assert not isinstance(block, Chain)
    assert torch.equal(block(given), returned), 'the shortcut around the first module is part of the block'
    assert set(block.state_dict()) < set(model.state_dict())


def test_blocks_that_are_none_are_refused() -> None:
    x = torch.zeros(1, 3, 16, 16)
    with pytest.raises(SpaceError, match='runs before'):
        slice_block(Net(), 'stage2', 'stage1', x)
    with pytest.raises(SpaceError, match='depends on more than its input: also on x'):
        slice_block(Net(), 'stage1.0.norm', 'stage1.0', x)


BLOCKS = [
    ('timm', 'test_resnet', {}), ('timm', 'test_efficientnet', {}), ('timm', 'test_vit', {}),
    ('timm', 'test_convnext', {}), ('timm', 'test_mambaout', {}), ('timm', 'pvt_v2_b0', {}),
    ('timm', 'eva02_tiny_patch14_224', {'img_size': 56}),
    ('timm', 'swin_tiny_patch4_window7_224', {'img_size': 56}), ('timm', 'mobilenetv3_small_050', {}),
    ('torchvision', 'resnet18', {}), ('torchvision', 'regnet_y_400mf', {}), ('torchvision', 'densenet121', {}),
    ('torchvision', 'squeezenet1_1', {}), ('torchvision', 'efficientnet_b0', {}),
]


def build(library: str, name: str, options: dict) -> nn.Module:
    module = pytest.importorskip('timm' if library == 'timm' else 'torchvision.models')
    return randomised(module.create_model(name, **options) if library == 'timm' else getattr(module, name)(**options))


@pytest.mark.parametrize(('library', 'name', 'options'), BLOCKS, ids=lambda value: value if type(value) is str else '')
def test_random_runs_of_nodes_compute_the_slice(library: str, name: str, options: dict) -> None:
    model = build(library, name, options)
    size = options.get('img_size') or (160 if name in ('test_vit',) else 64)
    small, rng = torch.zeros(1, 3, size, size), random.Random(0)
    nodes = sequence_of_nodes(model, small)
    for _ in range(3):
        first, last = sorted(rng.sample(range(len(nodes)), 2))
        block = slice_block(model, nodes[first], nodes[last], small)
        free = isinstance(block, Chain) and not hasattr(model, 'patch_embed')
        x = torch.randn(2, 3, *((96, 64) if free else (size, size)))
        given, returned = true_slice(model, x, nodes[first], nodes[last])
        output = block(given, (0, 0))[0] if isinstance(block, SizedChain) else block(given)
        assert torch.equal(output, returned), f'{nodes[first]} to {nodes[last]}'
        assert copy.deepcopy(block).state_dict().keys() <= model.state_dict().keys()


def test_blocks_whose_modules_take_the_size_of_the_map() -> None:
    models = pytest.importorskip('mmpretrain.models', reason='mmpretrain is not installed')
    model = randomised(models.SwinTransformer(arch='tiny', img_size=64, window_size=2))
    x = torch.zeros(1, 3, 64, 64)
    block = slice_block(model, 'stages.0.blocks.1', 'stages.1.blocks.0', x)
    assert isinstance(block, SizedChain)
    assert block.names == ('stages.0.blocks.1', 'stages.0.downsample', 'stages.1.blocks.0')
    for height, width in ((64, 64), (96, 64)):
        given, returned = true_slice(model, torch.randn(2, 3, height, width), 'stages.0.blocks.1',
                                                 'stages.1.blocks.0')
        tokens, hw = block(given, (height // 4, width // 4))
        assert torch.equal(tokens, returned) and hw == (height // 8, width // 8)


def test_layers_of_a_torch_transformer_are_looked_into() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = randomised(nn.Sequential(nn.Linear(4, 8), nn.TransformerEncoder(layer, 3), nn.Linear(8, 2)))
    x = torch.randn(2, 5, 4)
    assert sequence_of_nodes(model, x) == tuple(f'1.layers.{i}' for i in range(3))
    assert torch.equal(run(cut(model, '1.layers.1', x), x), run((model,), x))


MICRO = ['test_byobnet', 'test_convnext', 'test_convnext2', 'test_convnext3', 'test_efficientnet',
         'test_efficientnet_gn', 'test_efficientnet_ln', 'test_mambaout', 'test_nfnet', 'test_resnet', 'test_vit',
         'test_vit2', 'test_vit3']


@pytest.mark.parametrize('name', MICRO)
def test_micro_models_come_apart_at_all_places(name: str) -> None:
    model = build('timm', name, {})
    x = torch.randn(3, 3, 160, 160)
    names = [point.name for point in cut_points(model, x[:1])]
    assert len(names) > 5
    assert torch.equal(run(cut(model, names, x[:1]), x), model(x))


class Filling(nn.Module):
    """Fills zeros by slices, through a permuted view and by copying into a narrow one."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Conv2d(4, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(len(x), 8, *x.shape[2:])
        out[:, :2] = self.branch(x)[:, :2]
        out.permute(0, 2, 3, 1)[..., 2:4] = self.branch(x).permute(0, 2, 3, 1)[..., 2:]
        out.narrow(1, 4, 4).copy_(x)
        return out


class Filled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.filling = nn.Conv2d(3, 4, 1), Filling()
        self.body, self.head = nn.Conv2d(8, 8, 3, 1, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.filling(self.stem(x))).mean((2, 3)))


def test_what_is_written_into_slices_of_zeros_is_not_lost() -> None:
    model, x = Filled().eval(), torch.randn(4, 3, 6, 6)
    assert [point.name for point in cut_points(model, x[:1])] == ['stem', 'filling', 'body']
    with torch.no_grad():
        for name in ('stem', 'filling', 'body'):
            front, tail = cut(model, name, x[:1])
            assert torch.equal(tail(front(x)), model(x))
        for name in ('stem', 'filling.branch', 'filling.branch@1', 'filling', 'body'):
            front, tail = cut_across(model, name, x[:1])
            assert torch.equal(tail(*front(x)), model(x))
        block = slice_block(model, 'filling.branch', 'body', x[:1])
        assert torch.equal(block(model.stem(x)), model.body(model.filling(model.stem(x))))


class Routed(nn.Module):
    """A mixture of experts that may leave experts without rows out."""

    def __init__(self, skips: bool) -> None:
        super().__init__()
        self.skips = skips
        self.stem, self.gate, self.head = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        best, out = self.gate(x).argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = torch.where(best == number)[0]
            if not self.skips or len(rows):
                out[rows] = expert(x[rows])
        return self.head(out)


def test_routes_follow_the_values_or_the_cut_is_refused() -> None:
    model, x = Routed(skips=False).eval(), torch.randn(64, 8)
    front, tail = cut(model, 'stem', x[:30])
    with torch.no_grad():
        assert torch.equal(tail(front(5 * x)), model(5 * x))
    with pytest.raises(TraceError, match="counts rows that were chosen by value .'__len__'"):
        cut(Routed(skips=True).eval(), 'stem', x[:30])


class ManySamples(nn.Module):
    """Computes something else on more than four samples."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x if len(x) < 5 else -x)


@pytest.mark.parametrize('divide', [cut, cut_across])
def test_parts_are_proved_on_inputs_that_were_not_recorded(divide: Callable) -> None:
    with pytest.raises(SpaceError, match="cut behind 'stem', does not compute on five fresh inputs"):
        divide(ManySamples().eval(), 'stem', torch.randn(1, 8))
