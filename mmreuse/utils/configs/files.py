"""Config files as they are read from disk: Python files are code, YAML and JSON files are data."""
import ast
import json
import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from mmengine.config import Config

from mmreuse.errors import ConfigError
from mmreuse.utils.configs.components import refuse_code
from mmreuse.utils.configs.references import referred_names, resolve_references
from mmreuse.utils.files.paths import shipped
from mmreuse.utils.names import nearest

_CODE, _DATA = ('.py',), ('.yml', '.yaml', '.json')
#: An environment variable with a default, as mmengine's configs write it: {{$NAME:default}}.
_ENVIRONMENT = re.compile(r'\{\{\s*\$(?P<name>\w+)\s*:\s*(?P<default>\S*?)\s*\}\}')
_OF_BASE = re.compile(r'_base_\.(\w+)')

#: Keys of which one, or ``--cfg-options``, chooses what else a config says.
_VARIANTS = {'variant', 'variants'}

T = TypeVar('T')


def read_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config and its bases, and merge options into it.

    A Python file is executed. YAML and JSON files are data: no tag in them makes an object, they import nothing, and
    their bases are data as well. References such as ``'${split_seed}'`` are replaced by what they stand for, see
    :mod:`mmreuse.utils.configs.references`; options for what is referred to change all that follows from it. Of
    ``variants``, a dictionary of changes, the one that ``variant`` names is merged into the config.

    Args:
        path: Config file, ``.py``, ``.yml``, ``.yaml`` or ``.json``.
        options: Dotted key to value.

    Returns:
        Config: Merged with its bases and the options.

    Raises:
        ConfigError: The file or one of its bases is missing, does not parse, includes itself or raises when it is
            executed; a YAML or JSON file asks for code; or a reference or the variant stands for nothing.
    """
    path = shipped(path)
    _find_file(path)
    if is_data(path):
        merged, text = _read_data(path, ())
        refuse_code(merged, str(path))
        cfg = _guarded(path, lambda: Config(merged, cfg_text=text, filename=str(path)))
    else:
        files = [file for file, _ in _sources(path, ())]
        cfg = _guarded(path, lambda: Config.fromfile(str(path)), files)
    options, referred = dict(options or {}), referred_variables(path)
    first = {key: options.pop(key) for key in list(options) if key.partition('.')[0] in referred}
    cfg.merge_from_dict(first)
    _choose_variant(cfg)
    resolve_references(cfg)
    cfg.merge_from_dict(options)
    return cfg


def _choose_variant(cfg: Config) -> None:
    """Merge the one of a config's ``variants`` that ``variant`` names into it.

    Raises:
        ConfigError: There is no such variant.
    """
    name, variants = cfg.pop('variant', None), cfg.pop('variants', {})
    if name is None and not variants:
        return
    if name not in variants:
        raise ConfigError(f'{cfg.filename}: variant = {name!r} is none of its variants. '
                          f'{nearest(str(name), variants)}')
    cfg.merge_from_dict(variants[name])


def referred_variables(path: str | Path) -> set[str]:
    """Return what a config is derived from: the names in references of it and its bases, and its variants."""
    path = shipped(path)
    if is_data(path):
        return referred_names(json.dumps(_read_data(Path(path), ())[0], default=str)) | _VARIANTS
    return _VARIANTS | {name for _, tree in _sources(path, ()) for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) for name in referred_names(node.value)}


def is_data(path: str | Path | None) -> bool:
    """Return whether a config file is data, not code."""
    return path is not None and Path(path).suffix in _DATA


def unused_variables(path: str | Path) -> set[str]:
    """Return the variables that a config sets itself and that neither it nor its bases read.

    What only helps to write a config stays in it under its name, ``train_pipeline`` for instance. Bases may set what
    some of the configs that inherit from them do without.
    """
    path = shipped(path)
    if is_data(path):
        return {key for key in _read_data(path, ())[0].keys() - referred_variables(path)
                if not key.startswith('_')}
    trees = [tree for _, tree in _sources(path, ())]
    names = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)]
    used = {name.id for name in names if isinstance(name.ctx, ast.Load)}
    used |= {name for tree in trees for name in _OF_BASE.findall(ast.unparse(tree))} | referred_variables(path)
    own = {node.id for node in ast.walk(trees[0]) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return {name for name in own - used if not name.startswith('_')}


def _find_file(path: Path) -> None:
    if path.is_dir():
        raise ConfigError(f'{path}: is a folder. Name one of the config files in it.')
    if not path.is_file():
        similar = {str(file): file.name for file in Path('configs').glob('*/**/*.py')}
        close = get_close_matches(path.name, similar.values(), n=3)
        hint = [file for file, name in similar.items() if name in close]
        raise ConfigError(f'{path}: there is no such file. '
                          + (f'Nearest: {", ".join(hint[:3])}.' if hint else 'Give the path of a config.'))
    if path.suffix not in (*_CODE, *_DATA):
        raise ConfigError(f"{path}: is no config, whose names end in {', '.join((*_CODE, *_DATA))}. Name another file.")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: cannot be read as text ({error}). Configs are UTF-8.') from error


def _find_base(base: Any, path: Path, above: tuple[Path, ...]) -> Path:
    """Return the file that an entry of ``_base_`` means.

    Raises:
        ConfigError: There is none, or it is among those that include it.
    """
    if not isinstance(base, str):
        raise ConfigError(f'{path}: _base_ = {base!r}: give the path of a config, or a list of paths.')
    found = path.parent / base
    if not found.is_file():
        raise ConfigError(f"{path}: _base_ names '{base}', and there is no file {found}. Paths are relative to the "
                          'config that names them.')
    chain = [*above, path]
    if any(found.samefile(each) for each in chain):
        raise ConfigError(f'{path}: includes itself: {" -> ".join(map(str, [*chain, found]))}. Take the file out of '
                          'the last _base_.')
    return found


def _sources(path: Path, above: tuple[Path, ...]) -> Iterator[tuple[Path, ast.Module]]:
    """Yield a Python config and its bases, parsed.

    Raises:
        ConfigError: One of them is missing, does not parse or includes itself.
    """
    try:
        tree = ast.parse(_read_text(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f'line {error.lineno}: {error.msg}' if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(f'{path}: does not parse as Python ({line}). Mend that line.') from error
    yield path, tree
    for base in _bases_of(tree):
        if not isinstance(base, str) or not ('::' in base or '{{' in base):  # those mmengine finds
            found = _find_base(base, path, above)
            if is_data(found):
                _read_data(found, (*above, path))
            else:
                yield from _sources(found, (*above, path))


def _bases_of(tree: ast.Module) -> list[Any]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(name, ast.Name) and name.id == '_base_'
                                                for name in node.targets):
            try:
                bases = ast.literal_eval(node.value)
            except ValueError:  # computed: mmengine evaluates it
                return []
            return list(bases) if isinstance(bases, list | tuple) else [bases]
    return []


def _read_data(path: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], str]:
    """Return a YAML or JSON config merged over its bases, and their text."""
    text = _read_text(path)
    try:
        values = json.loads(text) if path.suffix == '.json' else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        cause = ' '.join(str(error).split())
        raise ConfigError(f'{path}: is no plain {"JSON" if path.suffix == ".json" else "YAML"} ({cause}). Such configs '
                          'are data and hold no Python objects; write a Python config if you need them.') from error
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f'{path}: must hold keys and their values, such as "model: ...".')
    if not _fits(values, 100 * len(text) + 10_000):
        raise ConfigError(f'{path}: stands for far more than its {len(text)} letters, as its aliases repeat one '
                          'another. Write out what they stand for.')
    values = _with_environment(dict(values))
    for key in ('custom_imports', 'trust_checkpoint', 'trust_code'):
        if values.get(key):
            raise ConfigError(f"{path}: '{key}' runs code, and a {path.suffix} config is data. Put it into a Python "
                              'config.')
    bases = values.pop('_base_', None) or []
    merged: dict[str, Any] = {}
    texts = []
    for base in bases if isinstance(bases, list) else [bases]:
        found = _find_base(base, path, above)
        if not is_data(found):
            raise ConfigError(f"{path}: _base_ names '{base}', which is code, and a {path.suffix} config is data. "
                              'Write this config in Python as well.')
        own, own_text = _read_data(found, (*above, path))
        twice = merged.keys() & own.keys()
        if twice:
            raise ConfigError(f"{path}: two of its bases set '{min(twice)}'. Leave one of them out.")
        merged |= own
        texts.append(own_text)
    merged = _guarded(path, lambda: Config._merge_a_into_b(values, merged))
    return merged, '\n'.join([*texts, str(path), text])


def _fits(value: Any, most: int) -> bool:
    """Return whether a value has no more than so many parts, with every alias written out; without doing that."""
    known: dict[int, float] = {}

    def parts(each: Any) -> float:
        if not isinstance(each, Mapping | list):
            return 1
        if id(each) not in known:
            known[id(each)] = float('inf')  # of what holds itself
            known[id(each)] = 1 + sum(map(parts, each.values() if isinstance(each, Mapping) else each))
        return known[id(each)]

    return parts(value) <= most


def _with_environment(value: Any) -> Any:
    """Environment variables in place of their names, in values only."""
    if isinstance(value, str):
        return _ENVIRONMENT.sub(lambda found: os.environ.get(found['name'], found['default']), value)
    if isinstance(value, Mapping):
        return {key: _with_environment(each) for key, each in value.items()}
    return [_with_environment(each) for each in value] if isinstance(value, list) else value


def _guarded(path: Path, read: Callable[[], T], files: Sequence[Path] = ()) -> T:
    """Call ``read``, and turn its errors into errors of the config.

    Raises:
        ConfigError: It raises anything; names the file and the line, if it is in one of ``files``.
    """
    try:
        return read()
    except Exception as error:  # a config is code: anything may be raised in it
        known = {str(file.resolve()): file for file in files}
        places = [f'{known[str(Path(frame.filename).resolve())]}, line {frame.lineno}'
                  for frame in traceback.extract_tb(error.__traceback__)
                  if str(Path(frame.filename).resolve()) in known]
        place = places[-1] if places else str(path)
        cause = ' '.join(str(error).split())
        raise ConfigError(f'{place}: the config cannot be read: {type(error).__name__}: {cause}. Mend what it names.'
                          ) from error
