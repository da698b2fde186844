"""Nodes derived from one run agree with the published lists of every family, without a list of our own."""
from collections.abc import Callable
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from mmreuse.errors import SpaceError
from mmreuse.graph import sequence_of_nodes
from mmreuse.graph.program.cut import endpoints, places, resolve
from mmreuse.graph.program.recording import record
from mmreuse.models.backbones.cifar_resnet import CifarResNet

# Counts are those of Yang et al., Deep Model Reassembly (2022), where the family is in its zoo or its tables, and
# otherwise the number of residual (dense, Fire, ...) blocks of the architecture with its down-sampling layers.
TORCHVISION = {
    'resnet18': 8, 'resnet50': 16, 'resnet101': 33, 'resnet152': 50, 'resnext50_32x4d': 16,
    'regnet_y_800mf': 14, 'regnet_y_1_6gf': 27, 'regnet_y_3_2gf': 21, 'regnet_y_8gf': 17, 'regnet_y_16gf': 18,
    'regnet_y_32gf': 20, 'efficientnet_b0': 16, 'efficientnet_b7': 55, 'mobilenet_v2': 17, 'mobilenet_v3_large': 15,
    'mnasnet1_0': 16, 'shufflenet_v2_x1_0': 16, 'squeezenet1_1': 8, 'vgg11_bn': 8, 'vgg16': 13, 'alexnet': 5,
    'convnext_tiny': 18 + 3, 'densenet121': 4 + 3, 'swin_t': 15, 'swin_s': 27, 'vit_b_16': 12, 'inception_v3': 11,
}
TIMM = {
    'resnet50': 16, 'resnext50_32x4d': 16, 'mobilenetv3_large_100': 16, 'mobilenetv3_small_100': 12,
    'mobilenetv2_100': 17, 'tf_efficientnet_lite0': 16, 'tf_efficientnet_lite1': 21, 'tf_efficientnet_lite2': 21,
    'efficientnet_b0': 16, 'vit_tiny_patch16_224': 12, 'vit_large_patch16_224': 24,
    'deit_base_distilled_patch16_224': 12, 'beit_base_patch16_224': 12, 'swin_tiny_patch4_window7_224': 15,
    'convnext_tiny': 18 + 3, 'repvgg_a0': 21, 'vgg11_bn': 8, 'mixer_s16_224': 8, 'seresnet50': 16, 'skresnet18': 8,
    'densenet121': 4 + 3, 'cait_xxs24_224': 24,
}
MMPRETRAIN = {
    'swin tiny': (dict(type='SwinTransformer', arch='tiny'), 15),
    'swin small': (dict(type='SwinTransformer', arch='small'), 27),
    'vit': (dict(type='VisionTransformer', arch='deit-t'), 12),
    'efficientnet': (dict(type='EfficientNet', arch='b0'), 16),
    'shufflenet': (dict(type='ShuffleNetV2', widen_factor=0.5), 16),
    'resnet': (dict(type='ResNet', depth=18), 8),
    'vgg': (dict(type='VGG', depth=11, norm_cfg=dict(type='BN')), 8),
}


