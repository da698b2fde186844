"""Configs as the tools take them: a file, merged with the options of the command line."""
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config

from mmreuse.errors import ConfigError
from mmreuse.utils.configs.files import read_config, referred_variables
from mmreuse.utils.configs.keys import READ_KEYS
from mmreuse.utils.names import nearest


def load_config(path: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config and merge the options of the command line into it.

    Args:
        path: Config file.
        options: Dotted key to value, as ``--cfg-options`` gives them.

    Returns:
        Config: Merged.

    Raises:
        ConfigError: The file cannot be read, or an option has no place in it.
    """
    cfg = read_config(path)
    if not options:
        return cfg
    referred = referred_variables(path)
    for key in options:
        _check_option(cfg, key, referred)
    try:
        return read_config(path, options)
    except (TypeError, KeyError, ValueError) as error:
        raise ConfigError(f'{path}: --cfg-options {" ".join(options)}: cannot be merged into the config '
                          f'({" ".join(str(error).split())}). Give a value of the kind that is there.') from error


def _check_option(cfg: Config, dotted: str, referred: Collection[str]) -> None:
    """Refuse an option that has no place: one that nothing reads, into a value, or behind a list's end.

    New keys of sections are allowed, unless they miss an existing one by a letter; ``min_`` beside ``max_`` does not.
    """
    level: Any = cfg
    parts = dotted.split('.')
    if parts[0] not in READ_KEYS and parts[0] not in referred:
        where = f" Its value is used where the file is written: name that place, not '{parts[0]}'." \
            if parts[0] in cfg else ''
        raise ConfigError(f"--cfg-options {dotted}: nothing reads the key '{parts[0]}'.{where} "
                          f'{nearest(parts[0], READ_KEYS)}')
    for place, part in enumerate(parts):
        above = '.'.join(parts[:place])
        if isinstance(level, list):
            if not part.isdecimal() or int(part) >= len(level):
                raise ConfigError(f"--cfg-options {dotted}: '{above}' is a list of {len(level)}, and '{part}' is none "
                                  f'of its places 0 to {len(level) - 1}. Give the whole list: {above}="[...]".')
            level = level[int(part)]
        elif isinstance(level, Mapping | Config):
            if part not in level:
                known = [str(key) for key in level] + (sorted(READ_KEYS) if level is cfg else [])
                close = get_close_matches(part, known, n=1, cutoff=0.8)
                if close and close[0] != part and {part[:4], close[0][:4]} != {'min_', 'max_'}:
                    raise ConfigError(f"--cfg-options {dotted}: there is no '{part}'. Nearest: '{close[0]}'.")
                return
            level = level[part]
        elif level is None:
            return
        else:
            raise ConfigError(f"--cfg-options {dotted}: '{above}' is {level!r}, which has no '{part}'. Give "
                              f'{above}=VALUE.')
