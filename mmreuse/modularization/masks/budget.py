"""Start values of masks and gates, and the budget that they are held to."""
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.modularization.masks.gates import Gates
from mmreuse.modularization.masks.masks import mask_parameters, problem_masks

#: Halvings of the interval of a threshold: more do not change a float32.
_HALVINGS = 40


def mask_saliency(model: nn.Module, loss: Callable[[Any], Tensor], batches: Iterable) -> dict[str, Tensor]:
    """Estimate to first order how the loss changes as each weight goes: ``|W * dL/dW|``, the mean over batches.

    Molchanov et al., *Importance Estimation for Neural Network Pruning*, 2019. It is the :func:`saliency` of the masks,
    whose values are left as they are.

    Raises:
        ConfigError: There are no masks.
        DataError: As :func:`saliency`.
    """
    return saliency(mask_parameters(model), loss, batches)


def saliency(parameters: Mapping[str, Tensor], loss: Callable[[Any], Tensor], batches: Iterable) -> dict[str, Tensor]:
    """Size of the gradient of masks or gates, the mean over batches: how much the loss changes with what they switch.

    Args:
        parameters: By name.
        loss: From a batch to its loss.
        batches: Of training data.

    Returns:
        dict[str, Tensor]: By name.

    Raises:
        DataError: There are no batches, or a gradient is not finite.
    """
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    batch = None
    for batch in batches:
        gradients = torch.autograd.grad(loss(batch), list(parameters.values()))
        for gradient, name in zip(gradients, parameters, strict=True):
            total[name] += gradient.abs()
    if batch is None:
        raise DataError('saliency: there are no batches.')
    if not all(torch.isfinite(each).all() for each in total.values()):
        raise DataError('saliency: a gradient is not finite. Check the checkpoint and the data.')
    return total


@torch.no_grad()
def rank_masks(model: nn.Module, saliency: Mapping[str, Tensor]) -> None:
    """Set masks to the ranks of saliencies over the whole network, evenly spaced in (0, 1], in place.

    All weights are kept then, and the least salient are the first to go.
    """
    problems = problem_masks(model)
    for number, masks in enumerate(problems):
        flat = torch.cat([saliency[name].reshape(len(problems), -1)[number] for name in masks])
        parts = _ranks(flat).split([mask.numel() for mask in masks.values()])
        for mask, part in zip(masks.values(), parts, strict=True):
            mask.copy_(part.view_as(mask))


@torch.no_grad()
def closing_loss(gates: Gates, saliency: Mapping[str, Tensor], loss: Callable[[Any], Tensor],
                 batches: Sequence) -> dict[str, Tensor]:
    """Estimate the rise of the loss when a block of members closes, shared by its members.

    Saliencies are of first order, and say too little of a block of channels, let alone of a whole branch.

    Args:
        gates: All open; left so.
        saliency: By name of the space; blocks are made of members of like saliency.
        loss: From a batch to its loss.
        batches: Of training data.

    Returns:
        dict[str, Tensor]: By name of the space.
    """
    parameters = dict(gates.named_parameters())
    whole = sum(loss(batch) for batch in batches)
    found = {name: torch.zeros_like(gate) for name, gate in parameters.items()}
    for name, places in gates.blocks({name: saliency[name] for name in parameters}):
        before = parameters[name].clone()
        parameters[name][places] = 0
        found[name][places] = (sum(loss(batch) for batch in batches) - whole) / len(places)
        parameters[name].copy_(before)
    return found


@torch.no_grad()
def rank_gates(gates: Gates, saliency: Mapping[str, Tensor], rates: Mapping[str, float]) -> None:
    """Set gates to the ranks of saliency for its cost, evenly spaced in (0, 1], in place.

    All are open then, and the first to close are those that save most for what they do.

    Args:
        gates: Of a network.
        saliency: By name of the space.
        rates: Cost of each weight, by name of the parameter.
    """
    opened = {name: torch.ones_like(gate) for name, gate in gates.named_parameters()}
    worth = []
    for name, gate in gates.named_parameters():
        # What closing the space saves is shared by its members, which are alike.
        price = (1 - gates.cost(rates, opened | {name: torch.zeros_like(gate)})) / len(gate)
        worth.append(saliency[name] / price.clamp(min=1e-12))
    ranks = _ranks(torch.cat(worth)).split([len(each) for each in worth])
    for gate, rank in zip(gates.parameters(), ranks, strict=True):
        gate.copy_(rank)


def _ranks(values: Tensor) -> Tensor:
    """1 / n for the least of n values, ..., 1 for the largest."""
    ranks = torch.empty_like(values)
    ranks[values.argsort()] = torch.arange(1, len(values) + 1, dtype=values.dtype, device=values.device) / len(values)
    return ranks


