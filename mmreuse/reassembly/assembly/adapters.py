"""Stitching layers between blocks of different networks (Yang et al., *Deep Model Reassembly*, section 3.3)."""
from dataclasses import asdict
from typing import Literal, get_args, get_type_hints

from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import Layout, Size
from mmreuse.reassembly.zoo.structures import Adapter, Node
from mmreuse.utils.names import refuse_other

MODES = get_args(get_type_hints(Adapter)['mode'])


def feature_kind(layout: Layout) -> Literal['cnn', 'vit']:
    """Maps with channels first are 'cnn' features; tokens, and maps with channels last (Swin), are 'vit' features."""
    return 'cnn' if layout == 'nchw' else 'vit'


def choose_adapter(out_node: Node, in_node: Node, stride: int = 1, linear: bool = False) -> Adapter:
    """Return the stitching layer that follows from what it joins.

    Two 'vit' features are joined by one linear layer, anything else by one convolution.

    Args:
        out_node: Last node of the block before.
        in_node: First node of the block behind.
        stride: Downsampling of the convolution; must be 1 between tokens.
        linear: Neither norm nor activation, but a bias.

    Returns:
        Adapter: Its channels are those of the two nodes.

    Raises:
        ConfigError: A stride between tokens, which have no convolution to stride.
    """
    left, right = (feature_kind(layout) for layout in (out_node.out_layout, in_node.in_layout))
    tokens = left == right == 'vit'
    if tokens and stride != 1:
        raise ConfigError(f'stride={stride} between the tokens of {out_node.name} and {in_node.name}: '
                          f'a vit2vit adapter has no convolution. Use stride=1.')
    return Adapter(
        mode=f'{left}2{right}',
        in_channels=out_node.out_channels,
        out_channels=in_node.in_channels,
        num_conv=0 if tokens else 1,
        num_fc=1 if tokens else 0,
        stride=stride,
        linear=linear)


def to_layout(x: Tensor, size: Size, source: Layout, target: Layout) -> Tensor:
    """Rearrange a feature tensor; positions are in row-major order in all layouts.

    Args:
        x: Feature tensor in layout ``source``.
        size: Height and width of the map.
        source: Layout of ``x``.
        target: Layout wanted.

    Returns:
        Tensor: The same numbers in layout ``target``.

    Raises:
        DataError: The number of tokens is not height times width.
    """
    if source == target:
        return x
    if source == 'nlc':
        height, width = size
        if x.shape[1] != height * width:
            raise DataError(f'{x.shape[1]} tokens are not a {height} x {width} map. A class token is not part of '
                            f'a map; drop it before the tokens become one.')
        x = x.unflatten(1, size)
    elif source == 'nchw':
        x = x.permute(0, 2, 3, 1)
    # Now (N, H, W, C).
    if target == 'nlc':
        return x.flatten(1, 2)
    return x.permute(0, 3, 1, 2).contiguous() if target == 'nchw' else x.contiguous()


