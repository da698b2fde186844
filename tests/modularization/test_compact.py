"""Compaction: the same function, and what is dead is gone."""
import pytest
import timm
import torch
import torchvision
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from zeros import with_zeros

from mmreuse.errors import ArtefactError, SpaceError
from mmreuse.graph import copy_model, trace
from mmreuse.models.backbones import CifarResNet
from mmreuse.modularization import compact
from mmreuse.modularization.compaction import compaction
from mmreuse.modularization.compaction.compaction import difference, find_dead
from mmreuse.modularization.compaction.constant_layers import ConstantLayer
from mmreuse.modularization.compaction.constants import fold_constants
from mmreuse.networks import load, save
from mmreuse.networks import resize as sizes


class Residual(nn.Module):
    """A stem, a residual block, an average and a head."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 5)

    def forward(self, x):
        x = self.stem(x).relu()
        x = (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()
        return self.fc(x.mean((2, 3)))


class Dense(nn.Module):
    """Two convolutions that see all before them."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm1, self.conv1 = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, padding=1)
        self.norm2, self.conv2 = nn.BatchNorm2d(10), nn.Conv2d(10, 4, 1)
        self.fc = nn.Linear(14, 5)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([x, self.conv1(self.norm1(x).relu())], 1)
        x = torch.cat([x, self.conv2(self.norm2(x).relu())], 1)
        return self.fc(x.amax((2, 3)))


class Inverted(nn.Module):
    """Expansion, depthwise convolution, squeeze and excitation, projection."""

    def __init__(self, width=12):
        super().__init__()
        self.expand, self.norm1 = nn.Conv2d(3, width, 1), nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.squeeze, self.excite = nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1)
        self.project = nn.Conv2d(width, 6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = nn.functional.hardswish(self.norm1(self.expand(x)))
        x = nn.functional.relu6(self.norm2(self.depthwise(x)))
        x = x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.fc(self.project(x).mean((2, 3)))


class Attention(nn.Module):
    """PyTorch's own attention, whose output projection is never called as a layer."""

    def __init__(self, width=12, heads=3):
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.fc = nn.Linear(width, 5)

    def forward(self, x):
        x = self.embed(x)
        return self.fc((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


class Heads(nn.Module):
    """Attention whose code reads its width off its layers."""

    def __init__(self, width=12, heads=3):
        super().__init__()
        self.num_heads = heads
        self.qkv, self.proj, self.fc = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Linear(width, 5)

    def forward(self, x):
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2)
        return self.fc((x + self.proj(mixed)).mean(1))


GRAPHS = {
    'residual': (Residual, (3, 7, 7)), 'concat': (Dense, (3, 7, 7)), 'depthwise': (Inverted, (3, 7, 7)),
    'option A': (lambda: CifarResNet(8, 6, num_classes=5), (3, 16, 16)),
    'option B': (lambda: CifarResNet(8, 6, num_classes=5, shortcut='conv1x1', norm=None), (3, 16, 16)),
    'layer norm': (lambda: CifarResNet(8, 6, num_classes=5, norm='ln'), (3, 16, 16)),
    'attention': (Attention, (6, 4)), 'heads': (Heads, (6, 12)),
    'transformer': (lambda: VisionTransformer(8, 4, embed_dim=24, depth=2, num_heads=4, num_classes=5), (3, 8, 8)),
    'one dimension': (lambda: nn.Sequential(
        nn.Conv1d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv1d(6, 6, 3, padding=2, dilation=2, groups=2), nn.ReLU(),
        nn.Conv1d(6, 4, 3), nn.Flatten(), nn.Linear(32, 5)), (3, 10)),
    'three dimensions': (lambda: nn.Sequential(
        nn.Conv3d(2, 6, 3, padding=1, padding_mode='replicate'), nn.ReLU(), nn.ConvTranspose3d(6, 4, 2, 2), nn.ReLU(),
        nn.Conv3d(4, 4, 1), nn.Flatten(), nn.Linear(4 * 6 ** 3, 5)), (2, 3, 3, 3)),
}


@pytest.mark.parametrize('seed', range(2))
@pytest.mark.parametrize('name', GRAPHS)
def test_the_function_stays(name, seed):
    torch.manual_seed(seed)
    make, shape = GRAPHS[name]
    net, x = with_zeros(make(), rows=0.3 + 0.3 * seed), torch.randn(2, *shape)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    small = compact(net, x)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(small(x), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize('name', ['residual', 'concat', 'depthwise'])
def test_another_size_of_image(name):
    net = with_zeros(GRAPHS[name][0]())
    small = compact(net, torch.zeros(1, 3, 7, 7))
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())
    assert difference(net, small, (torch.randn(2, 3, 12, 9),)) < 1e-6


def test_a_file_builds_the_sizes(tmp_path):
    net = with_zeros(Residual(), rows=0.6)
    net.conv2.weight.data.zero_()
    small = compact(net, torch.zeros(1, 3, 7, 7))
    found = sizes.difference(net, small)
    assert found['layers']['conv2']['type'] == 'ConstantLayer'
    with pytest.raises(ArtefactError, match='has no module'):
        sizes.resize(Dense(), found)
    save(small, tmp_path / 'small.safetensors', base=f'{Residual.__module__}:Residual')
    again, x = load(tmp_path / 'small.safetensors', trust_code=True), torch.randn(2, 3, 7, 7)
    assert torch.equal(again(x), small(x))
    assert {name: type(module) for name, module in again.named_modules()} == {
        name: type(module) for name, module in small.named_modules()}


# -- what goes ------------------------------------------------------------------------


@torch.no_grad()
def test_a_constant_goes_into_biases_where_there_is_no_border():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.SiLU(), nn.Conv2d(6, 4, 3), nn.Flatten())
    with_zeros(net, rows=0, elements=0)
    net[0].weight[2] = 0
    small = compact(net, torch.zeros(1, 3, 7, 7))
    assert small[0].out_channels == 5
    value = nn.functional.silu(net[1](net[0](torch.zeros(1, 3, 5, 5))))[0, 2, 0, 0]
    torch.testing.assert_close(small[3].bias, net[3].bias + net[3].weight[:, 2].sum((1, 2)) * value)


@torch.no_grad()
def test_one_constant_carries_the_others_where_there_is_a_border():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1), nn.Flatten()).eval()
    net[0].weight[2:6] = 0
    net[0].bias[2:6] = torch.tensor([0.5, 2.0, -1.0, 0.25])
    small = compact(net, torch.zeros(1, 3, 7, 7))
    assert small[0].out_channels == 5  # four that vary, and the carrier; the negative one is a zero behind ReLU
    assert small[0].bias[2] == 2
    torch.testing.assert_close(small(x := torch.randn(1, 3, 7, 7)), net(x))


