import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier
from PIL import Image

from mmreuse.errors import ConfigError
from mmreuse.graph import trace
from mmreuse.models import CifarResNet
from mmreuse.reassembly.zoo.entry import IMAGENET_MEAN, IMAGENET_STD
from mmreuse.reassembly.zoo.zoo import build_member, parse_zoo
from mmreuse.utils.cost.complexity import count_macs, count_params


@pytest.mark.parametrize('depth, params', [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)])
def test_parameters_are_those_of_the_published_weights(depth, params):
    with torch.device('meta'):
        assert count_params(CifarResNet(depth, num_classes=10)) == params


def test_shortcut_subsamples_and_pads_channels_on_both_sides():
    net = CifarResNet(8, width=4, num_classes=10)
    shortcut = net.layer2[0].shortcut
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(shortcut(x), F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))


def test_is_a_backbone_without_classes():
    classifier = ImageClassifier(
        backbone=dict(type='mmreuse.CifarResNet', depth=8, width=4),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=16))
    assert classifier(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    maps = CifarResNet(8, width=4, out_indices=(0, 2))(torch.randn(2, 3, 20, 32))
    assert [tuple(x.shape) for x in maps] == [(2, 4, 20, 32), (2, 16, 5, 8)]


@pytest.mark.parametrize('options', [dict(depth=18), dict(depth=2), dict(out_indices=(3,))])
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match='CifarResNet'):
        CifarResNet(**options)


@pytest.mark.data
def test_resnet20_classifies_cifar10_jpeg(real_data):
    weights = real_data('weights/cifar10_resnet20.safetensors')
    folder = real_data('cifar10_jpeg/test')
    entry, = parse_zoo([dict(key='r20', library='local', model='CifarResNet', args=dict(num_classes=10),
                             weights=str(weights), input_size=32)]).values()
    model = build_member(entry)
    classes = sorted(path.name for path in folder.iterdir())
    files = sorted(folder.glob('*/*'))[::20]
    pixels = torch.from_numpy(np.stack([np.array(Image.open(file).convert('RGB')) for file in files]))
    images = pixels.permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    labels = torch.tensor([classes.index(file.parent.name) for file in files])
    with torch.no_grad():
        accuracy = (model(images).argmax(1) == labels).float().mean()
    # 80.0 % of these 500, 81 % of all: the weights were trained on the uncompressed pixels.
    assert 0.78 < accuracy < 0.84


@pytest.mark.parametrize(('shortcut', 'width', 'gmacs'), [('conv3x3', 64, 0.681), ('conv3x3', 128, 2.722)])
def test_published_cost_of_3x3_shortcuts(shortcut: str, width: int, gmacs: float) -> None:
    with torch.device('meta'):
        net = CifarResNet(20, width, num_classes=512, shortcut=shortcut)
    # Published without norms.
    assert count_macs(net, torch.zeros(1, 3, 32, 32, device='meta')) / 1e9 == pytest.approx(gmacs, rel=4e-3)


@pytest.mark.parametrize('options, params', [
    # 270 256 weights of convolutions with 1x1 shortcuts, 640 + 10 of the classifier, and
    (dict(), 270_906 + 2 * (688 + 96)),
    (dict(norm='ln'), 270_906 + 2 * (688 + 96)),
    (dict(norm=None), 270_906 + 688),
    (dict(norm=None, bias=False), 270_906 - 10),
    (dict(norm='fixup'), 270_906 + 9 * 5 + 2)])
def test_variants_have_the_published_parameters(options, params):
    with torch.device('meta'):
        assert count_params(CifarResNet(20, num_classes=10, shortcut='conv1x1', **options)) == params


def test_fixup_blocks_start_as_the_identity():
    net = CifarResNet(8, width=4, norm='fixup', num_classes=10)
    x = torch.rand(2, 4, 8, 8)
    assert torch.equal(net.layer1(x), x)
    assert not net(torch.randn(2, 3, 8, 8)).any()
    assert net.layer1[0].conv1.weight.std().item() == pytest.approx((2 / (9 * 4)) ** 0.5 * 3 ** -0.5, rel=0.2)


@pytest.mark.parametrize('norm', ['bn', 'ln', None])
@pytest.mark.parametrize('bias', [None, False])
def test_spaces_of_variants_can_be_permuted(norm, bias):
    net = CifarResNet(8, width=4, num_classes=5, shortcut='conv1x1', norm=norm, bias=bias).eval()
    graph = trace(net, torch.zeros(1, 3, 16, 16))
    graph.verify()
    # One stream and one inner space a stage.
    assert len(graph.spaces) == 6


@pytest.mark.parametrize('options', [dict(norm='batch'), dict(init='he'), dict(shortcut='conv3')])
def test_unknown_options_are_named(options):
    with pytest.raises(ConfigError, match='CifarResNet: there is no (norm|init|shortcut)'):
        CifarResNet(20, **options)
