"""The traced network."""
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.graph.proof.verify import VerifyReport, verify
from mmreuse.graph.spaces.derive import Axis, FeatureSpace
from mmreuse.graph.spaces.operations import Pin


@dataclass(frozen=True, eq=False)
class Held:
    """Features that a proof found to be fixed."""
    axes: tuple[Axis, ...]  # where they stand
    cells: Tensor  # (size,) features of one cell may be exchanged, cells keep their places
    together: bool = False  # instead: cells move as wholes, their features in order


@dataclass(frozen=True, eq=False)
class TracedModel:
    """A network as feature spaces.

    Attributes:
        model: The network as it was given.
        inputs: Arguments of its forward, as they were given.
        spaces: By name, in the order in which they are first written.
        pins: What was kept from moving, and by which operation.
        held: What a proof had to hold in addition.
        unread: Parameters that no operation took in the run, where the run chose rows by their values.
        branches: Numbers, among all branches on tensors, of those on values that are computed from the inputs.
    """
    model: nn.Module
    inputs: tuple[Any, ...]
    spaces: dict[str, FeatureSpace]
    pins: tuple[Pin, ...]
    held: tuple[Held, ...] = ()
    branches: tuple[int, ...] = ()
    unread: tuple[str, ...] = ()

    def verify(self, seed: int = 0) -> VerifyReport:
        """Prove the spaces: see :func:`mmreuse.graph.proof.verify.verify`."""
        return verify(self, seed=seed)

    @property
    def share(self) -> float:
        """Share of the network's parameters in which some feature can move."""
        parameters = dict(self.model.named_parameters())
        moving = {key: torch.zeros(tensor.shape, dtype=torch.bool) for key, tensor in parameters.items()}
        for axis in (axis for space in self.spaces.values() for axis in space.axes if axis.tensor in moving):
            moving[axis.tensor] |= axis.members(moving[axis.tensor].shape) >= 0
        return sum(int(mask.sum()) for mask in moving.values()) / max(1, sum(map(Tensor.numel, moving.values())))

    def report(self) -> str:
        """Report how much can move, and what holds the rest."""
        free = {axis.tensor for space in self.spaces.values() for axis in space.axes}
        rest = [name for name, _ in self.model.named_parameters() if name not in free and name not in self.unread]
        lines = [f'{self.share:.1%} of the parameters can move, in {len(self.spaces)} feature spaces']
        alike = defaultdict(list)
        for pin in self.pins:
            alike[pin.operation, pin.reason].append(pin)
        lines += [f'held: {first}{f" (and in {len(more)} more places)" if more else ""}'
                  for first, *more in alike.values()]
        if self.unread:
            lines.append(f'not used on these inputs: {_listed(self.unread)}')
        if rest:
            lines.append(f'in no space: {_listed(rest)}')
        return '\n'.join(lines)

    def __str__(self) -> str:
        return '\n'.join(str(space) for space in self.spaces.values())


def _listed(names: Sequence[str]) -> str:
    return ', '.join(names[:12]) + (f' and {len(names) - 12} more' if names[12:] else '')
