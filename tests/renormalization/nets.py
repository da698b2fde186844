"""Small networks of every family, in float64, and what happens in them written out by hand."""
import copy

import torch
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn

from mmreuse.models import CifarResNet
from mmreuse.statistics import ChannelMoments


def chain(norm=None, bias=True, classes=3):
    """Two convolutions and two linear layers."""
    layers = []
    for channels, width in ((3, 6), (6, 8)):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=bias), *([norm(width)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10), nn.ReLU(),
                         nn.Linear(10, classes))


def depthwise():
    """A depthwise, a pointwise and a grouped convolution."""
    return nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.BatchNorm2d(6),
                         nn.ReLU(), nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


NETS = {
    'vgg': chain,
    'vgg-nobias': lambda: chain(bias=False),
    'vgg-bn': lambda: chain(nn.BatchNorm2d, bias=False),
    'vgg-bn-bias': lambda: chain(nn.BatchNorm2d),
    'vgg-ln': lambda: chain(LayerNorm2d),
    'resnet': lambda: CifarResNet(8, 4, num_classes=3, shortcut='conv1x1'),
    'depthwise': depthwise,
}


def make(family, seed=0):
    """A network with random parameters and statistics everywhere."""
    torch.manual_seed(seed)
    net = NETS[family]().double().eval()
    for name, tensor in net.state_dict().items():
        if name.endswith('running_var'):
            nn.init.uniform_(tensor, .5, 2)
        elif tensor.dim() == 1:
            nn.init.normal_(tensor, mean=.3, std=.3)
    return net


def average(first, second, share=.5):
    """The network of averaged parameters and statistics."""
    net, other = copy.deepcopy(first), second.state_dict()
    net.load_state_dict({key: torch.lerp(value, other[key], share) if value.is_floating_point() else value
                         for key, value in first.state_dict().items()})
    return net


def images(samples=32, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 3, 8, 8, generator=generator, dtype=torch.float64) + .5


def state(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


@torch.no_grad()
def outputs(net: nn.Module, x: Tensor, affines=None) -> tuple[Tensor, dict[str, Tensor]]:
    """Run a network with maps behind some layers; hand back its output and theirs, channels last, as rows."""
    seen, handles = {}, []

    def hook(name, layer):
        def run(module, args, output):
            axis = -1 if isinstance(layer, nn.Linear) else 1
            rows = output.movedim(axis, -1)
            if affines is not None:
                rows = rows * affines[name].gain + affines[name].shift
            seen[name] = rows.reshape(-1, rows.shape[-1])
            return rows.movedim(-1, axis)
        return run

    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and (affines is None or name in affines):
            handles.append(layer.register_forward_hook(hook(name, layer)))
    result = net(x)
    for handle in handles:
        handle.remove()
    return result, seen


def moments(rows: Tensor) -> ChannelMoments:
    return ChannelMoments(len(rows), rows.mean(0), rows.var(0, correction=0))
