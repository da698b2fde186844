"""Building a network by its name in a library, with errors that say what there is instead."""
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from mmengine.utils import get_object_from_string
from torch import nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.networks.network_file import skeleton
from mmreuse.registry import BASES, MODELS
from mmreuse.utils.names import nearest, refuse_other


def construct(key: str, library: str, model: str, args: dict[str, Any]) -> nn.Module:
    """Build a network with random weights.

    Args:
        key: Whose network it is, for messages.
        library: One of :data:`LIBRARIES`.
        model: Name in the library; for 'local' a registered name (with scope where it is not
            mmreuse's own) or an import path ``package.module.Class``; for 'network_file' its path.
        args: Keywords for the constructor.

    Raises:
        ConfigError: The library, model or an argument does not exist.
    """
    refuse_other(f"zoo entry '{key}': library", library, LIBRARIES)
    try:
        return LIBRARIES[library](key, model, args)
    except (TypeError, ValueError, LookupError, AssertionError) as error:
        raise ConfigError(f"zoo entry '{key}': {library} cannot build '{model}' from {args}: {error}. "
                          f'Correct args.') from error


def _base(library: str, key: str, model: str, args: dict[str, Any]) -> nn.Module:
    try:
        return BASES.module_dict[library]().build(model, args)
    except ArtefactError as error:
        raise ConfigError(f"zoo entry '{key}': {error}") from error


def _mmpretrain(key: str, model: str, args: dict[str, Any]) -> nn.Module:
    from mmpretrain import models  # noqa: F401 (fills the registry)
    from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
    constructor = MMPRETRAIN_MODELS.get(model)
    if constructor is None:
        raise _unknown(key, 'mmpretrain', model, MMPRETRAIN_MODELS.module_dict)
    return constructor(**args)


def _local(key: str, model: str, args: dict[str, Any]) -> nn.Module:
    constructor = MODELS.get(model) or _import(model)
    if constructor is None:
        raise _unknown(key, 'local', model, MODELS.module_dict)
    return constructor(**args)


def _network_file(key: str, model: str, args: dict[str, Any]) -> nn.Module:
    return skeleton(model, **args)


def _import(path: str) -> Callable[..., nn.Module] | None:
    if '.' not in path:
        return None
    try:
        found = get_object_from_string(path)
    except (ImportError, ValueError):
        return None
    return found if inspect.isroutine(found) or inspect.isclass(found) else None


def _unknown(key: str, library: str, model: str, known: Iterable[str]) -> ConfigError:
    return ConfigError(f"zoo entry '{key}': {library} has no model '{model}'. {nearest(model, known)}")


#: How each library builds a network.
LIBRARIES: dict[str, Callable[[str, str, dict[str, Any]], nn.Module]] = {
    'timm': partial(_base, 'timm'), 'torchvision': partial(_base, 'torchvision'),
    'mmpretrain': _mmpretrain, 'local': _local, 'network_file': _network_file}
