"""Registered functions by name, checked before time is spent."""
import inspect
from collections.abc import Callable, Mapping

from mmengine.registry import Registry

from mmreuse.errors import ConfigError
from mmreuse.utils.names import nearest

Method = str | Mapping | Callable


def find_method(registry: Registry, method: Method) -> Callable:
    """The function that a config names, its options bound.

    Args:
        registry: Of plain functions.
        method: Name, ``dict(type=NAME, **options)``, or a function, which is returned as it is.

    Raises:
        ConfigError: There is none of that name, or it has no such option.
    """
    if callable(method):
        return method
    cfg = dict(type=method) if isinstance(method, str) else dict(method)
    try:
        function = registry.build(cfg)
    except KeyError as error:
        raise ConfigError(f"there is no {registry.name} '{cfg.get('type')}'. "
                          f'{nearest(str(cfg.get("type")), registry.module_dict)}') from error
    options = [name for name, parameter in inspect.signature(function.func).parameters.items()
               if parameter.kind is parameter.KEYWORD_ONLY]
    unknown = [name for name in function.keywords if name not in options]
    if unknown:
        raise ConfigError(f"{registry.name} '{cfg['type']}' has no option '{unknown[0]}'. "
                          + (nearest(unknown[0], options) if options else 'It has none.'))
    return function


def method_name(method: Method) -> str:
    """Return the name of a method, however it was given."""
    if isinstance(method, Mapping):
        method = method['type']
    return method if isinstance(method, str) else getattr(getattr(method, 'func', method), '__name__', str(method))


def takes(function: Callable, parameter: str) -> bool:
    """Whether a function, or one with options bound, has a parameter of this name."""
    return parameter in inspect.signature(function).parameters
