"""Hand hostile files to everything that reads files, found by walking signatures, parsers and configs.

    python tests/bad_input/hostile_walk.py --out hostile.json

Nothing may be executed or written outside, memory has to stay near the file's size, and each ends in a result or in an
error of mmreuse that names the file. Ctrl-C ends a walk with the counts of what was done.
"""
import argparse
import importlib
import inspect
import json
import os
import pkgutil
import random
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

sys.path.insert(0, str(Path(__file__).parent))
from bad_artefacts import subjects  # noqa: E402
from bad_command_lines import tools  # noqa: E402
from good_command_lines import HOLE, MORE, furnish_well, with_holes  # noqa: E402
from hostile_files import hostile_files  # noqa: E402
from mutations import at, places  # noqa: E402
from trial import Ending, tool, trial  # noqa: E402
from workspace import DERIVED, SOURCES, Workspace, warm_up, write_config  # noqa: E402

import mmreuse  # noqa: E402

#: Bytes by which a process may grow: what libraries take at first use, and a network file's base.
ROOM = 1.3 * 2 ** 30
_PER_BYTE = 20
_PATHS = re.compile(r'PathLike|\bPath\b')
_NAMES = ('path', 'file', 'source', 'of', 'config', 'checkpoint', 'reference', 'name')
_WRITES = re.compile(r'^(write|save|atomic|remove|flush|sole|append|class_folders|files_below|hash_folder)')
_MISSING = 'is-not-there'
#: Values of a config that name a file.
_FILE = re.compile(r'\.(pth|pkl|safetensors|npz|npy|csv|json|ya?ml|txt|onnx|whl|gz)$|^result://')


def readers() -> dict[str, Callable[[Path], Any]]:
    """Return the public functions of mmreuse that read the one file they are given, by their import path."""
    found = {}
    for info in pkgutil.walk_packages(mmreuse.__path__, 'mmreuse.'):
        if info.name.endswith('__main__'):
            continue
        module = importlib.import_module(info.name)
        for name, function in vars(module).items():
            if inspect.isfunction(function) and function.__module__ == info.name and not name.startswith('_') \
                    and not _WRITES.match(name) and _reads_a_file(function):
                found[f'{info.name}.{name}'] = function
    return found


def _reads_a_file(function: Callable) -> bool:
    parameters = list(inspect.signature(function).parameters.values())
    needed = [each for each in parameters if each.default is each.empty]
    if len(needed) != 1 or needed[0].name not in _NAMES or needed[0].kind is not needed[0].POSITIONAL_OR_KEYWORD:
        return False
    try:
        hint = str(get_type_hints(function).get(needed[0].name))
    except NameError:
        return False
    return bool(_PATHS.search(hint)) or hint == str(str) and needed[0].name in ('source', 'of', 'path', 'config')


def faults(ending: Ending, file: Path, place: str, mark: Path) -> Iterator[str]:
    """Yield what is wrong with the way in which a hostile file ended."""
    names = [file.name, str(file.parent), *Path(place).parts[-2:]]  # a run's result has a name of its own
    if mark.exists():
        mark.rmdir()
        yield 'something ran'
    for path in Path('/tmp').glob('escaped*'):
        path.unlink()
        yield f'{path} was written'
    if ending.kind not in ('result', 'refused', 'usage'):
        yield f'{ending.kind}: {ending.message[:400]}'
    if ending.kind == 'refused' and not any(name in ending.message for name in names):
        yield f'does not name the file: {ending.message[:300]}'
    if ending.memory > ROOM + _PER_BYTE * file.stat().st_size:
        yield f'takes {ending.memory / 2 ** 20:.0f} MB'


Calls = Iterator[tuple[str, str, Path, Callable[[], Any] | None]]


def calls(workspace: Workspace | None, files: dict[str, Path], folder: Path, share: float, read: float) -> Calls:
    """Yield entry point, kind of file, file, and the call that hands it in, None where a tool never looks at it."""
    draw, functions = random.Random(0), readers()  # which imports everything before the first call
    if workspace:
        number = max(1, round(share * len(files)))
        yield from _tool_calls(workspace, files, folder, draw, number)
        yield from _config_calls(workspace, files, folder, draw, number)
        yield from _result_calls(workspace, files, folder, draw, number)
    for place, function in functions.items():
        for kind, file in files.items():
            if draw.random() < read:
                yield place, kind, file, partial(_read, function, file)


def _tool_calls(workspace: Workspace, files: dict[str, Path], folder: Path, draw: random.Random, number: int) -> Calls:
    """Files as arguments of tools, in command lines that are good otherwise."""
    for path in MORE:
        trial(lambda path=path: write_config(workspace.small(path), workspace.config(path)), workspace.folder)
    for name in tools():
        for argument, words in with_holes(name, draw):
            hand_in = partial(_run_tool, workspace, name, words, folder)
            for kind, file in draw.sample(list(files.items()), number):
                seen = _looks(hand_in, workspace, folder / 'run' / f'{_MISSING}{file.suffix}')
                yield f'tools/{name} {argument}', kind, file, partial(hand_in, file) if seen else None