@torch.no_grad()
def test_a_residual_stream_keeps_what_one_branch_varies():
    net = with_zeros(Residual(), rows=0, elements=0)
    net.stem.weight[0] = 0  # the block still writes channel 0
    net.stem.weight[1] = net.conv2.weight[1] = 0  # nobody writes channel 1, whose value is relu(b) there
    net.stem.bias[:2] = -1
    net.conv1.weight[3] = 0  # constant inside, with a border unless zero
    net.bn1.bias[3], net.bn1.running_mean[3] = -1, 0
    small = compact(net, torch.zeros(1, 3, 7, 7))
    assert small.stem.out_channels == small.conv2.out_channels == 7
    assert small.conv1.out_channels == 7


@torch.no_grad()
def test_what_nobody_reads_goes_all_the_way_up():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    net[4].weight[:, :4] = 0
    net[2].weight[4:, 1:] = 0
    small = compact(net, torch.zeros(1, 4))
    assert [small[number].out_features for number in (0, 2)] == [1, 2]


@torch.no_grad()
def test_a_constant_branch_costs_nothing():
    net = with_zeros(Residual(), rows=0, elements=0)
    net.conv2.weight.zero_()
    small = compact(net, torch.zeros(1, 3, 7, 7))
    assert isinstance(small.conv1, ConstantLayer) and isinstance(small.conv2, ConstantLayer)
    assert len(small.conv1.bias) == 1


@torch.no_grad()
@pytest.mark.parametrize('bias', [0., 1.])
def test_heads_go_as_wholes(bias):
    net = Heads().eval()
    net.qkv.weight[24 + 4:24 + 8] = 0  # values of the second head
    net.qkv.bias[24 + 4:24 + 8] = bias
    net.qkv.weight[24] = 0  # one value of the first
    small = compact(net, torch.zeros(1, 6, 12))
    assert small.num_heads == 2 and small.qkv.weight.shape == (24, 12)


@torch.no_grad()
@pytest.mark.parametrize('make, name, inside', [
    (lambda: torchvision.models.VisionTransformer(16, 8, 1, 3, 12, 24, num_classes=5),
     'encoder.layers.encoder_layer_0.self_attention', 'in_proj_weight'),
    (lambda: VisionTransformer(img_size=16, patch_size=8, embed_dim=12, depth=1, num_heads=3, num_classes=5),
     'blocks.0.attn', 'qkv.weight')])
def test_heads_go_where_code_keeps_their_width(make, name, inside, tmp_path):
    net = make().eval()
    nn.init.normal_(next(layer for layer in reversed(list(net.modules())) if isinstance(layer, nn.Linear)).weight)
    state = net.state_dict()
    state[f'{name}.{inside}'][24 + 4:24 + 8] = 0  # values of the second head
    state[f'{name}.{inside.replace("weight", "bias")}'][24 + 4:24 + 8] = 0
    small = compact(net, torch.zeros(1, 3, 16, 16))
    assert small.get_submodule(name).num_heads == 2 and small.state_dict()[f'{name}.{inside}'].shape == (24, 12)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(small(images), net(images), rtol=1e-4, atol=1e-5)
    again = sizes.resize(make(), sizes.difference(net, small))
    again.load_state_dict(small.state_dict(), assign=True)
    torch.testing.assert_close(again.eval()(images), small(images))


