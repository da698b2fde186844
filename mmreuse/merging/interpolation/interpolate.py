"""Weighted means of networks."""
import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import copy_model, refresh


@torch.no_grad()
def interpolate(models: Sequence[nn.Module], weights: Sequence[float]) -> nn.Module:
    """Return the network whose parameters and buffers are ``sum_k a_k theta_k``.

    Sums are taken in float64, so that weights (1, 0) give the first network to the last bit. What is not floating
    point (counts of batches, indices) is the first model's. Parameters that are one tensor in every network are one
    tensor in the mean; those that some network keeps apart are apart.

    Args:
        models: Any number of networks of one class with the same modules and shapes; they are left as they are.
        weights: a_k, finite, one per model. They need not sum to 1, nor be positive: (1.2, -0.2) goes beyond the first
            network, (1, 1) is a sum.

    Returns:
        nn.Module: A network of the same class, in the first one's mode and on its device.

    Raises:
        ConfigError: The weights do not fit the models.
        SpaceError: The models differ in structure: names the first module or tensor that does.
    """
    check_same_structure(models)
    if len(weights) != len(models) or not all(map(math.isfinite, weights)):
        raise ConfigError(f'weights = {list(weights)} of {len(models)} models: give each model one finite weight.')
    states = [model.state_dict() for model in models]
    mean = copy_model(models[0])
    _untie(mean, models)
    for key, tensor in mean.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            # A network of weight 0 is skipped, even where it is not finite.
            parts = (weight * state[key].to(tensor.device, torch.float64)
                     for weight, state in zip(weights, states, strict=True) if weight != 0)
            tensor.copy_(sum(parts, torch.zeros_like(tensor, dtype=torch.float64)))
    refresh(mean)
    return mean


def _untie(mean: nn.Module, models: Sequence[nn.Module]) -> None:
    """Give names that share memory in ``mean`` tensors of their own, unless they are one tensor in all models."""
    states = [model.state_dict() for model in models]
    groups: dict[tuple, list[str]] = defaultdict(list)
    for key, tensor in states[0].items():
        if isinstance(tensor, Tensor):
            groups[tuple(_place_in_memory(state[key]) for state in states)].append(key)
    own, taken = mean.state_dict(keep_vars=True), set()
    for keys in groups.values():
        tensor = own[keys[0]]
        memory = tensor.untyped_storage().data_ptr()
        if memory in taken:
            fresh = tensor.detach().clone()
            if isinstance(tensor, nn.Parameter):
                fresh = nn.Parameter(fresh, requires_grad=tensor.requires_grad)
            for key in keys:
                module, _, name = key.rpartition('.')
                setattr(mean.get_submodule(module), name, fresh)
        taken.add(memory)


def _place_in_memory(tensor: Tensor) -> tuple:
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def check_same_structure(models: Sequence[nn.Module]) -> None:
    """Make sure that models have the same modules, and tensors of the same names and shapes.

    Raises:
        ConfigError: There is no model.
        SpaceError: Two differ: names the first module or tensor.
    """
    if not models:
        raise ConfigError('there are no models to interpolate between.')
    first = _described(models[0])
    for number, model in enumerate(models[1:], 1):
        other = _described(model)
        for key in (*first, *other):
            here, there = first.get(key, 'absent'), other.get(key, 'absent')
            if here != there:
                what = f"'{key}'" if key else 'it'
                raise SpaceError(
                    f'model {number} is not of the structure of model 0: {what} is {here} in model 0 and {there} in '
                    f'model {number}. Only networks of one architecture and width can be averaged; check that configs '
                    'and checkpoints belong together.')


def _described(model: nn.Module) -> dict[str, str]:
    """Return the class of each module, then shape of each tensor, by name."""
    modules = {name: type(module).__name__ for name, module in model.named_modules()}
    return modules | {key: f'of shape {tuple(tensor.shape)}' for key, tensor in model.state_dict().items()
                      if isinstance(tensor, Tensor)}