def on_meta(build: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    with torch.device('meta'):
        model = build()
        model.eval()
        return model, torch.zeros(1, 3, 224, 224)


def torchvision_model(name: str) -> nn.Module:
    models = pytest.importorskip('torchvision.models')

    def regnet(params: object, weights: object, progress: bool, **options: object) -> nn.Module:
        with torch.device('meta'):
            return models.RegNet(params, norm_layer=nn.BatchNorm2d, **options)

    if name.startswith('regnet'):  # its widths are computed with tensors, which must not be on the meta device
        with mock.patch.object(models.regnet, '_regnet', regnet), torch.device('cpu'):
            return getattr(models, name)()
    return getattr(models, name)(**({'init_weights': False} if name == 'inception_v3' else {}))


@pytest.mark.parametrize('name', TORCHVISION)
def test_counts_of_torchvision_models(name: str) -> None:
    assert len(sequence_of_nodes(*on_meta(lambda: torchvision_model(name)))) == TORCHVISION[name]


@pytest.mark.parametrize('name', TIMM)
def test_counts_of_timm_models(name: str) -> None:
    timm = pytest.importorskip('timm')
    assert len(sequence_of_nodes(*on_meta(lambda: timm.create_model(name)))) == TIMM[name]


@pytest.mark.parametrize('name', MMPRETRAIN)
def test_counts_of_mmpretrain_models(name: str) -> None:
    models = pytest.importorskip('mmpretrain.models', reason='mmpretrain is not installed')
    config, count = dict(MMPRETRAIN[name][0]), MMPRETRAIN[name][1]
    model = getattr(models, config.pop('type'))(**config)
    assert len(sequence_of_nodes(model, torch.zeros(1, 3, 224, 224))) == count


@pytest.mark.parametrize('depth', [20, 56])
def test_counts_of_cifar_resnets(depth: int) -> None:
    nodes = sequence_of_nodes(CifarResNet(depth, width=4, num_classes=10), torch.zeros(1, 3, 32, 32))
    assert nodes == tuple(f'layer{stage}.{i}' for stage in (1, 2, 3) for i in range((depth - 2) // 6))


def test_names_follow_execution_and_templates() -> None:
    timm = pytest.importorskip('timm')
    regnet = sequence_of_nodes(*on_meta(lambda: torchvision_model('regnet_y_16gf')))
    assert regnet[6:17] == tuple(f'trunk_output.block3.block3-{i}' for i in range(11))
    assert sequence_of_nodes(*on_meta(lambda: timm.create_model('vit_tiny_patch16_224'))) \
        == tuple(f'blocks.{i}' for i in range(12))
    large = sequence_of_nodes(*on_meta(lambda: timm.create_model('mobilenetv3_large_100')))
    assert large[0] == 'blocks.0.0' and large[-1] == 'blocks.6.0'
    assert sequence_of_nodes(*on_meta(lambda: torchvision_model('efficientnet_b0')))[:2] \
        == ('features.1.0', 'features.2.0')
    assert sequence_of_nodes(*on_meta(lambda: torchvision_model('vgg11_bn')))[:2] == ('features.0:2', 'features.4:6')


def test_down_sampling_of_swin_is_a_node_of_its_own() -> None:
    models = pytest.importorskip('mmpretrain.models', reason='mmpretrain is not installed')
    model = models.SwinTransformer(arch='tiny', img_size=64, window_size=2)
    nodes = sequence_of_nodes(model, torch.zeros(1, 3, 64, 64))
    assert nodes[:4] == ('stages.0.blocks.0', 'stages.0.blocks.1', 'stages.0.downsample', 'stages.1.blocks.0')
    assert [name for name in nodes if 'downsample' in name] == [f'stages.{i}.downsample' for i in range(3)]


@pytest.mark.parametrize('name', ['resnet18', 'swin_t', 'densenet121', 'squeezenet1_1', 'vgg11_bn'])
def test_one_tensor_crosses_behind_every_node(name: str) -> None:
    model, x = on_meta(lambda: torchvision_model(name))
    crossings = {call.key for calls in places(record(model, x)).values() for call in calls}
    assert {endpoints(node)[1] for node in sequence_of_nodes(model, x)} <= crossings


class Block(nn.Module):
    """A residual block; ``stride`` 2 has no shortcut, ``gate`` multiplies."""

    def __init__(self, width: int, stride: int = 1, gate: bool = False) -> None:
        super().__init__()
        self.conv, self.stride = nn.Conv2d(width, width, 3, stride, 1), stride
        self.gate = Gate(width) if gate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.gate(self.conv(x))
        return y if self.stride > 1 else x + y


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.act = nn.Linear(width, width), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.act(self.linear(x.mean((2, 3))))[:, :, None, None]


def names_of(model: nn.Module, *shape: int) -> tuple[str, ...]:
    return sequence_of_nodes(model, torch.zeros(2, *shape))


def test_a_block_without_shortcut_counts_like_its_siblings() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(Block(4), Block(4, 2, gate=True), nn.BatchNorm2d(4),
                                                            Block(4)), nn.Flatten(), nn.Linear(196, 2))
    assert names_of(model, 3, 16, 16) == ('1.0', '1.1', '1.3'), 'the gate inside 1.1 and the norm are no nodes'


def test_layers_with_a_matrix_between_blocks_are_nodes_and_pools_are_not() -> None:
    model = nn.Sequential(Block(3), nn.MaxPool2d(2), Block(3), nn.Conv2d(3, 5, 1), Block(5), nn.Conv2d(5, 2, 1))
    assert names_of(model, 3, 16, 16) == ('0', '2', '3', '4')


def test_nets_without_branches_fall_back_to_their_layers() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    assert names_of(model, 4) == ('0:1', '2:3'), 'the classifier is none'
    assert endpoints('0:1') == ('0', '1') and endpoints('features.4:6') == ('features.4', 'features.6')
    with pytest.raises(SpaceError, match='Sequential has no nodes'):
        names_of(nn.Sequential(nn.Linear(4, 2)), 4)


def test_inputs_of_a_graph_are_used() -> None:
    graph = mock.Mock(spec=['model', 'inputs'], model=nn.Sequential(Block(3), Block(3)), inputs=torch.zeros(1, 3, 8, 8))
    assert sequence_of_nodes(graph) == ('0', '1')
    assert resolve(graph, None) == (graph.model, graph.inputs)