@torch.no_grad()
def test_depthwise_channels_go_with_what_feeds_them():
    net = with_zeros(Inverted(), rows=0, elements=0)
    net.expand.weight[:3] = 0
    net.expand.bias[:3], net.norm1.running_mean[:3], net.norm1.bias[:3] = 0, 0, 0  # zeros for the depthwise layer
    net.depthwise.weight[3] = 0
    net.norm2.running_mean[:4], net.norm2.bias[:4] = 0, -1  # zeros behind the activation, whatever the gate
    small = compact(net, torch.zeros(1, 3, 7, 7))
    assert small.depthwise.groups == small.expand.out_channels == 8


def test_nothing_dead_nothing_lost():
    net = with_zeros(Residual(), rows=0, elements=0)
    graph = trace(net, torch.zeros(1, 3, 7, 7))
    assert not any(dead.any() for dead in find_dead(graph, graph.spaces).values())
    assert sizes.difference(net, compact(net, torch.zeros(1, 3, 7, 7))) == {}


# -- what must not be taken for dead ---------------------------------------------------


@torch.no_grad()
def test_what_saturates_on_random_inputs_is_no_constant():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Hardsigmoid(), nn.Linear(6, 3)).eval()
    net[0].bias[0] = -100
    net[2].bias[0] = 100
    folded = fold_constants(net, (torch.zeros(2, 4),))
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in folded.state_dict().items())


class Shared(nn.Module):
    """One weight as a layer and as something else."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.second(self.first(x)) + x @ self.second.weight


@torch.no_grad()
def test_a_weight_with_another_use_is_left_alone():
    net = Shared().eval()
    net.first.weight[0] = 0
    small = compact(net, torch.zeros(2, 4))
    assert torch.equal(small.second.weight, net.second.weight)


class Norm(nn.Module):
    """A layer norm sees a channel that no weight reads."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.second(self.norm(self.first(x)))


@torch.no_grad()
def test_a_norm_over_channels_keeps_them():
    net = Norm().eval()
    net.second.weight[:, 0] = 0
    assert compact(net, torch.zeros(2, 4)).first.out_features == 6


def test_a_difference_is_an_error(monkeypatch):
    net = with_zeros(Residual(), rows=0, elements=0)
    monkeypatch.setattr(compaction, 'find_dead', lambda graph, names: {
        name: torch.arange(graph.spaces[name].size) == 0 for name in names})
    monkeypatch.setattr(compaction, 'shrinkable', lambda graph, names: list(names))
    with pytest.raises(SpaceError, match='differs from the original'):
        compact(net, torch.zeros(1, 3, 7, 7))


# -- networks of others ----------------------------------------------------------------

NETWORKS = {
    'densenet': (lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5), 32),
    'squeezenet': (lambda: torchvision.models.squeezenet1_1(num_classes=5), 48),
    'torchvision transformer': (lambda: torchvision.models.VisionTransformer(16, 8, 1, 2, 16, 32, num_classes=5), 16),
    'test_efficientnet': (lambda: timm.create_model('test_efficientnet', num_classes=5), 64),
}
SLOW = {
    'mobilenet': (lambda: torchvision.models.mobilenet_v3_small(num_classes=5), 64),
    'googlenet': (lambda: torchvision.models.googlenet(num_classes=5, init_weights=False, aux_logits=False), 64),
    'regnet': (lambda: torchvision.models.regnet_y_400mf(num_classes=5), 64),
    **{name: (lambda name=name: timm.create_model(name, num_classes=5), size)
       for name, size in dict(test_resnet=64, test_convnext=64, test_vit=160, test_nfnet=64, test_mambaout=64,
                              test_byobnet=64, mixer_s32_224=224, gmlp_ti16_224=224, levit_128s=224, hrnet_w18_small=64,
                              repvgg_a0=64, ghostnet_050=64, tf_efficientnet_lite0=64).items()},
}


def check_network(make, size):
    net, x = with_zeros(make()), torch.randn(1, 3, size, size)
    small = compact(net, x)
    again = sizes.resize(copy_model(net), sizes.difference(net, small))
    again.load_state_dict(small.state_dict(), assign=True)
    assert difference(net, again, (x,)) < 1e-6
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize('name', NETWORKS)
def test_networks_of_others(name):
    check_network(*NETWORKS[name])


@pytest.mark.slow
@pytest.mark.parametrize('name', SLOW)
def test_more_networks_of_others(name):
    check_network(*SLOW[name])
