"""Resolve a config's ``type``, and the keywords that it takes."""
import ast
import inspect
import math
import re
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mmengine.registry import Registry
from mmengine.utils import get_object_from_string

import mmreuse.registry as registries
from mmreuse.errors import ConfigError
from mmreuse.utils.names import misspells, nearest, shown

_SUPER = re.compile(r'super\(.*\)\.__init__')
#: Packages whose registries may be named in a config.
SCOPES = ('mmreuse', 'mmpretrain', 'mmengine', 'mmcv')


@cache
def all_registries() -> tuple[Registry, ...]:
    """Every registry that a config's components stand in, filled."""
    own = [each for each in (*vars(registries).values(), *registries.INHERITED) if isinstance(each, Registry)]
    roots = [each for each in vars(registries.root).values() if isinstance(each, Registry)]
    for registry in own:
        registry.import_from_location()
    return tuple({id(each): each for each in (*own, *roots)}.values())


def find_registered(name: str, registry: Registry, scope: str | None = None) -> Callable | None:
    """Return what is registered as ``name``, looked up as mmengine does; nothing is imported by its path.

    Args:
        name: With or without a scope.
        registry: One of mmreuse's, or one of mmengine's.
        scope: The ``_scope_`` beside the name.

    Returns:
        Callable | None: None where nothing is.
    """
    own, _, key = name.rpartition('.')
    family = _family(registry)
    if own:
        return family[own].module_dict.get(key) if own in family else None
    for each in dict.fromkeys((scope, 'mmreuse', 'mmengine', 'mmpretrain')):
        if each in family and key in family[each].module_dict:
            return family[each].module_dict[key]
    return None


def registered_names(registry: Registry) -> set[str]:
    """All names that :func:`find_registered` finds, those of mmpretrain with their scope."""
    return {name if scope in ('mmreuse', 'mmengine') else f'{scope}.{name}'
            for scope, member in _family(registry).items() for name in member.module_dict}


def _family(registry: Registry) -> dict[str, Registry]:
    """Return the registries of one kind by scope."""
    root = registry.parent or registry
    if root is registry and registry.scope == registries.SCOPE:  # a registry of mmreuse's own kinds
        registry.import_from_location()
        return {registry.scope: registry}
    family = {'mmengine': root, **root.children}
    for member in family.values():
        member.import_from_location()
    return {scope: member for scope, member in family.items() if scope in SCOPES}