def _config_calls(workspace: Workspace, files: dict[str, Path], folder: Path, draw: random.Random,
                  number: int) -> Calls:
    """Files that configs name."""
    for path in (*SOURCES, *DERIVED):
        values = trial(partial(workspace.config, path), workspace.folder).value
        for place in [each for each in places(values) if isinstance(at(values, each), str)
                      and _FILE.search(at(values, each))] + [('load_from',)]:
            for kind, file in draw.sample(list(files.items()), number):
                yield f'{path} {".".join(map(str, place))}', kind, file, partial(
                    _run_config, path, values, place, file, folder)


def _result_calls(workspace: Workspace, files: dict[str, Path], folder: Path, draw: random.Random,
                  number: int) -> Calls:
    """Files in place of those that finished runs have left, which are read when they are started again."""
    for make, subject in dict.fromkeys(subjects(workspace)):
        own = _fresh(folder)
        for name in [path.relative_to(own) for path in make(workspace, subject, own)[0]]:
            fitting = [(kind, file) for kind, file in files.items() if file.suffix == name.suffix]
            for kind, file in draw.sample(fitting, min(number, len(fitting))):
                yield f'results/{make.__name__[1:]}/{subject}/{name}', kind, file, partial(
                    _replace_result, workspace, make, subject, name, file, folder)


def _looks(hand_in: Callable[[Path], None], workspace: Workspace, missing: Path) -> bool:
    """Return whether a tool comes to look at an argument: says that such a file is missing, or ends in a result."""
    ending = trial(partial(hand_in, missing), workspace.folder)
    return ending.kind == 'result' or ending.kind in ('refused', 'usage') and _MISSING in (
        ending.message + ending.output)


def _kind(place: str) -> str:
    return next((kind for kind in ('tools', 'configs', 'results') if place.startswith(f'{kind}/')), 'functions')


def _read(function: Callable, file: Path) -> None:
    hint = next(iter(get_type_hints(function).values()))
    function(str(file) if hint is str else file)


def _fresh(folder: Path) -> Path:
    own = folder / 'run'
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    return own


def _run_tool(workspace: Workspace, name: str, words: list[str], folder: Path, file: Path) -> None:
    own = _fresh(folder)
    furnish_well(workspace, own)
    os.environ['MMREUSE_DATA_ROOT'] = str(own)
    os.chdir(own)
    tool(name, *(word.replace(HOLE, str(file)) for word in words))


def _replace_result(workspace: Workspace, make: Callable, subject: Any, name: Path, file: Path, folder: Path) -> None:
    own = _fresh(folder)
    call = make(workspace, subject, own)[1]
    shutil.copy(file, own / name)
    os.chdir(own)
    call()


def _run_config(path: str, values: dict, place: tuple, file: Path, folder: Path) -> None:
    own = _fresh(folder)
    values = json.loads(json.dumps(values))
    at(values, place[:-1])[place[-1]] = str(file)
    write_config(own / 'config.py', values)
    tool('train.py', own / 'config.py', '--work-dir', own / 'made')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--folder', type=Path, help='where to work; what was trained there is used again')
    parser.add_argument('--out', type=Path, help='JSON file for the counts')
    parser.add_argument('--share', type=float, default=0.02,
                        help='of the files that each argument of a tool and each key of a config gets, one at least '
                        '(default: 0.02)')
    args = parser.parse_args()
    for each in (signal.SIGINT, signal.SIGTERM):  # a background job ignores the first
        signal.signal(each, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Workspace((args.folder or Path(temporary)).resolve())
        workspace.prepare()
        found = walk(workspace, Path(temporary).resolve(), args.share)
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + '\n')


def walk(workspace: Workspace | None, folder: Path, share: float, read: float = 1.) -> dict[str, Any]:
    """Hand all files in, and return counts and what went wrong.

    Args:
        workspace: For tools and configs; None for readers only.
        folder: For the files.
        share: Of the files that arguments and keys get.
        read: Of the files that functions get.
    """
    warm_up()
    mark = folder / 'executed'
    files = hostile_files(folder / 'files', mark)
    wrong, endings, most = [], Counter(), 0
    looked_at, unseen = set(), set()
    try:
        for place, kind, file, call in calls(workspace, files, folder, share, read):
            (unseen if call is None else looked_at).add(place)
            if call is None:
                continue
            ending = trial(call, folder if workspace is None else workspace.folder)
            endings[ending.kind] += 1
            most = max(most, ending.memory)
            for fault in faults(ending, file, place, mark):
                wrong.append(dict(place=place, file=kind, fault=fault))
                print(wrong[-1], flush=True)
    except KeyboardInterrupt:
        print(f'Ended before {place}; what follows is of what came before it.')
    return dict(files=len(files), entries=dict(Counter(_kind(each) for each in looked_at)),
                never_looked_at=sorted(unseen - looked_at), calls=sum(endings.values()), endings=dict(endings),
                most_memory_mb=round(most / 2 ** 20), faults=wrong)


if __name__ == '__main__':
    main()
