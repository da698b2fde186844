"""The residual networks for CIFAR: three stages of basic blocks."""
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.models.backbones.cifar_parts import INITS, NORMS
from mmreuse.registry import MODELS
from mmreuse.utils.names import refuse_other


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
    """Option B of He et al.: a strided convolution and the net's norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str | None, kernel_size: int) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        super().__init__(conv, *([NORMS[norm](out_channels)] if norm in NORMS else []))


#: How a block's input gets its output's size where they differ.
SHORTCUTS = {
    'pad': lambda in_channels, out_channels, stride, norm: ZeroPadShortcut(in_channels, out_channels, stride),
    'conv1x1': partial(ConvShortcut, kernel_size=1),
    'conv3x3': partial(ConvShortcut, kernel_size=3),
}


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: str | None, shortcut: str) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return SHORTCUTS[shortcut](in_channels, out_channels, stride, norm)


def _norm_name(norm: str | None, number: int) -> str:
    return f'{norm or "norm"}{number}'


class CifarBasicBlock(nn.Module):
    """Two 3x3 convolutions, each with a norm, added to the shortcut. Without norm, convolutions have biases."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, shortcut: str = 'pad',
                 norm: str | None = 'bn', bias: bool = False) -> None:
        super().__init__()
        self.norm_names = _norm_name(norm, 1), _norm_name(norm, 2)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=bias)
        self.add_module(self.norm_names[0], NORMS[norm](out_channels) if norm else nn.Identity())
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=bias)
        self.add_module(self.norm_names[1], NORMS[norm](out_channels) if norm else nn.Identity())
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm, shortcut)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / stride, W / stride)."""
        norm1, norm2 = (getattr(self, name) for name in self.norm_names)
        out = self.relu1(norm1(self.conv1(x)))
        out = norm2(self.conv2(out))
        return self.relu2(out + self.shortcut(x))


class FixupBasicBlock(nn.Module):
    """A block without norms that trains all the same.

    Zhang et al., *Fixup Initialization: Residual Learning Without Normalization*, figure 1: scalar biases before the
    convolutions and activations, one scalar factor, and a second convolution that starts at zero.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, shortcut: str = 'pad') -> None:
        super().__init__()
        for name in ('bias1a', 'bias1b', 'bias2a', 'bias2b'):
            self.register_parameter(name, nn.Parameter(torch.zeros(1)))
        self.scale = nn.Parameter(torch.ones(1))
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.shortcut = _shortcut(in_channels, out_channels, stride, None, shortcut)
        self.relu2 = nn.ReLU()

    def init_weights(self, blocks: int) -> None:
        """Section 3 of the paper, for branches of two layers: He's deviation times ``blocks ** -0.5``, and zeros."""
        nn.init.kaiming_normal_(self.conv1.weight, mode='fan_out', nonlinearity='relu')
        self.conv1.weight.data *= blocks ** -0.5
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / stride, W / stride)."""
        x_biased = x + self.bias1a
        shortcut = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(x_biased)
        out = self.relu1(self.conv1(x_biased) + self.bias1b)
        out = self.conv2(out + self.bias2a) * self.scale + self.bias2b
        return self.relu2(out + shortcut)


@MODELS.register_module()
class CifarResNet(BaseBackbone):
    """ResNet-20, 32, 44, 56, 110 for 32x32 images.

    He et al., *Deep Residual Learning for Image Recognition*, section 4.2. Module names
    are those of the widely used ``akamaster/pytorch_resnet_cifar10`` weights (``conv1``,
    ``bn1``, ``layer1.0.conv1``, ..., ``linear``), which load as they are.

    Args:
        depth: 6n + 2: n blocks a stage.
        width: Channels of the first stage; the others have twice and four times as many.
        num_classes: Ends the network in pooling and the classifier ``linear``, as a plain
            network from images to logits (N, num_classes). None: a backbone.
        in_channels: Channels of the image.
        shortcut: Where a block changes the size: ``'pad'`` (option A, without parameters, of the published
            weights), ``'conv1x1'`` (option B) or ``'conv3x3'`` (the networks of *ZipIt!*).
        norm: Behind every convolution: ``'bn'``, ``'ln'`` (over the channels at each pixel), None, or
            ``'fixup'``: the blocks, and the initialisation, of *Fixup* instead. Modules are called after it: ``ln1``.
        bias: Of the convolutions; None: where there is no norm. Without any norm, False takes away the classifier's
            as well.
        init: ``'kaiming'`` (by fan-in), ``'vgg_init'``, ``'lecun_normal'`` or ``'xavier'`` as in :class:`CifarVGG`;
            None: PyTorch's own. Without effect on ``norm='fixup'``.
        out_indices: Stages (0 to 2) whose maps a backbone returns.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: ``depth`` is not 6n + 2, or there is no such stage, shortcut, norm or init.
    """

    def __init__(
        self,
        depth: int = 20,
        width: int = 16,
        num_classes: int | None = None,
        in_channels: int = 3,
        shortcut: str = 'pad',
        norm: str | None = 'bn',
        bias: bool | None = None,
        init: str | None = 'kaiming',
        out_indices: Sequence[int] = (2,),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if depth < 8 or (depth - 2) % 6:
            raise ConfigError(f'CifarResNet: depth={depth} is not 6n + 2. Take 20, 32, 44, 56 or 110.')
        if not all(0 <= index < 3 for index in out_indices):
            raise ConfigError(f'CifarResNet: out_indices={tuple(out_indices)}; the stages are 0, 1 and 2.')
        refuse_other('CifarResNet: shortcut', shortcut, SHORTCUTS)
        refuse_other('CifarResNet: norm', norm, (None, *NORMS, 'fixup'))
        refuse_other('CifarResNet: init', init, (None, *INITS))
        self.depth = depth
        self.num_classes = num_classes
        self.out_indices = tuple(out_indices)
        self.fixup = norm == 'fixup'
        conv_bias = norm is None if bias is None else bias
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=conv_bias)
        if self.fixup:
            self.bias1 = nn.Parameter(torch.zeros(1))
            block = partial(FixupBasicBlock, shortcut=shortcut)
        else:
            self.norm_name = _norm_name(norm, 1)
            self.add_module(self.norm_name, NORMS[norm](width) if norm else nn.Identity())
            block = partial(CifarBasicBlock, shortcut=shortcut, norm=norm, bias=conv_bias)
        self.relu = nn.ReLU()
        blocks = (depth - 2) // 6
        self.layer1 = self._stage(block, width, width, blocks, 1)
        self.layer2 = self._stage(block, width, 2 * width, blocks, 2)
        self.layer3 = self._stage(block, 2 * width, 4 * width, blocks, 2)
        if num_classes is not None:
            if self.fixup:
                self.bias2 = nn.Parameter(torch.zeros(1))
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.linear = nn.Linear(4 * width, num_classes, bias=norm is not None or bias is not False)
        self._initialise(init)

    def _initialise(self, init: str | None) -> None:
        if not self.fixup:
            if init is not None:
                INITS[init](self)
            return
        INITS['kaiming'](self)
        blocks = [module for module in self.modules() if isinstance(module, FixupBasicBlock)]
        for block in blocks:
            block.init_weights(len(blocks))
        if self.num_classes is not None:
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    @staticmethod
    def _stage(block: Callable[..., nn.Module], in_channels: int, out_channels: int, blocks: int,
               stride: int) -> nn.Sequential:
        return nn.Sequential(block(in_channels, out_channels, stride),
                             *[block(out_channels, out_channels) for _ in range(blocks - 1)])

    def train(self, mode: bool = True) -> 'CifarResNet':
        """Set the mode; unlike the base class, hand back the network, as every torch module does."""
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
        x = self.conv1(x)
        x = self.relu(x + self.bias1 if self.fixup else getattr(self, self.norm_name)(x))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)
            maps.append(x)
        if self.num_classes is None:
            return tuple(maps[index] for index in self.out_indices)
        x = self.avgpool(x).flatten(1)
        return self.linear(x + self.bias2 if self.fixup else x)
