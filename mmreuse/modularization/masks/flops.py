"""Weights and arithmetic of a network that masks keep."""
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmreuse.modularization.masks.layers import LayerCall, LayerWatch, parameter_names
from mmreuse.utils.cost.complexity import counting
from mmreuse.utils.tables import Rows, Tabular

#: FLOPs per element of what a norm in evaluation mode computes, as fvcore counts them.
_NORMS = dict(batch_norm=2, layer_norm=5, group_norm=5, instance_norm=5)


@dataclass(frozen=True)
class Uses:
    """Uses of each weight in a forward pass; counted once, valid for any masks."""
    positions: dict[str, int]  # by name of the weight of a convolution or linear layer
    biases: tuple[str, ...]
    norms: int  # FLOPs
    pools: int  # of adaptive average pooling
    products: int  # of activations with each other, as in attention, and of all else


@dataclass(frozen=True)
class LayerCost:
    """Cost of one weight."""
    weights: int
    kept: int
    dense: int  # multiply-adds
    sparse: int


@dataclass(frozen=True)
class Cost(Tabular):
    """Weights and FLOPs of a network; one multiply-add is one FLOP."""
    weights: int  # of convolutions and linear layers with their biases; where there are masks, of those that have one
    kept: int
    dense: int
    sparse: int
    layers: dict[str, LayerCost] = field(repr=False)

    @property
    def ratio(self) -> float:
        """Return the share of the weights that is kept."""
        return self.kept / self.weights

    def rows(self) -> Rows:
        """Return one row per layer, and one for the whole."""
        return [dict(layer=name, weights=each.weights, kept=each.kept, dense_flops=each.dense, sparse_flops=each.sparse)
                for name, each in [*self.layers.items(), ('all', self)]]


class _Shares(LayerWatch):
    """Share out what a counter counts among weights, norms, pooling and products.

    Args:
        model: The network.
        counter: Counts what runs in this block.
    """

    def __init__(self, model: nn.Module, counter: FlopCounterMode) -> None:
        super().__init__()
        self.names = parameter_names(model)
        self.counter = counter
        self.uses: Counter[str] = Counter()
        self.biases: dict[str, None] = {}
        self.norms = self.pools = self.products = self.before = 0

    def name_of(self, tensor: Tensor | None) -> str | None:
        """Name of a parameter, also of a part of a fused projection, which is a view of it."""
        return self.names.get(id(tensor)) or self.names.get(id(getattr(tensor, '_base', None)))

    def new(self) -> int:
        """Return the multiply-adds since the last call."""
        before, self.before = self.before, self.counter.get_total_flops() // 2
        return self.before - before

    def see_layer(self, call: LayerCall) -> None:
        macs = self.new()
        key, bias = (self.name_of(call.arguments.get(name)) for name in ('weight', 'bias'))
        if key is not None:
            self.uses[key] += macs
        if bias is not None:
            self.biases[bias] = None

    def see_other(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        macs = self.new()
        if name in _NORMS:
            self.norms += _NORMS[name] * output.numel()
        elif name.startswith('adaptive_avg_pool'):
            self.pools += (args[0] if args else kwargs['input']).numel()
        else:
            self.products += macs


def count_uses(model: nn.Module, inputs: Tensor) -> Uses:
    """Run a network once and share out its operations.

    :func:`~mmreuse.utils.cost.complexity.counting` counts. Norms and pooling are counted otherwise here than by
    :func:`~mmreuse.utils.cost.complexity.count_macs`: the published FLOPs of modules are those of fvcore.

    Args:
        model: Any, also on the meta device.
        inputs: What it runs on; counts are for the whole batch.
    """
    with counting(model) as counter, _Shares(model, counter) as shares:
        model(inputs)
    parameters = dict(model.named_parameters())
    return Uses({key: count // parameters[key].numel() for key, count in shares.uses.items()},
                tuple(shares.biases), shares.norms, shares.pools, shares.products)


def measure_cost(model: nn.Module, uses: Uses, masks: Mapping[str, Tensor] | None = None) -> Cost:
    """Return the weights and FLOPs of a network.

    What fvcore counts: of convolutions and linear layers each weight at every position, norms, adaptive average
    pooling, products of activations. Sparse FLOPs leave out weights that are zero, and nothing else: constants that
    follow from them are still counted, :func:`~mmreuse.modularization.compact` removes those.

    Args:
        model: With plain weights.
        uses: Of :func:`count_uses`.
        masks: By name of the parameter with ``_mask`` behind it: True or positive where a weight is kept. None: what is
            zero is not kept.
    """
    parameters = dict(model.named_parameters())

    def kept(key: str) -> int:
        tensor = parameters[key]
        if masks is None:
            return int(torch.count_nonzero(tensor)) if not tensor.is_meta else tensor.numel()
        mask = masks.get(f'{key}_mask')
        return tensor.numel() if mask is None else int((mask > 0).sum())

    layers = {key: LayerCost(parameters[key].numel(), kept(key), parameters[key].numel() * count, kept(key) * count)
              for key, count in uses.positions.items()}
    counted = [key for key in (*layers, *uses.biases) if masks is None or f'{key}_mask' in masks]
    rest = uses.norms + uses.pools + uses.products
    return Cost(sum(parameters[key].numel() for key in counted), sum(map(kept, counted)),
                sum(layer.dense for layer in layers.values()) + rest,
                sum(layer.sparse for layer in layers.values()) + rest, layers)
