"""Record how a network differs in structure from the one it was made of, and rebuild that difference.

The two have the same modules but for few: some are narrower, have gained a bias, or were replaced by
a registered layer.
"""
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mmreuse.errors import ArtefactError
from mmreuse.registry import LAYERS
from mmreuse.utils.names import nearest

_PLAIN = (int, float, bool, str, type(None))
#: Attributes that say nothing of the structure.
_IGNORED = ('training', '_is_init')


def difference(before: nn.Module, after: nn.Module) -> dict[str, Any]:
    """Return how one network differs from another in plain values; empty where their structures are the same.

    Args:
        before: The original.
        after: Made of it.

    Returns:
        dict: ``layers``, settings of layers that are new or of another type, by name; ``kinds``, registered types that
        stand in for those they derive from; ``children``, names in order of those modules whose children differ;
        ``shapes`` of parameters and buffers that differ or are new (None: it is gone); ``attributes`` that differ, by
        module. Types of tensors are not structure: a network takes on those of its file.

    Raises:
        ArtefactError: A layer is of another type, which is not registered.
    """
    old, new = dict(before.named_modules()), dict(after.named_modules())
    kinds = {name: kind for name, module in new.items() if name in old and (kind := _kind_of(module, old[name]))}
    kept = {name: module for name, module in new.items()
            if name in kinds or name in old and type(old[name]) is type(module)}
    layers = {name: _settings(name, module) for name, module in new.items()
              if name not in kept and name.rpartition('.')[0] in kept}
    children = {name: list(module._modules) for name, module in kept.items()
                if list(old[name]._modules) != list(module._modules)}
    shapes, attributes = {}, {}
    for name, module in kept.items():
        prefix = f'{name}.' if name else ''
        own, known = _tensors(module), _tensors(old[name])
        for key in own.keys() | known.keys():
            one, other = known.get(key), own.get(key)
            if one is not None and other is None:
                shapes[prefix + key] = None
            elif other is not None and (one is None or one.shape != other.shape):
                shapes[prefix + key] = list(other.shape)
        now, then = _attributes(module), _attributes(old[name])
        if changed := {key: value for key, value in now.items() if key not in then or then[key] != value}:
            attributes[name] = changed
    found = dict(layers=layers, kinds=kinds, children=children, shapes=shapes, attributes=attributes)
    return {key: value for key, value in found.items() if value}


def resize(network: nn.Module, sizes: Mapping[str, Any]) -> nn.Module:
    """Give a network the structure of another, in place; the values of what changes mean nothing.

    Args:
        network: Of the same structure as ``before`` was in :func:`difference`.
        sizes: Of :func:`difference`.

    Returns:
        nn.Module: The network.

    Raises:
        ArtefactError: The network has no such module, or a layer is not registered.
    """
    for name, settings in sizes.get('layers', {}).items():
        path, _, own = name.rpartition('.')
        layer = _build(settings)
        _submodule(network, path)._modules[own] = layer.train(network.training)
    for name, kind in sizes.get('kinds', {}).items():
        layer = _submodule(network, name)
        if not issubclass(_registered(kind), type(layer)):
            raise ArtefactError(f"'{name}' is a {type(layer).__name__}, for which no {kind} stands in.")
        layer.__class__ = _registered(kind)
    for name, order in sizes.get('children', {}).items():
        module = _submodule(network, name)
        missing = [child for child in order if child not in module._modules]
        if missing:
            raise ArtefactError(f"'{name}' has no '{missing[0]}' to keep.")
        kept = {child: module._modules[child] for child in order}
        module._modules.clear()
        module._modules.update(kept)
    tied: dict[int, list[str]] = {}
    for key, parameter in network.named_parameters(remove_duplicate=False):
        tied.setdefault(id(parameter), []).append(key)
    for key, shape in sizes.get('shapes', {}).items():
        _reshape(network, key, shape)
    for first, *others in tied.values():
        for key in others:
            _tie(network, first, key)
    for name, values in sizes.get('attributes', {}).items():
        for key, value in values.items():
            if key.startswith('__'):
                raise ArtefactError(f"'{key}' is no attribute to set.")
            old = getattr(_submodule(network, name), key, None)
            setattr(_submodule(network, name), key, value if not isinstance(value, list) or isinstance(old, list)
                    else tuple(value))
    return network


def _reshape(network: nn.Module, key: str, shape: list[int] | None) -> None:
    path, _, own = key.rpartition('.')
    module = _submodule(network, path)
    table = module._buffers if own in module._buffers else module._parameters
    if shape is None:
        table[own] = None
        return
    # Without memory until real values come: a file may claim any shape.
    like = next((tensor for tensor in (table.get(own), *module.parameters(), *network.parameters())
                 if tensor is not None), torch.zeros(()))
    value = torch.zeros((), dtype=like.dtype, device=like.device).expand(shape)
    table[own] = value if table is module._buffers else nn.Parameter(value, requires_grad=like.requires_grad)


def _tie(network: nn.Module, first: str, key: str) -> None:
    """Let two names stand for one parameter again, where they have the same shape."""
    (path, _, own), (first_path, _, first_own) = key.rpartition('.'), first.rpartition('.')
    module, known = _submodule(network, path), _submodule(network, first_path)._parameters[first_own]
    if known is not None and module._parameters[own] is not None and module._parameters[own].shape == known.shape:
        module._parameters[own] = known


def _submodule(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError as error:
        names = [known for known, _ in network.named_modules()]
        raise ArtefactError(f"{type(network).__name__} has no module '{name}'. {nearest(name, names)}") from error


def _settings(name: str, layer: nn.Module) -> dict[str, Any]:
    if type(layer) is nn.Identity:
        return dict(type='Identity')
    LAYERS.import_from_location()
    for kind, registered in LAYERS.module_dict.items():
        if type(layer) is registered:
            return dict(type=kind, **layer.settings())
    raise ArtefactError(f"'{name}' is a {type(layer).__name__}, which the network was not made of. Only layers "
                        'registered in mmreuse.registry.LAYERS can be rebuilt.')


def _build(settings: Mapping[str, Any]) -> nn.Module:
    options = {key: value for key, value in settings.items() if key != 'type'}
    return nn.Identity() if settings['type'] == 'Identity' else _registered(settings['type'])(**options)


def _registered(kind: str) -> type[nn.Module]:
    LAYERS.import_from_location()
    if kind not in LAYERS.module_dict:
        raise ArtefactError(f"there is no layer '{kind}'. {nearest(kind, LAYERS.module_dict)}")
    return LAYERS.module_dict[kind]


def _kind_of(module: nn.Module, old: nn.Module) -> str | None:
    """Name of a registered type that stands in for the one it derives from, with the same parameters."""
    if type(module) is type(old) or not isinstance(module, type(old)):
        return None
    LAYERS.import_from_location()
    return next((kind for kind, registered in LAYERS.module_dict.items() if type(module) is registered), None)


def _tensors(module: nn.Module) -> dict[str, torch.Tensor | None]:
    return {**module._parameters, **module._buffers}


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return the plain attributes of a module beside parameters and modules; tuples as lists, as JSON has them."""
    found = {}
    for key, value in vars(module).items():
        if isinstance(value, tuple | list) and all(isinstance(each, _PLAIN) for each in value):
            found[key] = list(value)
        elif isinstance(value, _PLAIN):
            found[key] = value
    return {key: value for key, value in found.items() if key not in _IGNORED and not key.startswith('__')}
