"""Pages of methods and config keys, written from the docstrings of what is registered when the site is built."""
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from mmreuse import registry

FOLDER = Path(__file__).parent / 'en' / 'reference'
METHODS = ('JOBS', 'MATCHERS', 'MERGERS', 'RENORMALIZERS', 'SALIENCIES', 'PROXIES', 'SIMILARITIES', 'TEACHERS',
           'ENGINES', 'ATTACKS')
COMPONENTS = {'RUNNERS': 'Runners', 'HOOKS': 'Hooks', 'MODELS': 'Models', 'DATASETS': 'Data sets',
              'TRANSFORMS': 'Transforms', 'METRICS': 'Metrics'}
_ARGUMENT = re.compile(r'^(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?: (?P<text>.*)$')
_REFERENCE = re.compile(r':(?:func|class):`~?([\w.]+)`')
_ROLE = re.compile(r':\w+:`~?([^`]+)`')


def prose(text: str) -> str:
    """Return text of a docstring as Markdown on one line."""
    text = _ROLE.sub(lambda role: f'`{role[1]}`', ' '.join(text.split()))
    return text.replace('``', '`').replace('|', '\\|')


def described(documented: object, known: tuple[object, ...] = ()) -> dict[str, str]:
    """Return what a docstring says of each argument, or else those of base classes and of what it refers to."""
    found: dict[str, str] = {}
    said, place = inspect.getdoc(documented) or '', inspect.getmodule(documented)
    others = [_named(name, place) for name in _REFERENCE.findall(said)]
    if inspect.isclass(documented):
        others = [*documented.__mro__[1:-1], *others]
    for other in reversed(others):
        if callable(other) and other not in known and other is not documented:
            found |= described(other, (*known, documented))
    return found | arguments_of(documented)


def _named(name: str, place: ModuleType | None) -> object:
    module, _, attribute = name.rpartition('.')
    if not module:
        return getattr(place, attribute, None)
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError:  # a method of a class, which has no keys of a config
        return None


def arguments_of(documented: object) -> dict[str, str]:
    """Return what a docstring says of each argument."""
    found: dict[str, str] = {}
    lines = (inspect.getdoc(documented) or '').splitlines()
    start = next((number for number, line in enumerate(lines, 1) if line in ('Args:', 'Attributes:')), len(lines))
    names: list[str] = []
    for line in lines[start:]:
        if line and not line.startswith(' '):
            break
        match = _ARGUMENT.match(line[4:])
        if match and not line[4:].startswith(' '):
            names = [name.strip('* ') for name in match['names'].split(',')]
            found |= dict.fromkeys(names, match['text'])
        else:
            found |= {name: f'{found[name]} {line.strip()}' for name in names}
    return {name: prose(text) for name, text in found.items()}


def summary(documented: object) -> str:
    """Return the first paragraph of a docstring."""
    return prose(inspect.getdoc(documented).split('\n\n')[0])


def table(function: Callable, names: list[str]) -> Iterator[str]:
    """Yield the lines of a table of options with defaults."""
    parameters, said = inspect.signature(function).parameters, described(function)
    if names:
        yield from ('', '| key | default | |', '|---|---|---|')
    for name in names:
        default = parameters[name].default
        shown = 'required' if default is inspect.Parameter.empty else f'`{default!r}`'.replace('|', '\\|')
        yield f'| `{name}` | {shown} | {said.get(name, "")} |'


def methods_page() -> str:
    """Return the page of all registered functions."""
    lines = ['# Methods and their options', '', 'What a config or a call names by `type`, or by its name alone. '
             '*Given* is what a run passes to it; everything else is an option.']
    for kind in METHODS:
        methods = getattr(registry, kind)
        methods.import_from_location()
        lines += ['', f'## {kind.capitalize()}']
        for name, function in sorted(methods.module_dict.items()):
            if not function.__module__.startswith('mmreuse'):
                continue
            method = methods.method(function)
            lines += ['', f'### {methods.name} {name}', '', summary(function)]
            if method.needs:
                lines += ['', 'Given: ' + ', '.join(f'`{each}`' for each in method.needs) + '.']
            lines += table(function, [key for key in method.settable if key not in method.needs])
    return '\n'.join(lines) + '\n'


def keys_page() -> str:
    """Return the page of all registered classes of mmreuse."""
    lines = ['# Config keys', '', 'What each component of mmreuse takes in a config, key by key. Components of '
             'mmengine and mmpretrain are documented there.']
    for kind, title in COMPONENTS.items():
        components = getattr(registry, kind)
        components.import_from_location()
        lines += ['', f'## {title}']
        for name, component in sorted(components.module_dict.items()):
            if not component.__module__.startswith('mmreuse') or not inspect.isclass(component):
                continue
            lines += ['', f'### {name}', '', summary(component)]
            if kind == 'RUNNERS':  # their keys are sections of the config, told in words
                for paragraph in inspect.getdoc(component).split('\n\n')[1:]:
                    if not paragraph.startswith(('Args:', 'Raises:')):
                        lines += ['', *(prose(each) for each in re.split(r'\n(?=- )', paragraph))]
            else:
                names = [key for key, each in inspect.signature(component).parameters.items()
                         if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
                lines += table(component, names)
    return '\n'.join(lines) + '\n'


PAGES = {'methods.md': methods_page, 'config_keys.md': keys_page}


def write_pages() -> None:
    """Write all pages into the folder of the reference."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding='utf-8')
