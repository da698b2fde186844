"""A gate for every channel, neuron and head, so that structure goes and not only single weights."""
import copy
import time
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from mmreuse.errors import SpaceError
from mmreuse.graph import Axis, Graph
from mmreuse.graph.recorder import at_rest
from mmreuse.modularization.compaction import shrinkable
from mmreuse.modularization.flops import count_uses
from mmreuse.modularization.layers import LayerCall, LayerWatch, parameter_names
from mmreuse.utils.names import nearest


class _Binary(torch.autograd.Function):
    """1 where a gate is above zero; the gradient is that of the result, clamped to [-1, 1], as a mask's."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, gate: Tensor) -> Tensor:
        return (gate > 0).to(gate)

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        return grad.clamp(-1, 1)


class Gates(nn.Module):
    """Parameters by name of the feature space, (size,), 1 at the start.

    Args:
        sizes: By name of the space.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        for name, size in sizes.items():
            # register_parameter refuses the dots in names of spaces.
            self._parameters[name] = nn.Parameter(torch.ones(size))

    def binary(self) -> dict[str, Tensor]:
        """1 for what is open, 0 for what is closed, by name of the space."""
        return {name: _Binary.apply(gate) for name, gate in self._parameters.items()}


class GatedNetwork(nn.Module):
    """A network whose feature spaces have gates.

    A gate multiplies all weights that read its member, so that nobody reads a closed one, and
    :func:`~mmreuse.modularization.compact` takes it out, with what only it reads. A closed gate still has a gradient
    and can open again, which it could not if it stood at the filters: behind ReLU, zeros have none.

    Args:
        network: Any; it may have masks, a weight is kept then if its mask and its gates are.
        graph: Of the network.
        spaces: Names of spaces to gate, see :func:`gate_spaces`.

    Raises:
        SpaceError: There is no such space.
    """

    def __init__(self, network: nn.Module, graph: Graph, spaces: Iterable[str]) -> None:
        super().__init__()
        spaces = list(spaces)
        for name in spaces:
            if name not in graph.spaces:
                raise SpaceError(f"there is no feature space '{name}'. {nearest(name, graph.spaces)}")
        self.network = network
        self.gates = Gates({name: graph.spaces[name].size for name in spaces})
        parameters = dict(network.named_parameters())
        self._shapes = {key: tensor.shape for key, tensor in parameters.items()}
        self._axes: dict[str, list[tuple[str, str, Tensor]]] = {}  # by parameter: space, role, gate of each element
        for name in spaces:
            for axis, members in _gated_axes(graph, name):
                if axis.tensor in parameters:
                    places = members[axis.members(self._shapes[axis.tensor])]
                    self._axes.setdefault(axis.tensor, []).append((name, axis.role, places))

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Run the network as its gates leave it."""
        return functional_call(self.network, self.gated_parameters(), inputs, options)

    def gated_parameters(self) -> dict[str, Tensor]:
        """Parameters of the network that have gates, multiplied by them."""
        binary = self.gates.binary()
        parameters = dict(self.network.named_parameters())
        found = {}
        for key, axes in self._axes.items():
            for name, role, places in axes:
                if role == 'read':
                    found[key] = found.get(key, parameters[key]) * _spread(binary[name], places)
        return found

    def cost(self, rates: Mapping[str, float]) -> Tensor:
        """Share of the whole cost that is left, differentiable in the gates.

        Args:
            rates: Cost of each weight, by name of the parameter: :func:`flop_rates` or :func:`latency_rates`.

        Returns:
            Tensor: Scalar in [0, 1].
        """
        binary = self.gates.binary()
        like = next(iter(binary.values()))
        left, total = like.new_zeros(()), 0.
        for key, rate in rates.items():
            whole = rate * self._shapes[key].numel()
            share = like.new_ones(())
            for name, _, places in self._axes.get(key, ()):
                share = share * _spread(binary[name], places)
            left, total = left + whole * share.mean(), total + whole
        return left / total

    @torch.no_grad()
    def bake(self) -> nn.Module:
        """A copy of the network with the gates multiplied in."""
        network = copy.deepcopy(self.network)
        parameters = dict(network.named_parameters())
        for key, value in self.gated_parameters().items():
            parameters[key].copy_(value)
        return network


def add_gates(network: nn.Module, graph: Graph, spaces: Iterable[str] | None = None) -> GatedNetwork:
    """Give a network gates.

    Args:
        network: The traced network, or it with masks.
        graph: Of it.
        spaces: Names of spaces; None for all that can lose members, see :func:`gate_spaces`.

    Raises:
        SpaceError: There is no such space.
    """
    return GatedNetwork(network, graph, gate_spaces(graph) if spaces is None else spaces)


@torch.no_grad()
def gate_spaces(graph: Graph) -> list[str]:
    """Spaces that can lose members nobody reads, found by trying: channels, neurons, and heads as wholes."""
    names = [name for name, space in graph.spaces.items() if space.blocks is None and space.size > 1]
    deaf = copy.deepcopy(graph.model)
    for name in names:
        for axis, members in _gated_axes(graph, name):
            if axis.role == 'read':
                tensor = deaf.get_parameter(axis.tensor)
                tensor.mul_(members[axis.members(tensor.shape)].to(tensor.device) != 0)  # the first member
    return shrinkable(Graph(deaf, graph.inputs, graph.spaces, graph.pins), names)


def _gated_axes(graph: Graph, name: str) -> list[tuple[Axis, Tensor]]:
    """Axes that a space's gates act on, each with the gate of each member; -1, the last, for places without."""
    space, none = graph.spaces[name], torch.tensor([-1])
    found = [(axis, torch.cat([torch.arange(space.size), none])) for axis in space.axes]
    for inner in graph.spaces.values():
        if inner.block_space == name:
            found += [(axis, torch.cat([inner.blocks, none])) for axis in inner.axes]
    return found


def _spread(binary: Tensor, places: Tensor) -> Tensor:
    """Gates at the elements of a tensor; 1 where there is none."""
    return torch.cat([binary, binary.new_ones(1)])[places.to(binary.device)]


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
    with at_rest(network), clock:
        network(inputs)
    return clock.rates
