"""Costs of each weight of a network, in operations or in time."""
import time
from statistics import median

import torch
from torch import Tensor, nn

from mmreuse.modularization.masks.flops import count_uses
from mmreuse.modularization.masks.layers import LayerCall, LayerWatch, parameter_names
from mmreuse.utils.modes import evaluating
from mmreuse.utils.names import refuse_other


def flop_rates(network: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Multiply-adds of each weight, by name of the parameter, in a forward pass."""
    return {key: float(count) for key, count in count_uses(network, inputs).positions.items()}


class _Clock(LayerWatch):
    """Runs every layer again, to time it."""

    def __init__(self, network: nn.Module, repeats: int) -> None:
        super().__init__()
        self.names = parameter_names(network)
        self.repeats = repeats
        self.rates: dict[str, float] = {}

    def see_layer(self, call: LayerCall) -> None:
        key = self.names.get(id(call.arguments['weight']))
        if key is None:
            return
        seconds = []
        for _ in range(self.repeats):
            start = time.perf_counter()
            call.function(**call.arguments)
            seconds.append(time.perf_counter() - start)
        self.rates[key] = self.rates.get(key, 0.) + median(seconds) / call.arguments['weight'].numel()


def latency_rates(network: nn.Module, inputs: Tensor, repeats: int = 10) -> dict[str, float]:
    """Seconds that each weight takes, by name of the parameter, as if a layer's time were in proportion to its size.

    Args:
        network: On the CPU.
        inputs: The batch that counts.
        repeats: Runs of each layer; their median counts.
    """
    clock = _Clock(network, repeats)
    with evaluating(network), torch.no_grad(), clock:
        network(inputs)
    return clock.rates


#: What weights can be counted in.
COSTS = {'flops': flop_rates, 'latency': latency_rates}


def weight_rates(cost: str, network: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Cost of each weight of convolutions and linear layers, by name of the parameter.

    Args:
        cost: ``'flops'`` or ``'latency'``.
        network: Without masks.
        inputs: What it runs on.

    Raises:
        ConfigError: There is no such cost.
    """
    refuse_other('cost', cost, COSTS)
    return COSTS[cost](network, inputs)
