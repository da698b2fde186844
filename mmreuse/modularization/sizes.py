"""Build a compacted network again, for its checkpoint."""
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mmreuse.errors import ArtefactError
from mmreuse.graph import copy_model, fit_attention
from mmreuse.modularization.constant_layers import ConstantLayer, replace_layers
from mmreuse.utils.io import PathLike, load_tensors, save_tensors
from mmreuse.utils.names import nearest

_PLAIN = (int, float, bool, str, type(None))


def size_recipe(model: nn.Module, compacted: nn.Module) -> dict[str, Any]:
    """Say how a compacted network differs from what it was made of, in plain values.

    Args:
        model: The original.
        compacted: What :func:`~mmreuse.modularization.compact` made of it.

    Returns:
        dict: ``constant``, names of the layers that became constants; ``shapes`` of parameters and buffers that differ
        or are new; ``attributes`` that differ, by module.
    """
    modules, own = dict(compacted.named_modules()), model.state_dict()
    constant = [name for name, module in modules.items() if isinstance(module, ConstantLayer)]
    shapes = {key: list(tensor.shape) for key, tensor in compacted.state_dict().items()
              if key not in own or own[key].shape != tensor.shape}
    attributes = {}
    for name, module in model.named_modules():
        if name not in constant and name in modules:
            before, after = _attributes(module), _attributes(modules[name])
            if changed := {key: value for key, value in after.items() if before.get(key, value) != value}:
                attributes[name] = changed
    return dict(constant=constant, shapes=shapes, attributes=attributes)


def resize(model: nn.Module, recipe: Mapping[str, Any]) -> nn.Module:
    """Make a copy of a network that has the sizes of a compacted one; its values mean nothing.

    Args:
        model: An architecture like the original's.
        recipe: Of :func:`size_recipe`.

    Returns:
        nn.Module: Loads the compacted network's state dict.

    Raises:
        ArtefactError: The recipe names something that the network does not have.
    """
    resized = copy_model(model)
    names = {name for name, _ in resized.named_modules()}
    for name in (*recipe['constant'], *recipe['attributes'], *(key.rpartition('.')[0] for key in recipe['shapes'])):
        if name not in names:
            raise ArtefactError(f"the recipe is of another network than {type(model).__name__}, which has no module "
                                f"'{name}'. {nearest(name, names)}")
    for key, shape in recipe['shapes'].items():
        path, _, own = key.rpartition('.')
        module = resized.get_submodule(path)
        table = module._buffers if own in module._buffers else module._parameters
        like = next(tensor for tensor in (table.get(own), *module.parameters()) if tensor is not None)
        value = torch.zeros(shape, dtype=like.dtype, device=like.device)
        table[own] = value if table is module._buffers else nn.Parameter(value, requires_grad=like.requires_grad)
    for name, values in recipe['attributes'].items():
        for key, value in values.items():
            setattr(resized.get_submodule(name), key, tuple(value) if isinstance(value, list) else value)
    for module in resized.modules():
        fit_attention(module)
    replace_layers(resized, recipe['constant'])
    return resized


def save_compacted(path: PathLike, model: nn.Module, compacted: nn.Module) -> None:
    """Write a compacted network's tensors, and the recipe to build it from the original's architecture.

    Args:
        path: A safetensors file.
        model: The original.
        compacted: What :func:`~mmreuse.modularization.compact` made of it.
    """
    save_tensors(path, compacted.state_dict(), dict(sizes=size_recipe(model, compacted)))


def load_compacted(path: PathLike, model: nn.Module) -> nn.Module:
    """Build a compacted network from its file.

    Args:
        path: Of :func:`save_compacted`.
        model: An architecture like the original's; its weights do not matter.

    Raises:
        ArtefactError: The file is missing, damaged, of another kind, or of another architecture.
    """
    tensors, metadata = load_tensors(path)
    if not isinstance(metadata.get('sizes'), dict):
        raise ArtefactError(f'{path}: has no recipe of sizes, it is not of a compacted network.')
    for key, shape in metadata['sizes'].get('shapes', {}).items():
        # Before anything of this size is made.
        if key not in tensors or list(tensors[key].shape) != shape:
            held = list(tensors[key].shape) if key in tensors else 'nothing'
            raise ArtefactError(f"{path}: is damaged: its recipe gives '{key}' the shape {shape}, and it holds {held}. "
                                'Compact the network again.')
    compacted = resize(model, metadata['sizes'])
    try:
        compacted.load_state_dict(tensors)
    except RuntimeError as error:
        raise ArtefactError(f'{path}: is of another architecture than {type(model).__name__}: {error}') from error
    return compacted


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return plain attributes of a module beside parameters and modules; tuples as lists, as JSON has them."""
    found = {}
    for key, value in vars(module).items():
        if isinstance(value, (tuple, list)) and all(isinstance(each, _PLAIN) for each in value):
            found[key] = list(value)
        elif isinstance(value, _PLAIN):
            found[key] = value
    return {key: value for key, value in found.items() if key != 'training'}
