"""Multiply-accumulates of a narrower network, predicted from its widths."""
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from mmreuse.graph import Axis, FeatureSpace, TracedModel
from mmreuse.utils.cost.complexity import macs_by_module

Widths = Mapping[str, int]


def predict_macs(graph: TracedModel) -> Callable[[Widths], int]:
    """Count a dense network once; what is left of it then follows from widths, without building or running anything.

    What layers compute is proportional to the size of their weight, what attention computes between its layers to the
    number of heads. Layers of other kinds make this wrong, so that whoever uses it compares with a count.

    Args:
        graph: The traced network.

    Returns:
        Callable: From widths, by name of the space, those of the dense network where none is given, to
        multiply-accumulates.
    """
    macs = macs_by_module(graph.model, graph.inputs)
    axes: dict[str, list[tuple[Axis, FeatureSpace]]] = defaultdict(list)
    for space in graph.spaces.values():
        for axis in space.axes:
            axes[axis.tensor].append((axis, space))
    parts = []
    for name, module in graph.model.named_modules():
        inside = sum(macs.get(f'{name}.{child}', 0) for child, _ in module.named_children())
        own = macs.get(name, 0) - inside
        if own > 0:
            weight = f'{name}.weight' if 'weight' in module._parameters else None
            parts.append(_Part(own, tuple(axes.get(weight, ())), _heads(graph, name) if weight is None else None))

    def predict(widths: Widths) -> int:
        shares: dict[str | None, float] = {}
        for name, space in graph.spaces.items():
            top = space
            while top.name not in widths and top.block_space is not None:
                top = graph.spaces[top.block_space]
            shares[name] = widths.get(top.name, top.size) / top.size
        return sum(round(part.macs * part.share(shares)) for part in parts)

    return predict


@dataclass(frozen=True, eq=False)
class _Part:
    """Multiply-accumulates of one module itself."""
    macs: int
    axes: tuple[tuple[Axis, FeatureSpace], ...]  # of its weight
    heads: str | None  # space of the heads, of a module without weight

    def share(self, shares: Mapping[str | None, float]) -> float:
        """Return how much of it is left when spaces keep some shares of their members."""
        if self.heads is not None:
            return shares[self.heads]
        lost: dict[tuple, float] = defaultdict(float)
        groups = 1.
        for axis, space in self.axes:
            lost[axis.dim, axis.shape] += float((axis.index >= 0).float().mean()) * (1 - shares[space.name])
            if axis.groups > 1 and space.block_space is not None:
                groups = shares[space.block_space]
        return prod(1 - each for each in lost.values()) / groups


def _heads(graph: TracedModel, module: str) -> str | None:
    """Return the space of the heads of which a module's layers write or read the members, if there is only one."""
    found = {space.block_space for space in graph.spaces.values() if space.block_space is not None
             and any(axis.tensor.startswith(f'{module}.' if module else '') for axis in space.axes)}
    return found.pop() if len(found) == 1 else None
