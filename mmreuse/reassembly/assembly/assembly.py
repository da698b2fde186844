"""Assembled networks as a row of pieces, which candidates of a search share.

The weights of what is not pretrained (stem, adapters, head) are drawn from a seed and from
what the piece is, so a genotype always becomes the same network, whatever was built before, and
two candidates that begin alike compute alike.
"""
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.graph import Layout, Size, frozen_random
from mmreuse.reassembly.assembly.adapters import build_adapter, to_layout
from mmreuse.reassembly.assembly.genotype import Nodes
from mmreuse.reassembly.assembly.stem import conv_stem
from mmreuse.reassembly.partition.blocks import extract_block
from mmreuse.reassembly.zoo.structures import Adapter, Block, Genotype
from mmreuse.reassembly.zoo.zoo import ZooEntry, entry_to_dict, find_entry
from mmreuse.utils.files.byte_cache import ByteCache

#: Bytes of weights that are kept.
KEPT_PIECES = 4 << 30


class Step(nn.Module):
    """One piece of an assembled network: takes features and the size of their map, hands on both.

    Args:
        key: What the piece is; pieces of equal keys are equal.
        module: What computes.
        channels: Channels it takes.
        layout: Layout it takes.
    """

    def __init__(self, key: tuple, module: nn.Module, channels: int, layout: Layout) -> None:
        super().__init__()
        self.key, self.module, self.channels, self.layout = key, module, channels, layout

    def in_shape(self, size: Size) -> tuple[int, ...]:
        """Return the shape of one image's features on a map of ``size``."""
        if self.layout == 'nlc':
            return size[0] * size[1], self.channels
        return (*size, self.channels) if self.layout == 'nhwc' else (self.channels, *size)

    def forward(self, x: Tensor, size: Size) -> tuple[Tensor, Size]:
        return self.module(x, size)


class StemStep(Step):
    """Images to maps."""

    def forward(self, x: Tensor, size: Size) -> tuple[Tensor, Size]:
        x = self.module(x)
        return x, tuple(x.shape[2:])


class AdapterStep(Step):
    """A stitching layer that knows the layouts on its sides."""

    def __init__(self, key: tuple, module: nn.Module, channels: int, layout: Layout, target: Layout) -> None:
        super().__init__(key, module, channels, layout)
        self.target: Layout = target

    def forward(self, x: Tensor, size: Size) -> tuple[Tensor, Size]:
        return self.module(x, size, self.layout, self.target)


class HeadStep(Step):
    """Global average pooling and the linear classifier: logits (N, classes)."""

    def forward(self, x: Tensor, size: Size) -> tuple[Tensor, Size]:
        x = to_layout(x, size, self.layout, 'nchw')
        return self.module(x.mean((2, 3))), size


class AssembledNet(nn.Module):
    """A classifier over shared pieces: ``model(images)`` are logits (N, classes)."""

    def __init__(self, steps: list[Step]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, images: Tensor) -> Tensor:
        x, size = images, tuple(images.shape[2:])
        for step in self.steps:
            x, size = step(x, size)
        return x


class ComponentCache:
    """Builds pieces, keeping those used last.

    Args:
        zoo: Entries by key.
        nodes: Nodes of each network.
        num_classes: Outputs of the head.
        in_channels: Channels of the images.
        pretrained: Blocks carry their weights; False for counting and timing.
        device: Where the pieces live; 'meta' for counting.
        seed: Of all weights that are not pretrained.
        memory: Bytes of weights to keep.
    """

    def __init__(self, zoo: Mapping[str, ZooEntry], nodes: Nodes, num_classes: int, in_channels: int = 3,
                 pretrained: bool = True, device: torch.device | str = 'cpu', seed: int = 0,
                 memory: int = KEPT_PIECES) -> None:
        self.zoo, self.nodes, self.num_classes, self.in_channels = zoo, nodes, num_classes, in_channels
        self.pretrained, self.device, self.seed = pretrained, torch.device(device), seed
        self.kept: ByteCache[Step] = ByteCache(memory)

    def facts(self) -> dict[str, Any]:
        """Return everything that a network depends on beside its genotype."""
        return dict(seed=self.seed, zoo={key: entry_to_dict(entry) for key, entry in self.zoo.items()},
                    num_classes=self.num_classes, pretrained=self.pretrained)

    def stem(self, width: int, kind: str = 'imagenet') -> Step:
        """Return the stem of ``width`` channels."""
        key = ('stem', kind, self.in_channels, width)
        return self._piece(
            key, lambda: StemStep(key, conv_stem(self.in_channels, width, kind), self.in_channels, 'nchw'))

    def block(self, block: Block) -> Step:
        """``block``, with its own weights where ``pretrained``."""
        key = ('block', block.model, block.first, block.last)
        return self._piece(key, lambda: self._extract(key, block))

    def adapter(self, adapter: Adapter, source: Layout, target: Layout) -> Step:
        """``adapter`` between features of two layouts."""
        key = ('adapter', adapter, source, target)
        return self._piece(
            key, lambda: AdapterStep(key, build_adapter(adapter), adapter.in_channels, source, target))

    def head(self, channels: int, layout: Layout) -> Step:
        """Return the classifier on ``channels`` channels."""
        key = ('head', channels, layout, self.num_classes)
        return self._piece(key, lambda: HeadStep(key, nn.Linear(channels, self.num_classes), channels, layout))

    def steps(self, genotype: Genotype) -> list[Step]:
        """All pieces of ``genotype``, in order: stem, [base adapter,] block, adapter, block, ..., head."""
        steps = [self.stem(genotype.base_channels, genotype.stem)]
        layout, channels = 'nchw', genotype.base_channels
        for adapter, block in zip((genotype.base_adapter, *genotype.adapters), genotype.blocks, strict=True):
            first, last = (self.nodes[block.model][index] for index in (block.first, block.last))
            if adapter is not None:
                steps.append(self.adapter(adapter, layout, first.in_layout))
            steps.append(self.block(block))
            layout, channels = last.out_layout, last.out_channels
        return [*steps, self.head(channels, layout)]

    def build(self, genotype: Genotype) -> AssembledNet:
        """Return the network of ``genotype``; it shares its pieces with the other networks of this cache."""
        return AssembledNet(self.steps(genotype))

    def _extract(self, key: tuple, block: Block) -> Step:
        nodes = self.nodes[block.model]
        module = extract_block(find_entry(self.zoo, block.model), nodes[block.first].name, nodes[block.last].name,
                               pretrained=self.pretrained, empty=self.device.type == 'meta')
        return Step(key, module, nodes[block.first].in_channels, nodes[block.first].in_layout)

    def _piece(self, key: tuple, make: Callable[[], Step]) -> Step:
        if key in self.kept:
            return self.kept[key]
        digest = hashlib.sha256(repr((self.seed, key)).encode()).digest()
        with frozen_random(int.from_bytes(digest[:7], 'big')):
            step = make().to(self.device).eval()
        self.kept.keep(key, step, sum(p.nbytes for p in step.parameters() if not p.is_meta))
        return step
