"""Ten small networks of four kinds of origin, and what the jobs make of them."""
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from mmreuse.merging import merge
from mmreuse.modularization import compact
from mmreuse.networks import create
from mmreuse.pruning import prune, prune_channels

IMAGE = torch.zeros(1, 3, 64, 64)


def own_net(width: int = 8) -> nn.Module:
    """A network of somebody's own code."""
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3),
                         nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


def classifier(depth: int = 20) -> dict:
    """A model config of mmpretrain."""
    return dict(type='mmpretrain.ImageClassifier', backbone=dict(type='CifarResNet', depth=depth),
                neck=dict(type='mmpretrain.GlobalAveragePooling'),
                head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=64))


NETS = {
    **{name: lambda name=name: timm.create_model(name, num_classes=5) for name in (
        'test_resnet', 'test_vit', 'test_efficientnet', 'test_convnext', 'test_byobnet')},
    'resnet18': lambda: models.resnet18(num_classes=5),
    'mobilenet_v3_small': lambda: models.mobilenet_v3_small(num_classes=5),
    'squeezenet': lambda: create('torchvision:squeezenet1_1', num_classes=5),
    'cifar_resnet': lambda: create(classifier()),
    'own': lambda: create('file_nets:own_net', width=8),
}


def build(name: str, seed: int = 0) -> nn.Module:
    """A network with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    return NETS[name]().eval()


def with_zeros(net: nn.Module) -> nn.Module:
    """Half of the rows of every kernel zero."""
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 4:
                parameter[::2] = 0
    return net


def merged(nets: list[nn.Module], images: Tensor, **options) -> nn.Module:
    heads = None if options.get('stop') is not None else 'merge'  # all know the same classes
    return merge(nets, images.split(8), 'permute', inputs=torch.zeros_like(images[:1]), heads=heads, **options)


JOBS = {
    'base': lambda name, images: build(name),
    'prune': lambda name, images: prune(build(name), None, 0.5),
    'prune_channels': lambda name, images: prune_channels(build(name), images[:1], 0.7),
    'compact': lambda name, images: compact(with_zeros(build(name)), images[:1]),
    'merge': lambda name, images: merged([build(name, 0), build(name, 1)], images),
    'merge, stop': lambda name, images: merged([build(name, 0), build(name, 1)], images, stop=0.5),
}
