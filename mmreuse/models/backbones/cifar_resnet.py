"""The residual nets for CIFAR: three stages of basic blocks."""
from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.registry import MODELS
from mmreuse.utils.names import nearest


class ZeroPadShortcut(nn.Module):
    """Option A of He et al.: every second position, new channels filled with zeros on both sides."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        added = out_channels - in_channels
        self.padding = (added // 2, added - added // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        return F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, *self.padding))


class ConvShortcut(nn.Sequential):
    """Option B of He et al.: a strided convolution and batch norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, kernel_size: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels))


#: How a block's input gets its output's size where they differ.
SHORTCUTS = {
    'pad': ZeroPadShortcut,
    'conv1x1': partial(ConvShortcut, kernel_size=1),
    'conv3x3': partial(ConvShortcut, kernel_size=3),
}


class CifarBasicBlock(nn.Module):
    """Two 3x3 convolutions, each with batch norm, added to the shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, shortcut: str = 'pad') -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else SHORTCUTS[shortcut](in_channels, out_channels, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / stride, W / stride)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + self.shortcut(x))


@MODELS.register_module()
class CifarResNet(BaseBackbone):
    """ResNet-20, 32, 44, 56, 110 for 32x32 images.

    He et al., *Deep Residual Learning for Image Recognition*, section 4.2. Module names
    are those of the widely used ``akamaster/pytorch_resnet_cifar10`` weights (``conv1``,
    ``bn1``, ``layer1.0.conv1``, ..., ``linear``), which load as they are.

    Args:
        depth: 6n + 2: n blocks a stage.
        width: Channels of the first stage; the others have twice and four times as many.
        num_classes: Ends the net in pooling and the classifier ``linear``, as a plain
            network from images to logits (N, num_classes). None: a backbone.
        in_channels: Channels of the image.
        shortcut: Where a block changes the size: ``'pad'`` (option A, without parameters, of the published
            weights), ``'conv1x1'`` (option B) or ``'conv3x3'`` (the nets of *ZipIt!*).
        out_indices: Stages (0 to 2) whose maps a backbone returns.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: ``depth`` is not 6n + 2, or there is no such stage or shortcut.
    """

    def __init__(
        self,
        depth: int = 20,
        width: int = 16,
        num_classes: int | None = None,
        in_channels: int = 3,
        shortcut: str = 'pad',
        out_indices: Sequence[int] = (2,),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if depth < 8 or (depth - 2) % 6:
            raise ConfigError(f'CifarResNet: depth={depth} is not 6n + 2. Take 20, 32, 44, 56 or 110.')
        if not all(0 <= index < 3 for index in out_indices):
            raise ConfigError(f'CifarResNet: out_indices={tuple(out_indices)}; the stages are 0, 1 and 2.')
        if shortcut not in SHORTCUTS:
            raise ConfigError(f"CifarResNet: there is no shortcut '{shortcut}'. {nearest(shortcut, SHORTCUTS)}")
        self.depth = depth
        self.num_classes = num_classes
        self.out_indices = tuple(out_indices)
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        blocks = (depth - 2) // 6
        self.layer1 = self._stage(width, width, blocks, 1, shortcut)
        self.layer2 = self._stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = self._stage(2 * width, 4 * width, blocks, 2, shortcut)
        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.linear = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(in_channels: int, out_channels: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
        rest = [CifarBasicBlock(out_channels, out_channels) for _ in range(blocks - 1)]
        return nn.Sequential(CifarBasicBlock(in_channels, out_channels, stride, shortcut), *rest)

    def train(self, mode: bool = True) -> 'CifarResNet':
        """Set the mode; unlike the base class, hand back the net, as every torch module does."""
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute logits, or the maps of the stages in ``out_indices``.

        Args:
            x: (N, in_channels, H, W).

        Returns:
            Tensor | tuple[Tensor, ...]: Logits (N, num_classes); without classes a tuple of
            maps (N, C, H', W').
        """
        x = self.relu(self.bn1(self.conv1(x)))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)
            maps.append(x)
        if self.num_classes is None:
            return tuple(maps[index] for index in self.out_indices)
        return self.linear(self.avgpool(x).flatten(1))