class StitchingLayer(nn.Module):
    """Norm, linear map over channels, LeakyReLU(0.1).

    With convolutions: BatchNorm2d, Conv2d with kernel = stride and no padding, further
    1x1 convolutions, LeakyReLU. With linear layers: LayerNorm, Linear, ..., LeakyReLU.
    No layer has a bias. Exactly one of ``num_conv`` and ``num_fc`` is positive. A linear one is a single convolution
    or linear layer with a bias (Pan et al., *Stitched ViTs are Flexible Vision Backbones*, 2023).

    Args:
        mode: 'cnn2cnn', 'cnn2vit', 'vit2cnn' or 'vit2vit'; linear layers need the last.
        in_channels: Channels of the block before.
        out_channels: Channels that the block behind expects.
        num_conv: Number of convolutions.
        num_fc: Number of linear layers.
        stride: Kernel and stride of the first convolution.
        linear: Neither norm nor activation, but a bias.

    Raises:
        ConfigError: An impossible combination.
    """

    def __init__(
        self,
        mode: str,
        in_channels: int,
        out_channels: int,
        num_conv: int = 1,
        num_fc: int = 0,
        stride: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.adapter = Adapter(mode, in_channels, out_channels, num_conv, num_fc, stride, linear)
        _check(self.adapter)
        if linear:
            self.layers = nn.Sequential(nn.Linear(in_channels, out_channels) if num_fc else nn.Conv2d(
                in_channels, out_channels, stride, stride))
            return
        widths = [in_channels] + [out_channels] * (num_conv + num_fc)
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        if num_fc:
            layers = [nn.LayerNorm(in_channels), *(nn.Linear(i, o, bias=False) for i, o in pairs)]
        else:
            kernels = [stride] + [1] * (num_conv - 1)
            layers = [nn.BatchNorm2d(in_channels), *(
                nn.Conv2d(i, o, k, k, bias=False) for (i, o), k in zip(pairs, kernels, strict=True))]
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(0.1))

    @property
    def work_layout(self) -> Layout:
        """Layout in which the layers compute."""
        return 'nlc' if self.adapter.num_fc else 'nchw'

    def forward(self, x: Tensor, size: Size, source: Layout, target: Layout) -> tuple[Tensor, Size]:
        """Stitch.

        Args:
            x: Features of the block before, with ``in_channels`` channels, in layout ``source``.
            size: Height and width of their map; tokens that are no map (with a class
                token) pass a linear adapter as they are.
            source: Layout of ``x``.
            target: Layout the block behind expects.

        Returns:
            tuple: Features with ``out_channels`` channels in layout ``target``, and their map's size.

        Raises:
            DataError: Tokens that should become a map are no map, or the map is smaller than the stride.
        """
        x = to_layout(x, size, source, self.work_layout)
        if self.work_layout == 'nchw':
            if min(x.shape[-2:]) < self.adapter.stride:
                raise DataError(f'a map of {tuple(x.shape[-2:])} cannot pass an adapter of stride '
                                f'{self.adapter.stride}. Use a larger image or stride 1 here.')
            x = self.layers(x)
            size = tuple(x.shape[-2:])
        else:
            x = self.layers(x)
        return to_layout(x, size, self.work_layout, target), size

    def extra_repr(self) -> str:
        return self.adapter.mode


def hand_over(x: Tensor, size: Size, source: Layout, target: Layout,
              adapter: StitchingLayer | None) -> tuple[Tensor, Size]:
    """Bring features into the layout of the next block, through the stitching layer in front of it if there is one.

    Returns:
        tuple: Features in layout ``target``, and their map's size.
    """
    return (to_layout(x, size, source, target), size) if adapter is None else adapter(x, size, source, target)


def build_adapter(adapter: Adapter | dict) -> StitchingLayer:
    """Make the stitching layer from its description.

    Args:
        adapter: An :class:`Adapter`, or a dict of its fields; the published configs'
            ``input_channel`` and ``output_channel`` are understood.

    Raises:
        ConfigError: Unknown, missing or impossible fields.
    """
    fields = asdict(adapter) if isinstance(adapter, Adapter) else dict(adapter)
    for published, name in (('input_channel', 'in_channels'), ('output_channel', 'out_channels')):
        if published in fields:
            fields[name] = fields.pop(published)
    if fields.get('num_fc') and 'num_conv' not in fields:
        fields['num_conv'] = 0
    try:
        return StitchingLayer(**fields)
    except TypeError as error:
        known = ', '.join(get_type_hints(Adapter))
        raise ConfigError(f'adapter {fields}: {error}. An adapter has the fields {known}.') from error


def _check(adapter: Adapter) -> None:
    refuse_other('adapter: mode', adapter.mode, MODES)
    if (adapter.num_conv > 0) == (adapter.num_fc > 0):
        raise ConfigError(f'{adapter}: exactly one of num_conv and num_fc must be positive.')
    if adapter.num_fc and (adapter.mode != 'vit2vit' or adapter.stride != 1):
        raise ConfigError(f'{adapter}: linear layers join tokens to tokens without a stride; use num_conv.')
    if adapter.num_conv and adapter.mode == 'vit2vit':
        raise ConfigError(f'{adapter}: tokens are joined to tokens by linear layers; use num_fc.')
    if adapter.linear and adapter.num_conv + adapter.num_fc != 1:
        raise ConfigError(f'{adapter}: a linear stitching layer is one layer; more of them compute no more.')
    if min(adapter.in_channels, adapter.out_channels, adapter.stride) < 1:
        raise ConfigError(f'{adapter}: channels and stride must be positive.')
