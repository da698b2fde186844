"""Exact costs of assembled networks, as sums over their pieces.

Parameters of a piece are its own. What it computes depends on the resolution that reaches
it, so that is part of the question. Every piece is counted once per resolution, on the meta
device, where nothing is computed: a whole zoo costs no forward pass.
"""
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.graph import Size
from mmreuse.reassembly.assembly.assembly import ComponentCache, Step
from mmreuse.reassembly.assembly.genotype import Nodes
from mmreuse.reassembly.zoo.structures import Genotype
from mmreuse.reassembly.zoo.zoo import ZooEntry
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.cost.latency import measure_latency


@dataclass(frozen=True)
class Cost:
    """Cost of a piece, and the size of the map it hands on."""
    params: int
    flops: int  # multiply-accumulates for one image
    latency: float  # seconds for one image; 0 where latency is not measured
    size: Size  # of the map that comes out


class CostTable:
    """Costs of stems, blocks, adapters and heads, counted when first asked for.

    Args:
        zoo: Entries by key.
        nodes: Nodes of each network.
        num_classes: Outputs of the head.
        input_size: Height and width of the images.
        in_channels: Channels of the images.
        latency: Time each piece as well, on this machine's CPU. A sum of such times is an estimate;
            the networks of interest should be timed whole.
        repeats: Timed passes of each piece.
    """

    def __init__(self, zoo: Mapping[str, ZooEntry], nodes: Nodes, num_classes: int, input_size: Size = (224, 224),
                 in_channels: int = 3, latency: bool = False, repeats: int = 5) -> None:
        if num_classes < 1 or in_channels < 1 or min(input_size) < 1:
            raise ConfigError(f'costs: num_classes = {num_classes}, in_channels = {in_channels} and input_size = '
                              f'{tuple(input_size)} must be positive')
        self.input_size: Size = tuple(input_size)
        self.latency, self.repeats = latency, repeats
        device = 'cpu' if latency else 'meta'
        self.pieces = ComponentCache(zoo, nodes, num_classes, in_channels, pretrained=False, device=device)
        self._known: dict[tuple, Cost] = {}

    def of(self, step: Step, size: Size) -> Cost:
        """Cost of one of :attr:`pieces` on a map of ``size``."""
        if (step.key, size) not in self._known:
            self._known[step.key, size] = self._count(step, size)
        return self._known[step.key, size]

    def total(self, genotype: Genotype) -> Cost:
        """Cost of the whole classifier; its ``size`` is that of the last map."""
        costs, size = [], self.input_size
        for step in self.pieces.steps(genotype):
            costs.append(self.of(step, size))
            size = costs[-1].size
        return Cost(sum(c.params for c in costs), sum(c.flops for c in costs), sum(c.latency for c in costs), size)

    def _count(self, step: Step, size: Size) -> Cost:
        x = torch.zeros(1, *step.in_shape(size), device=self.pieces.device)
        macs = count_macs(step, (x, size))
        with torch.no_grad():
            _, out = step(x, size)
        latency = 0.0
        if self.latency:
            latency = measure_latency({'piece': _AtSize(step, size)}, x, repeats=self.repeats)['piece'].median
        return Cost(count_params(step), macs, latency, tuple(out))


class _AtSize(nn.Module):
    """A piece at a known size, as a module of one input."""

    def __init__(self, step: Step, size: Size) -> None:
        super().__init__()
        self.step, self.size = step, size

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x, self.size)[0]
