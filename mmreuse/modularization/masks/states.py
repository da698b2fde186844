"""Masks read, written, and made part of the weights."""
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmreuse.graph import copy_model
from mmreuse.modularization.masks.masks import MaskedLayer, mask_parameters, masked_tensors, problem_masks
from mmreuse.utils.files.io import state_hash
from mmreuse.utils.files.state_fit import check_fit


def frozen_hash(model: nn.Module) -> str:
    """Hash of all tensors but masks: training masks must not change it."""
    masks = {name for name, _, _ in masked_tensors(model, tied=True)}
    return state_hash({name: tensor for name, tensor in model.state_dict().items() if name not in masks})


def mask_state(model: nn.Module, problem: int = 0) -> dict[str, Tensor]:
    """Return True where a weight is kept, by name of the mask.

    Args:
        model: With masks.
        problem: Which one, where there are several.

    Raises:
        ConfigError: There are no masks.
    """
    return {name: mask > 0 for name, mask in problem_masks(model)[problem].items()}


@torch.no_grad()
def load_mask_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Set masks, in place.

    Args:
        model: With masks.
        state: Values by name of the mask, or True where a weight is kept.

    Raises:
        ConfigError: The model has no masks.
        ArtefactError: The names or shapes differ; the model is unchanged then.
    """
    masks = mask_parameters(model)
    check_fit(masks, state, 'masks of another network')
    for name, mask in masks.items():
        mask.copy_(state[name])


@torch.no_grad()
def materialize(model: nn.Module, state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Return a plain copy of a network, without masks: what is masked out is zero.

    Args:
        model: With masks; left as it is.
        state: Masks to use in place of its own, as :func:`mask_state` gives them; without, those of several problems
            give the network of the first.

    Raises:
        ConfigError: There are no masks.
    """
    state = mask_state(model) if state is None else state
    masks = {id(mask): state[name] for name, mask in mask_parameters(model).items()}
    layers = {name: module for name, module in model.named_modules() if isinstance(module, MaskedLayer)}
    memo: dict[int, nn.Parameter] = {}
    baked = copy_model(model)
    for prefix, layer in layers.items():
        own = baked.get_submodule(prefix)
        own.__class__ = layer.plain_class
        for name in layer.masked:
            mask = own._parameters.pop(f'{name}_mask', None)
            if mask is not None:
                tensor = layer._parameters[name]
                kept = masks[id(layer._parameters[f'{name}_mask'])]
                made = nn.Parameter(torch.where(kept > 0, tensor, 0), requires_grad=False)
                own._parameters[name] = memo.setdefault(id(tensor), made)
    return baked