def refuse_code(values: Any, file: str) -> None:
    """Refuse what would run code in a config that is data.

    Raises:
        ConfigError: A ``type`` is not registered, a scope is of another package, or another file that is code is named.
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            _refuse_value(key, value, values, file)
            refuse_code(value, file)
    elif isinstance(values, list | tuple):
        for value in values:
            _refuse_value('an entry', value, {}, file)
            refuse_code(value, file)


def _refuse_value(key: str, value: Any, beside: Mapping[str, Any], file: str) -> None:
    problem = None
    if key in ('type', 'runner_type', 'constructor') or key == 'model' and beside.get('library') == 'local':
        if not isinstance(value, str) or not any(
                find_registered(value, registry, beside.get('_scope_')) for registry in all_registries()):
            problem = 'which is no registered component'
    elif key in ('_scope_', 'default_scope') and value not in SCOPES:
        problem = f'and scopes are {", ".join(SCOPES)}'
    elif isinstance(value, str) and value.endswith('.py'):
        problem = 'which is code'
    if problem:
        raise ConfigError(f"{file}: {key} = '{value}', {problem}. A config in YAML or JSON, or in a network file, is "
                          'data: it cannot name objects by their import path, nor run files. Write a Python config for '
                          'that.')


def find_component(name: str | Callable, registry: Registry | None, scope: str | None = None) -> Callable | None:
    """Return what a ``type`` names: registered, or by the path that it is imported from.

    Args:
        name: The name; what is callable is returned as it is.
        registry: Where it stands; None for any.
        scope: The ``_scope_`` beside the name.
    """
    if callable(name):
        return name
    for each in [registry] if registry is not None else all_registries():
        found = find_registered(name, each, scope)
        if found is not None:
            return found
    if '.' not in name:
        return None
    try:
        found = get_object_from_string(name)
    except Exception:  # a module that raises while it is imported has no component to offer
        return None
    return found if callable(found) else None


def check_keywords(place: str, component: Callable, given: Mapping[str, Any], *, more: Iterable[str] = (),
                   given_by_code: Iterable[str] | None = ()) -> None:
    """Check keywords against a signature.

    Args:
        place: File and keys, for the error.
        component: Class or function.
        given: Keywords of the config.
        more: Keywords that who builds the component takes out before.
        given_by_code: Parameters that who builds the component adds; None for any.

    Raises:
        ConfigError: A keyword is not taken or missing, or a value is of another kind than a component of mmreuse takes.
    """
    parameters, required, is_open = parameters_of(component)
    name = getattr(component, '__name__', str(component))
    known = {*parameters, *more}
    unknown = [key for key in given if key not in known and (not is_open or misspells(key, known - {*given}))]
    if unknown:
        raise ConfigError(f"{place}: {name} takes no '{unknown[0]}'. "
                          + (nearest(unknown[0], known) if known else 'It takes no keywords.'))
    missing = [] if given_by_code is None else [key for key in required if key not in given
                                                and key not in given_by_code]
    if missing:
        raise ConfigError(f"{place}: {name} needs '{missing[0]}'. Add {missing[0]}=...")
    if getattr(component, '__module__', '').startswith('mmreuse.'):
        for key, hint in _hints(component).items():
            if key in given and not _fits(given[key], hint):
                raise ConfigError(f'{place}.{key} = {shown(given[key])}: {name} takes {_words(hint)}. Give one of that '
                                  'kind.')


@cache
def parameters_of(component: Callable) -> tuple[dict[str, inspect.Parameter], tuple[str, ...], bool]:
    """Return the keywords that a class or function takes, those it needs, and whether it takes any other.

    Where a class hands its ``**kwargs`` to its base class and does nothing else with them, those of the base count.
    """
    found: dict[str, inspect.Parameter] = {}
    required: tuple[str, ...] | None = None
    for function in _constructors(component):
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # written in C
            return found, required or (), True
        named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
        named = named[1:] if inspect.isclass(component) else named
        for each in named:
            found.setdefault(each.name, each)
        if required is None:
            required = tuple(each.name for each in named if each.default is each.empty)
        rest = next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), None)
        if rest is None:
            return found, required, False
        if not inspect.isclass(component) or not _handed_on(function, rest):
            return found, required, True
    return found, required or (), False


def _constructors(component: Callable) -> list[Callable]:
    if not inspect.isclass(component):
        return [component]
    return [vars(cls)['__init__'] for cls in component.__mro__ if cls is not object and '__init__' in vars(cls)]


def _handed_on(function: Callable, name: str) -> bool:
    """Return whether a function uses its ``**name`` in the call of ``super().__init__`` only."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    inside = [each for node in ast.walk(tree) if isinstance(node, ast.Call)
              and _SUPER.fullmatch(ast.unparse(node.func)) for each in ast.walk(node)]
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]
    return bool(uses) and all(any(use is each for each in inside) for use in uses)


@cache
def _hints(component: Callable) -> dict[str, Any]:
    try:
        return get_type_hints(_constructors(component)[0])
    except (NameError, TypeError, IndexError):
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value fits a type hint, as far as hints of numbers, texts and sequences of them go."""
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if hint is str:
        return isinstance(value, str)
    if hint is type(None):
        return value is None
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return value in inner
    if origin in (list, tuple, Sequence) or hint in (list, tuple):
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and inner and Ellipsis not in inner:
            return len(value) == len(inner) and all(map(_fits, value, inner))
        return not inner or all(_fits(each, inner[0]) for each in value)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        return isinstance(value, Mapping)
    return True


def _words(hint: Any) -> str:
    if not get_args(hint):
        return getattr(hint, '__name__', str(hint))
    return re.sub(r'\b(\w+\.)+', '', str(hint))
