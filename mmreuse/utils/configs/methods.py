"""Methods by name, checked before time is spent."""
import inspect
from collections.abc import Callable, Mapping, Sequence

from mmreuse.errors import ConfigError
from mmreuse.registry import Method, MethodRegistry
from mmreuse.utils.names import nearest, refuse_unknown, shown

#: A name, ``dict(type=NAME, **options)``, a function, or a :class:`mmreuse.registry.Method`.
MethodLike = str | Mapping | Callable


def find_method(registry: MethodRegistry, method: MethodLike) -> Method:
    """Return a method with its options bound.

    Args:
        registry: Where it is registered.
        method: Name, ``dict(type=NAME, **options)``, or a function, whose needs are read from its signature unless it
            is registered.

    Raises:
        ConfigError: There is none of that name, it has no such option, or it is no method at all.
    """
    if callable(method):
        return registry.method(method)
    if not isinstance(method, str | Mapping):
        raise ConfigError(f'{registry.name} = {shown(method)} is none. Give its name, or dict(type=NAME, ...).')
    cfg = dict(type=method) if isinstance(method, str) else dict(method)
    try:
        found = registry.build(cfg)
    except KeyError as error:
        raise ConfigError(f"there is no {registry.name} '{cfg.get('type')}'. "
                          f'{nearest(str(cfg.get("type")), registry.module_dict)}') from error
    refuse_unknown(f"{registry.name} '{found.name}'", found.options, found.settable)
    return found


def method_name(method: MethodLike) -> str:
    """Return the name of a method, however it was given."""
    if isinstance(method, Mapping):
        method = method['type']
    if isinstance(method, Method):
        return method.name
    return method if isinstance(method, str) else getattr(method, '__name__', str(method))


def options_of(other: Callable, *, without: Sequence[str] = ()) -> Callable[[Callable], Callable]:
    """Give a function that hands its ``**options`` on to another the keywords of that one, for checks and ``help()``.

    Args:
        other: The function that takes them.
        without: Those that cannot be given.
    """
    handed = [each for each in inspect.signature(other).parameters.values()
              if each.kind is each.KEYWORD_ONLY and each.name not in without]

    def decorate(function: Callable) -> Callable:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=[*own, *handed])
        function.__annotations__ = {**function.__annotations__, **{each.name: each.annotation for each in handed}}
        return function

    return decorate