@torch.no_grad()
def hold_budget(model: nn.Module, share: float, costs: Mapping[str, float] | None = None,
                used: Mapping[str, Tensor] | None = None) -> None:
    """Shift masks so that what is kept costs a given share of the whole, in place.

    From each mask goes the same multiple of the cost of its weight, as by the gradient of a sparsity term of just the
    right strength, so that order within a layer stays.

    Args:
        model: With masks.
        share: Of the cost of all masked weights, in (0, 1].
        costs: Of one weight of each mask, by its name; None: all cost the same. For multiply-accumulates the number
            of positions at which a layer is applied.
        used: By name of the mask, False for weights that are gone whatever their mask says, as with closed gates: they
            take nothing of the budget.

    Raises:
        ConfigError: The share is out of range, or masks are alike, so that all would go at once.
        DataError: A mask is not finite.
    """
    check_share(share)
    used = used or {}
    for masks in problem_masks(model):
        units = {name: 1. for name in masks} if costs is None else costs
        priced = {name: mask for name, mask in masks.items() if units[name] > 0}
        limit = share * sum(units[name] * mask.numel() for name, mask in priced.items())
        left = priced | {name: mask.where(used[name], -math.inf) for name, mask in priced.items() if name in used}
        lowest = min(float(mask.min()) / units[name] for name, mask in priced.items())
        highest = max(float(mask.max()) / units[name] for name, mask in priced.items())
        if not math.isfinite(highest - lowest):
            raise DataError('hold_budget: a mask is not finite, training has diverged. Lower the learning rates.')
        for _ in range(_HALVINGS):
            middle = (lowest + highest) / 2
            fits = _kept_cost(left, units, middle) <= limit
            lowest, highest = (lowest, middle) if fits else (middle, highest)
        if _kept_cost(left, units, highest) < min(limit, _kept_cost(left, units, -math.inf)) / 2:
            raise ConfigError(f'a budget of {share} cannot be held: many masks are alike, and would all go at once. '
                              'Start them from saliencies (MaskInitHook).')
        for name, mask in priced.items():
            mask -= highest * units[name]


def _kept_cost(masks: Mapping[str, Tensor], units: Mapping[str, float], shift: float) -> float:
    return sum(units[name] * int((mask > shift * units[name]).sum()) for name, mask in masks.items())


@torch.no_grad()
def hold_gates(gates: Gates, share: float, rates: Mapping[str, float]) -> None:
    """Shift gates by one number such that what they leave costs no more than a given share of the whole, in place.

    The gates of a space, from the largest down, close ``gates.step`` at once, at their mean. Of a space that all ways
    lead through (:attr:`~mmreuse.modularization.Gates.vital`) the largest stay open.

    Args:
        gates: Of a network.
        share: Of the cost, in (0, 1].
        rates: Cost of each weight, by name of the parameter.

    Raises:
        ConfigError: The share is out of range, or more is spent where there are no gates.
        DataError: A gate is not finite.
    """
    check_share(share)
    parameters = dict(gates.named_parameters())
    blocks = gates.blocks(parameters)
    values = torch.stack([parameters[name][index].mean() for name, index in blocks])
    if not torch.isfinite(values).all():
        raise DataError('hold_gates: a gate is not finite, training has diverged. Lower the learning rates.')
    vital = {number for number, (name, _) in enumerate(blocks) if name in gates.vital and (
        number == 0 or blocks[number - 1][0] != name)}
    order = [number for number in values.argsort().tolist() if number not in vital]

    def without(count: int) -> dict[str, Tensor]:
        opened = {name: torch.ones_like(gate) for name, gate in parameters.items()}
        for number in order[:count]:
            name, index = blocks[number]
            opened[name][index] = 0
        return opened

    if (least := float(gates.cost(rates, without(len(order))))) > share:
        raise ConfigError(f'a budget of {share} cannot be held: what cannot be closed costs {least:.3f} of the '
                          'whole.')

    def fits(count: int) -> bool:
        return float(gates.cost(rates, without(count))) <= share * (1 + 1e-6)  # up to rounding

    count = bisect_left(range(len(order)), True, key=fits)  # the fewest
    shift = values[order[max(count - 1, 0)]]
    tiny = torch.finfo(values.dtype).tiny
    for name, opened in without(count).items():
        moved = parameters[name] - shift
        parameters[name].copy_(torch.where(opened > 0, moved.clamp(min=tiny), moved.clamp(max=0)))


def check_share(share: float) -> None:
    """Refuse what is no share of weights to keep.

    Raises:
        ConfigError: It is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ConfigError(f'a share of {share} of the weights cannot be kept: take one above 0, at most 1.')
