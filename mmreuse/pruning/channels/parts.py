"""What the parts of a network cost at other widths, predicted from the axes of their weights."""
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from mmreuse.graph import FeatureSpace, TracedModel
from mmreuse.pruning.channels.widths import CostTable
from mmreuse.utils.cost.complexity import macs_by_module

Widths = Mapping[str, int]
#: Of a sum: a coefficient, the space whose share it multiplies (None: none), and the power of that share.
Term = tuple[float, str | None, int]


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a network that costs in proportion to what is left of one tensor, or of some heads.

    Attributes:
        amount: What it costs in the dense network.
        axes: Of the tensor: the axis, with the view in which it is counted; the share of its positions that
            a space takes; the space.
        groups: Space of the groups of a grouped convolution.
        heads: Space of the heads, of a part without weight.
    """
    amount: float
    axes: tuple[tuple[tuple, float, str], ...] = ()
    groups: str | None = None
    heads: str | None = None

    def factors(self) -> list[list[Term]]:
        """Return the share that is left as a product of sums."""
        if self.heads is not None:
            return [[(1., self.heads, 1)]]
        return [*self._sums().values(), *([[(1., self.groups, -1)]] if self.groups is not None else [])]

    def share(self, shares: Mapping[str, float]) -> float:
        """Return how much of it is left when spaces keep some shares of their members."""
        return prod(_total(terms, shares) for terms in self.factors())

    def along(self, shape: Sequence[int], shares: Mapping[str, float]) -> list[float]:
        """Return how much of each axis of the tensor is left, which has a shape."""
        left = [1.] * len(shape)
        for (dim, view), terms in self._sums().items():
            if view is not None:  # the axis of the tensor that the axis of the view is in
                inside = prod(view[dim:])
                dim = next(place for place in reversed(range(len(shape))) if prod(shape[place:]) >= inside)
            left[dim] *= _total(terms, shares)
        return left

    def _sums(self) -> dict[tuple, list[Term]]:
        sums: dict[tuple, list[Term]] = {}
        for axis, fraction, space in self.axes:
            sums.setdefault(axis, []).append((fraction, space, 1))
        for terms in sums.values():
            terms.append((1 - sum(fraction for fraction, *_ in terms), None, 1))
        return sums


def _total(terms: Sequence[Term], shares: Mapping[str, float]) -> float:
    return sum(coefficient if space is None else coefficient * shares[space] ** power
               for coefficient, space, power in terms)


def tensor_parts(graph: TracedModel, amounts: Mapping[str, float]) -> dict[str, Part]:
    """Return a part for each of some tensors.

    Args:
        graph: The traced network.
        amounts: What each costs, by its key in the state dict.
    """
    axes: dict[str, list] = defaultdict(list)
    groups: dict[str, str] = {}
    for space in graph.spaces.values():
        for axis in space.axes:
            axes[axis.tensor].append(((axis.dim, axis.shape), float((axis.index >= 0).float().mean()), space.name))
            if axis.groups > 1 and space.block_space is not None:
                groups[axis.tensor] = space.block_space
    return {key: Part(amount, tuple(axes[key]), groups.get(key)) for key, amount in amounts.items()}


def mac_parts(graph: TracedModel) -> list[Part]:
    """Return where a network's multiply-accumulates are.

    What layers compute is proportional to the size of their weight, what attention computes between its layers to the
    number of heads. Layers of other kinds make this wrong, so that whoever uses it compares with a count.
    """
    macs, weights, parts = macs_by_module(graph.model, graph.inputs), {}, []
    for name, module in graph.model.named_modules():
        own = macs.get(name, 0) - sum(macs.get(f'{name}.{child}', 0) for child, _ in module.named_children())
        if own > 0 and 'weight' in module._parameters:
            weights[f'{name}.weight'] = own
        elif own > 0:
            parts.append(Part(own, heads=_heads(graph, name)))
    return [*tensor_parts(graph, weights).values(), *parts]


def mac_tables(graph: TracedModel, candidates: Mapping[str, Sequence[int]]) -> list[CostTable]:
    """Return the multiply-accumulates of a network at candidate widths."""
    return cost_tables(graph, mac_parts(graph), candidates)


def parameter_tables(graph: TracedModel, candidates: Mapping[str, Sequence[int]]) -> list[CostTable]:
    """Return the numbers of its parameters."""
    sizes = {key: tensor.numel() for key, tensor in graph.model.named_parameters()}
    return cost_tables(graph, tensor_parts(graph, sizes).values(), candidates)


def byte_tables(graph: TracedModel, candidates: Mapping[str, Sequence[int]]) -> list[CostTable]:
    """Return the bytes of its parameters and buffers, in their own precision."""
    sizes = {key: tensor.numel() * tensor.element_size() for key, tensor in graph.model.state_dict().items()}
    return cost_tables(graph, tensor_parts(graph, sizes).values(), candidates)


def cost_tables(graph: TracedModel, parts: Iterable[Part], candidates: Mapping[str, Sequence[int]]) -> list[CostTable]:
    """Return the costs of parts at candidate widths, for :func:`mmreuse.pruning.channels.widths.choose_widths`.

    A layer that reads many spaces is a sum over them, so that no table is larger than those of two.

    Args:
        graph: The traced network.
        parts: Of it.
        candidates: By name of a space that is no other's inside; all others keep their width.
    """
    tables = []
    for part in parts:
        sums = [_addends(graph, terms, candidates) for terms in part.factors()]
        for addends in product(*sums):
            spaces = tuple(space for space, _ in addends if space is not None)
            costs = np.array(part.amount, float)
            for space, share in addends:
                costs = costs * share if space is None else np.multiply.outer(costs, share)
            tables.append(CostTable(spaces, costs))
    return tables


def _addends(graph: TracedModel, terms: Sequence[Term], candidates: Mapping[str, Sequence[int]],
             ) -> list[tuple[str | None, Any]]:
    """Return one factor of a cost as a sum: what depends on each space, at all its candidates, and what on none."""
    constant, found = 0., {}
    for coefficient, space, power in terms:
        top = None if space is None else top_space(graph, space, candidates)
        if top is None or top.name not in candidates:
            constant += coefficient
        else:
            share = (np.asarray(candidates[top.name]) / top.size) ** power
            found[top.name] = found.get(top.name, 0.) + coefficient * share
    return [*found.items(), *([(None, constant)] if constant or not found else [])]


def top_space(graph: TracedModel, name: str, widths: Mapping) -> FeatureSpace:
    """Return the space whose width says how much of a space is left: that of the heads for what is in them."""
    top = graph.spaces[name]
    while top.name not in widths and top.block_space is not None:
        top = graph.spaces[top.block_space]
    return top


def predict_macs(graph: TracedModel) -> Callable[[Widths], int]:
    """Count a dense network once; what is left of it then follows from widths, without building or running anything.

    Args:
        graph: The traced network, see :func:`mac_parts`.

    Returns:
        Callable: From widths, by name of the space, those of the dense network where none is given, to
        multiply-accumulates.
    """
    parts = mac_parts(graph)

    def predict(widths: Widths) -> int:
        tops = {name: top_space(graph, name, widths) for name in graph.spaces}
        shares = {name: widths.get(top.name, top.size) / top.size for name, top in tops.items()}
        return sum(round(part.amount * part.share(shares)) for part in parts)

    return predict


def _heads(graph: TracedModel, module: str) -> str | None:
    """Return the space of the heads of which a module's layers write or read the members, if there is only one."""
    found = {space.block_space for space in graph.spaces.values() if space.block_space is not None
             and any(axis.tensor.startswith(f'{module}.' if module else '') for axis in space.axes)}
    return found.pop() if len(found) == 1 else None
