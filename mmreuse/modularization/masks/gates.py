"""A gate for every channel, neuron and head, so that structure goes and not only single weights."""
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import Axis, TracedModel, copy_model, random_like
from mmreuse.modularization.compaction.compaction import shrinkable
from mmreuse.utils.modes import evaluating
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
    """Gates of a network's feature spaces: parameters by name of the space, (size,), 1 at the start.

    A gate multiplies all weights that read its member, so that nobody reads a closed one, and
    :func:`~mmreuse.modularization.compact` takes it out, with what only it reads. A closed gate still has a gradient
    and can open again, which it could not if it stood at the filters: behind ReLU, zeros have none.

    Args:
        graph: Of the network, without masks.
        spaces: Names of spaces; None for all that can lose members, see :func:`gate_spaces`.
        step: Members of a space that budgets open and close at once: inference engines compute blocks of 8 or 16
            channels whether all are there or not.

    Raises:
        ConfigError: ``step`` is not positive.
        SpaceError: There is no such space, or none that can lose members.
    """

    def __init__(self, graph: TracedModel, spaces: Iterable[str] | None = None, step: int = 1) -> None:
        super().__init__()
        if step < 1:
            raise ConfigError(f'Gates: step={step} is not positive.')
        self.step = step
        spaces = gate_spaces(graph) if spaces is None else list(spaces)
        if not spaces:
            raise SpaceError(f'{type(graph.model).__name__} has no feature space that can lose members, so that gates '
                             'have no place. Train masks alone.')
        for name in spaces:
            if name not in graph.spaces:
                raise SpaceError(f"there is no feature space '{name}'. {nearest(name, graph.spaces)}")
            # register_parameter refuses the dots in names of spaces.
            self._parameters[name] = nn.Parameter(torch.ones(graph.spaces[name].size))
        self._shapes = {key: tensor.shape for key, tensor in graph.model.named_parameters()}
        self._axes: dict[str, list[tuple[str, str, Tensor]]] = {}  # by parameter: space, role, gate of each element
        for name in spaces:
            for axis, members in _gated_axes(graph, name):
                if axis.tensor in self._shapes:
                    places = members[axis.members(self._shapes[axis.tensor])]
                    self._axes.setdefault(axis.tensor, []).append((name, axis.role, places))
        #: Spaces that all ways to the output lead through: closed as a whole they leave a constant.
        self.vital = [name for name in spaces if self._cuts(graph, name)]

    def blocks(self, values: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
        """Return the members that go at once: the space's name and their places, by falling values, ``step`` at a time.

        Args:
            values: (size,), by name of the space.
        """
        return [(name, places) for name, own in values.items()
                for places in own.argsort(descending=True).split(self.step)]

    def binary(self) -> dict[str, Tensor]:
        """1 for what is open, 0 for what is closed, by name of the space."""
        return {name: _Binary.apply(gate) for name, gate in self._parameters.items()}

    def gated(self, parameters: Mapping[str, Tensor], binary: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return those of a network's parameters that read members with gates, multiplied by them.

        Args:
            parameters: By name.
            binary: What is open, by name of the space; None: as the gates are.
        """
        binary, found = self.binary() if binary is None else binary, {}
        for key, axes in self._axes.items():
            for name, role, places in axes:
                if role == 'read':
                    found[key] = found.get(key, parameters[key]) * _spread(binary[name], places)
        return found

    @torch.no_grad()
    def kept(self) -> dict[str, Tensor]:
        """Return true for weights that have to do with open members only, by name of the parameter.

        As masks they change no output: what writes a member that nobody reads may as well be zero.
        """
        binary = self.binary()
        return {key: self._share(key, binary).expand(self._shapes[key]) > 0 for key in self._axes}

    def cost(self, rates: Mapping[str, float], binary: Mapping[str, Tensor] | None = None) -> Tensor:
        """Share of the whole cost that is left, differentiable in the gates.

        Args:
            rates: Cost of each weight, by name of the parameter, see :func:`~mmreuse.modularization.weight_rates`.
            binary: What is open, by name of the space; None: as the gates are.

        Returns:
            Tensor: Scalar in [0, 1].
        """
        binary = self.binary() if binary is None else binary
        left, total = 0., 0.
        for key, rate in rates.items():
            whole = rate * self._shapes[key].numel()
            left, total = left + whole * self._share(key, binary).mean(), total + whole
        return left / total

    def _share(self, key: str, binary: Mapping[str, Tensor]) -> Tensor:
        """1 where an element of a parameter is kept, 0 elsewhere; of a shape that expands to the parameter's."""
        share = next(iter(binary.values())).new_ones([1] * len(self._shapes[key]))
        for name, _, places in self._axes.get(key, ()):
            share = share * _spread(binary[name], places)
        return share

    @torch.no_grad()
    def _cuts(self, graph: TracedModel, name: str) -> bool:
        """Return whether nothing of the input is left in the output when a space is closed."""
        closed = {key: torch.full_like(gate, key != name) for key, gate in self.named_parameters()}
        gated = self.gated(dict(graph.model.named_parameters()), closed)
        with evaluating(graph.model), torch.no_grad():
            one, other = (functional_call(graph.model, gated, random_like(graph.inputs, seed)) for seed in (0, 1))
        return torch.equal(one, other)


class GatedNetwork(nn.Module):
    """A network whose feature spaces have gates.

    Args:
        network: Any; it may have masks, a weight is kept then if its mask and its gates are.
        gates: Of it.
    """

    def __init__(self, network: nn.Module, gates: Gates) -> None:
        super().__init__()
        self.network = network
        self.gates = gates

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Run the network as its gates leave it."""
        return functional_call(self.network, self.gates.gated(dict(self.network.named_parameters())), inputs, options)

    @torch.no_grad()
    def materialize(self) -> nn.Module:
        """Return a copy of the network with the gates multiplied in."""
        network = copy_model(self.network)
        parameters = dict(network.named_parameters())
        for key, value in self.gates.gated(parameters).items():
            parameters[key].copy_(value)
        return network


def add_gates(network: nn.Module, graph: TracedModel, spaces: Iterable[str] | None = None) -> GatedNetwork:
    """Give a network gates.

    Args:
        network: The traced network, or it with masks.
        graph: Of it.
        spaces: As for :class:`Gates`.

    Raises:
        SpaceError: As :class:`Gates`.
    """
    return GatedNetwork(network, Gates(graph, spaces))


@torch.no_grad()
def gate_spaces(graph: TracedModel) -> list[str]:
    """Return the spaces that can lose members nobody reads, found by trying: channels, neurons, and heads as wholes."""
    names = [name for name, space in graph.spaces.items() if space.blocks is None and space.size > 1]
    deaf = copy_model(graph.model)
    for name in names:
        for axis, members in _gated_axes(graph, name):
            if axis.role == 'read':
                tensor = deaf.get_parameter(axis.tensor)
                tensor.mul_(members[axis.members(tensor.shape)].to(tensor.device) != 0)  # the first member
    return shrinkable(replace(graph, model=deaf), names)


def _gated_axes(graph: TracedModel, name: str) -> list[tuple[Axis, Tensor]]:
    """Return the axes that a space's gates act on, with the gate of each member; -1, the last, for places without."""
    space, none = graph.spaces[name], torch.tensor([-1])
    found = [(axis, torch.cat([torch.arange(space.size), none])) for axis in space.axes]
    for inner in graph.spaces.values():
        if inner.block_space == name:
            found += [(axis, torch.cat([inner.blocks, none])) for axis in inner.axes]
    return found


def _spread(binary: Tensor, places: Tensor) -> Tensor:
    """Gates at the elements of a tensor; 1 where there is none."""
    return torch.cat([binary, binary.new_ones(1)])[places.to(binary.device)]
