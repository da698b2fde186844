"""The convolutional stem in front of an assembled network's first block."""
from torch import nn

from mmreuse.utils.names import refuse_other

STEMS = ('imagenet', 'cifar')


def conv_stem(in_channels: int, out_channels: int, kind: str = 'imagenet') -> nn.Sequential:
    """Convolution, batch norm, ReLU; images (N, C, H, W) to maps.

    Args:
        in_channels: Channels of the images.
        out_channels: Channels of the first block's input.
        kind: 'imagenet' is the published stem, 7x7 with stride 2 and a 3x3 max pooling with stride 2
            behind; 'cifar' one 3x3 convolution that keeps the resolution of small images.

    Raises:
        ConfigError: Unknown ``kind``.
    """
    refuse_other('stem', kind, STEMS)
    if kind == 'cifar':
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU())
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 7, 2, 3, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1))
