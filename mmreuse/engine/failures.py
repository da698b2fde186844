"""What goes wrong inside a component, told in one paragraph with the place in the config where it stands."""
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from inspect import unwrap
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmreuse.errors import ArtefactError, MMReuseError
from mmreuse.utils.configs.components import all_registries, find_registered

_CURRENT: ContextVar[Config | None] = ContextVar('current config', default=None)
#: Methods of the Runner that read a key of the config.
_READS = re.compile(r'_?(?:build|register|set|setup)_(\w+)')
#: How the functions that build a component call it.
_BUILT = ('obj_cls', 'scheduler_cls', 'cls')
_MOST = 3  # places that are named where one component stands at several


def runs_now(cfg: Config | None) -> None:
    """Note the config that errors from now on belong to; None before there is one."""
    _CURRENT.set(cfg)


def paragraph(error: Exception) -> str | None:
    """Tell an error in one paragraph that names the file and key of the config that runs; None if it is of neither.

    What mmreuse raises on purpose gets the file and key that it does not name itself. Anything else is told if it was
    raised while a component of the config was built or at work. With ``log_level = 'DEBUG'`` it is not, so that the
    traceback can be read.
    """
    cfg = _CURRENT.get()
    ours = isinstance(error, MMReuseError)
    kind, text = type(error).__name__, ' '.join(str(error).split())
    if ours and text.startswith('Caught '):  # in a loader's worker, which sends its traceback along
        text = text.rpartition(f'{kind}: ')[2]
    if cfg is None or not ours and cfg.get('log_level') == 'DEBUG':
        return f'{kind}: {text}' if ours else None
    found = _place(error, cfg)
    file = str(cfg.filename or 'config')
    if not ours:
        return found and (
            f'ConfigError: {file}: {found[0]}: {found[1]} fails with {kind}: {text.rstrip(".")} ({_origin(error)}). '
            f'Compare what is given there with the docstring of {found[1]}, and its data with what it is for; '
            '--cfg-options log_level=DEBUG shows the traceback.')
    if file in text or isinstance(error, ArtefactError) and found is None:
        return f'{kind}: {text}'
    return f'{kind}: {file}: {found[0]}: {text}' if found and found[0] not in text else f'{kind}: {file}: {text}'


def _place(error: BaseException, cfg: Config) -> tuple[str, str] | None:
    """Return the keys and the name of the innermost component that an error passed through."""
    components = list(_components(cfg.to_dict(), ''))
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if key := _key_of_runner(frame, cfg):
            return key, type(frame.f_locals['self']).__name__
        places = {place: name for place, name, candidates in components if any(_is_in(frame, each)
                                                                               for each in candidates)}
        if places:
            return ' or '.join(list(places)[:_MOST]), next(iter(places.values()))
    return None


def _components(value: Any, place: str) -> Iterator[tuple[str, str, list[Callable]]]:
    """Yield place, name and what may be meant by it, of every component at a place or below it."""
    if isinstance(value, Mapping):
        name = value.get('type')
        if isinstance(name, str):
            found = [find_registered(name, each, value.get('_scope_')) for each in all_registries()]
            yield place, name, [each for each in found if each is not None]
        for key, each in value.items():
            yield from _components(each, f'{place}.{key}' if place else str(key))
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _components(each, f'{place}[{number}]')


def _is_in(frame: FrameType, component: Callable) -> bool:
    """Return whether a component is built or at work in a frame."""
    if not isinstance(component, type):
        return getattr(unwrap(component), '__code__', None) is frame.f_code
    known = frame.f_locals
    return any(known.get(name) is component for name in _BUILT) or type(known.get('self')) is component


def _key_of_runner(frame: FrameType, cfg: Config) -> str | None:
    """Return the key of the config that a method of the Runner reads, such as ``build_optim_wrapper``."""
    found = _READS.fullmatch(frame.f_code.co_name) if isinstance(frame.f_locals.get('self'), Runner) else None
    keys = (found[1], found[1].replace('_loop', '_cfg'), f'{found[1]}_cfg', f'val_{found[1]}') if found else ()
    return next((key for key in keys if key in cfg), None)


def _origin(error: BaseException) -> str:
    """Return the file and line that raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    parts = Path(last.filename).parts
    below = parts[parts.index('site-packages') + 1:] if 'site-packages' in parts else parts[-3:]
    return f'{"/".join(below)}, line {last.lineno}'
