"""Shipped configs with one thing wrong."""
import random
import shutil
from argparse import Namespace
from functools import cache
from pathlib import Path
from typing import Any

from cases import Case
from mutations import any_mutation, at, damaged_text, places
from trial import ROOT, tool, trial
from workspace import DERIVED, SOURCES, Workspace, write_config

from mmreuse.engine.configs.config_check import check_config
from mmreuse.engine.launch import prepare, reported_errors

_PIPELINES = [path for path in DERIVED if '/pipelines/' in path or 'distill' in path]
_QUICK = [path for path in (*SOURCES, *DERIVED) if path not in _PIPELINES]
OTHERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('*.py')
                if not path.name.startswith('_') and '_base_' not in path.parts and 'digits' not in path.name)


def bad_config(workspace: Workspace, draw: random.Random, folder: Path) -> Case:
    """A config on the digits that is run, with anything in it changed."""
    path = draw.choice(_PIPELINES if draw.random() < 0.06 else _QUICK)
    values, place, kind = any_mutation(_values(workspace, path), draw)
    file = folder / Path(path).name
    write_config(file, values)

    def call() -> None:
        if path in DERIVED:
            shutil.copytree(workspace.result(path), folder / 'run')
        tool('train.py', file, '--work-dir', folder / 'run')

    return Case(f'{path}: {_dotted(place)}: {kind}: {_short(_found(values, place))}', call, files=[file.name],
                keys=_all_keys(values), changed=_keys(place, values))


def other_config(workspace: Workspace, draw: random.Random, folder: Path) -> Case:
    """Any other shipped config with anything changed, which is read and checked as a whole."""
    path = draw.choice(OTHERS)
    values, place, kind = any_mutation(_values(workspace, path), draw)
    file = folder / Path(path).name
    write_config(file, values)
    return Case(f'{path}: {_dotted(place)}: {kind}: {_short(_found(values, place))}', lambda: _check(file),
                files=[file.name], keys=_all_keys(values), changed=_keys(place, values))


def bad_text(workspace: Workspace, draw: random.Random, folder: Path) -> Case:
    """A config whose text is damaged, which is read and checked."""
    path = draw.choice([*_QUICK, *OTHERS])
    text, kind = damaged_text((ROOT / path).read_text(), draw)
    file = folder / Path(path).name
    text = text.replace("'./", f"'{(ROOT / path).parent}/").replace("'../", f"'{(ROOT / path).parent}/../")
    file.write_bytes(text.encode(errors='surrogateescape'))
    return Case(f'{path}: text: {kind}', lambda: _check(file), files=[file.name])


def _check(file: Path) -> None:
    with reported_errors():
        check_config(prepare(Namespace(config=str(file), work_dir=str(file.parent / 'run'), cfg_options=None, seed=None,
                                       launcher='none', local_rank=0)))


@cache
def _values(workspace: Workspace, path: str) -> dict[str, Any]:
    ending = trial(lambda: workspace.config(path), workspace.folder)
    if ending.kind != 'result':
        raise RuntimeError(f'{path}: {ending.message}')
    return ending.value


def _found(values: Any, place: tuple) -> Any:
    try:
        return at(values, place)
    except (KeyError, IndexError):
        return 'gone'


def _dotted(place: tuple) -> str:
    return '.'.join(map(str, place))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f'{text[:77]}...'


def _all_keys(values: Any) -> list[str]:
    return sorted({key for place in places(values) for key in place if isinstance(key, str)})


def _keys(place: tuple, values: Any) -> list[str]:
    """Return words of which a refusal has to use one: keys on the way, or what stands there now."""
    names = [str(key) for key in place if isinstance(key, str)]
    found = _found(values, place)
    return names + [str(found)] * (isinstance(found, str) and found != '' or isinstance(found, int | float))
