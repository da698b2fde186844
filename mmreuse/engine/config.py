"""Config files: read, merged with the command line, and checked."""
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

import mmreuse.registry as registries
from mmreuse.errors import ConfigError
from mmreuse.utils.names import nearest

#: Keys that mmengine's Runner and the tools read from a config.
RUNNER_KEYS = frozenset((
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level',
    'visualizer', 'default_scope', 'randomness', 'experiment_name', 'runner_type', 'custom_imports',
    'trust_checkpoint', 'load_strict'))
_NOT_REGISTERED = re.compile(r'(?P<name>[\w.]+) is not in the (?:\w+::)?(?P<kind>[\w ]+) registry')


def load_config(path: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config and merge the options of the command line into it.

    Args:
        path: Config file.
        options: Dotted key to value, as ``--cfg-options`` gives them.

    Returns:
        Config: Merged.

    Raises:
        ConfigError: No such file, or a key that looks like a misspelling of one that exists.
    """
    if not Path(path).is_file():
        similar = {str(file): file.name for file in Path('configs').glob('*/**/*.py')}
        close = get_close_matches(Path(path).name, similar.values(), n=3)
        hint = [file for file, name in similar.items() if name in close]
        raise ConfigError(f'{path}: there is no such file. ' + (f'Nearest: {", ".join(hint[:3])}.' if hint else ''))
    cfg = Config.fromfile(path)
    for key in options or {}:
        _check_option(cfg, key)
    cfg.merge_from_dict(dict(options or {}))
    for key in cfg:
        close = get_close_matches(key, RUNNER_KEYS, n=1, cutoff=0.88)
        if close and close[0] != key and close[0] not in cfg:
            raise ConfigError(f"{path}: nothing reads the key '{key}'. Nearest: '{close[0]}'.")
    return cfg


@contextmanager
def named_components(cfg: Config) -> Iterator[None]:
    """Turn mmengine's error about a component that is not registered into one that names the nearest.

    Raises:
        ConfigError: The config names a component that is not registered.
    """
    try:
        yield
    except KeyError as error:
        match = _NOT_REGISTERED.search(str(error))
        if match is None:
            raise
        raise ConfigError(f"{cfg.filename}: there is no {match['kind']} '{match['name']}'. "
                          + nearest(match['name'], _registered(match['kind']))) from error


def _check_option(cfg: Config, dotted: str) -> None:
    """Refuse an option that misses an existing key by a letter; new keys are allowed."""
    level: Any = cfg
    for part in dotted.split('.'):
        if not isinstance(level, Mapping | Config):
            return
        if part not in level:
            known = [str(key) for key in level] + (sorted(RUNNER_KEYS) if level is cfg else [])
            close = get_close_matches(part, known, n=1, cutoff=0.8)
            if close and close[0] != part:
                raise ConfigError(f"--cfg-options {dotted}: there is no '{part}'. Nearest: '{close[0]}'.")
            return
        level = level[part]


def _registered(kind: str) -> set[str]:
    """Names that may stand where a component of this kind was not found."""
    ours = next((value for value in (*vars(registries).values(), *registries.INHERITED)
                 if isinstance(value, Registry) and value.name == kind), None)
    if ours is None:
        return set()
    family = [ours, ours.parent, *ours.parent.children.values()]
    return {name if member in (ours, ours.parent) else f'{member.scope}.{name}'
            for member in family for name in member.module_dict}
