"""Cases of bad input, each found again by its seed and number, and how their ends are judged."""
import os
import random
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trial import Ending, is_left, trial
from workspace import Workspace

#: A remedy is a sentence behind the one that says what is wrong, or names what would be right.
_REMEDY = re.compile(r'[.:;)?] [A-Z].*|Nearest|expected|must |give |needs |Known')
GOOD = ('result', 'refused', 'usage')


@dataclass(frozen=True)
class Case:
    """One thing that is wrong.

    Attributes:
        what: In words, with the place and the damage.
        call: Does what a user would do, in a folder of its own; returns what of the result is compared.
        files: Any of these names a refusal has to mention; none for a command line that names no file.
        keys: Any of these, likewise.
        changed: Of these, those that were changed; told apart in the counts only, for what does not fit together may be
            told at either end.
        folder: Where it runs; by default the workspace.
        right: What a result has to be, where the damage must not change it.
    """
    what: str
    call: Callable[[], Any]
    files: Sequence[str] = ()
    keys: Sequence[str] = ()
    changed: Sequence[str] = ()
    folder: Path | None = None
    right: Any = None


@dataclass
class Verdict:
    """What became of a case."""
    number: int
    kind: str
    what: str
    ending: Ending
    precise: bool
    faults: list[str] = field(default_factory=list)


def run_case(kind: str, make: Callable[[Workspace, random.Random, Path], Case], seed: int, number: int,
             workspace: Workspace, timeout: float = 120.) -> Verdict:
    """Make a case of a seed and a number, run and judge it."""
    folder = workspace.folder / 'cases' / str(number)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    case = make(workspace, random.Random(f'{seed} {number}'), folder)
    before, own = _listing(workspace.folder), _listing(folder)
    ending = trial(case.call, case.folder or workspace.folder, timeout)
    precise = any(name in ending.message for name in case.changed)
    verdict = Verdict(number, kind, case.what, ending, precise, list(_faults(case, ending)))
    made = [Path(name) for name, _ in _listing(folder) - own]
    verdict.faults += [f'left behind: {path.relative_to(folder)}' for path in made if is_left(path)][:3]
    verdict.faults += [f'written outside: {name}' for name, _ in sorted(_listing(workspace.folder) ^ before)][:3]
    shutil.rmtree(folder, ignore_errors=True)
    return verdict


def _listing(folder: Path) -> set[tuple[str, float]]:
    """Return names and times of the files below a folder, without those of cases and the cache that runs share."""
    found = set()
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in ('cases', 'cache')]
        found |= {(path, os.lstat(path).st_mtime) for path in (os.path.join(place, name) for name in files)}
    return found


def _faults(case: Case, ending: Ending) -> Sequence[str]:
    """Yield what is wrong with the way a case ended."""
    if ending.kind not in GOOD:
        yield f'{ending.kind}: {ending.message}'
    if 'Traceback (most recent call last)' in ending.output:
        yield 'a traceback is printed'
    if ending.kind == 'result' and case.right is not None and ending.value != case.right:
        yield f'silently wrong: {ending.value} instead of {case.right}'
    if ending.kind != 'refused':
        return
    message = ending.message
    if '\n' in message.strip():
        yield f'several lines: {message[:300]!r}'
    for what, names in (('file', case.files), ('key', case.keys)):
        if names and not any(name in message for name in names):
            yield f'names no {what} of {list(names)[:4]}: {message[:300]}'
    if not _REMEDY.search(message):
        yield f'no remedy: {message[:300]}'
