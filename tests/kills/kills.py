"""End runs of every kind by SIGKILL, SIGTERM and SIGINT at random moments, and look at what is left.

    python tests/kills/kills.py --kills 8 --seed 0 --out docs/en/kills.json

After each end every file has to be whole, no process may be left, and SIGINT and SIGTERM give their status and one line
that says how to go on. The same command, for trainings with --resume, has to go on then, and leave the files that a run
left alone leaves, with the same content but for logs and times. Half of the runs are ended once more on the way.
"""
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artefacts import contents, damaged, difference
from kinds import KINDS, RUNS, SOURCES, make_sources, prepare
from processes import be_ready, command, fork, left_over, wait_for

from mmreuse.utils.files.io import read_json, write_json

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
#: Seconds that a run may take to end after a signal: an iteration, a checkpoint, data workers that notice.
PATIENCE = 60
#: Seconds after which no process of a run may be left: data workers look for their parent every five.
WORKERS = 15


@dataclass
class End:
    """One end of a run.

    Args:
        kind: Of run.
        signal: Name.
        at: Seconds after its start.
        status: Of the process, negative where a signal killed it.
        seconds: From the signal to its end.
        problems: What should not be; 'unfinished' and 'bytes' are of the run that went on.
    """
    kind: str
    signal: str
    at: float
    status: int
    seconds: float
    problems: list[str] = field(default_factory=list)


class Harness:
    """A folder in which runs are started and ended.

    Args:
        folder: Does not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        be_ready()
        self.folder, self.log = folder, folder / 'said'
        prepare(folder)
        self.alone: dict[str, dict[str, str]] = {}
        self.length: dict[str, float] = {}

    def leave_alone(self, kind: str) -> None:
        """Do a run without an end by signal, for its length and what it leaves."""
        self._fresh()
        if KINDS[kind].sources and not (self.folder / SOURCES).is_dir() and self._run(make_sources):
            raise RuntimeError(self.log.read_text())
        started = time.monotonic()
        if self._run(command(KINDS[kind].command(again=False))):
            raise RuntimeError(f'{kind}: {self.log.read_text()}')
        self.length[kind] = time.monotonic() - started
        self.alone[kind] = contents(self.folder / RUNS)

    def end_and_go_on(self, kind: str, moments: Sequence[tuple[signal.Signals, float]]) -> Iterator[End]:
        """End a run at shares of its length, and let it go on after each end."""
        self._fresh()
        ends = []
        for again, (number, share) in enumerate(moments):
            ends.append(self._end(kind, bool(again), number, share * self.length[kind]))
        self._start_log()
        if status := self._run(command(KINDS[kind].command(again=True))):
            ends[-1].problems.append(f'unfinished: status {status}, {self._said()[-600:]}')
        else:
            found = contents(self.folder / RUNS)
            alone = self.alone[kind]
            ends[-1].problems += [f'bytes: {name}: {difference(found.get(name, "nothing"), alone.get(name, "nothing"))}'
                                  for name in sorted({*found, *alone}) if found.get(name) != alone.get(name)]
        ends[-1].problems += _tracebacks(self._said())
        yield from ends

    def _end(self, kind: str, again: bool, number: signal.Signals, at: float) -> End:
        self._start_log()
        process = fork(command(KINDS[kind].command(again)), self.folder, self.log)
        status = wait_for(process, at)
        started = time.monotonic()
        problems = []
        if status is None:
            os.kill(process, number)
            status = wait_for(process, PATIENCE)
            if status is None:
                problems.append(f'does not end in {PATIENCE} s')
        seconds = time.monotonic() - started
        if left_over(process, WORKERS):
            problems.append('processes left')
        problems += [f'damaged: {each}' for each in damaged(self.folder / RUNS)]
        problems += self._wrongly_said(number, status)
        return End(kind, number.name, round(at, 2), status, round(seconds, 2), problems)

    def _wrongly_said(self, number: signal.Signals, status: int | None) -> list[str]:
        said = self._said()
        # What data workers say whose process was killed is theirs.
        problems = [] if number == signal.SIGKILL else _tracebacks(said)
        if status == 0 or number == signal.SIGKILL and status == -number:
            return problems
        if status != 128 + number:
            problems.append(f'status {status}: {said[-600:]}')
        elif said.count('Go on with: python ') != 1:
            problems.append(f'no line says how to go on: {said[-600:]}')
        return problems

    def _fresh(self) -> None:
        shutil.rmtree(self.folder / RUNS, ignore_errors=True)
        self._start_log()

    def _start_log(self) -> None:
        self.log.unlink(missing_ok=True)

    def _said(self) -> str:
        return self.log.read_text(errors='replace') if self.log.is_file() else ''

    def _run(self, call: Callable[[], None]) -> int:
        process = fork(call, self.folder, self.log)
        status = wait_for(process, float('inf'))
        left_over(process, WORKERS)
        return status


def _tracebacks(said: str) -> list[str]:
    place = said.find('Traceback')
    return [] if place < 0 else [f'traceback: {said[place:place + 3000]}']


@contextmanager
def harness() -> Iterator[Harness]:
    """Give a harness in a temporary folder, whose name has a space and a letter that is not ASCII."""
    with tempfile.TemporaryDirectory(prefix='kills ü ') as folder:
        yield Harness(Path(folder) / 'here')


def run(harness: Harness, kind: str, kills: int, seed: int) -> list[End]:
    """End so many runs of a kind; the moments depend on seed and kind alone."""
    draws = random.Random(f'{seed} {kind}')
    harness.leave_alone(kind)
    print(f'{kind}: {harness.length[kind]:.1f} s, {len(harness.alone[kind])} files', flush=True)
    ends: list[End] = []
    while len(ends) < kills:
        number = min(1 + draws.randrange(2), kills - len(ends))
        moments = [(SIGNALS[(len(ends) + each) % 3], draws.random()) for each in range(number)]
        for end in harness.end_and_go_on(kind, moments):
            ends.append(end)
            print(f'{len(ends):4} {end.signal} at {end.at} s, status {end.status} {end.seconds} s later',
                  *end.problems, sep='\n       ', flush=True)
    return ends


def summary(kind: str, length: float, seed: int, ends: Sequence[End]) -> dict[str, Any]:
    """Count ends and problems of a kind."""
    signals = Counter(end.signal for end in ends)
    problems = Counter(problem for end in ends for problem in {each.split(':')[0] for each in end.problems})
    return dict(kind=kind, seeds=[seed], seconds=round(length, 1),
                **{number.name: signals[number.name] for number in SIGNALS},
                finished=sum(end.status == 0 for end in ends), slowest_end=max(end.seconds for end in ends),
                problems=dict(problems))


def together(known: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of a kind's ends with those of other seeds that are known."""
    if known is None or set(new['seeds']) & set(known['seeds']):
        return dict(new)
    counts = [*(number.name for number in SIGNALS), 'finished', 'seeds']
    problems = Counter(known['problems']) + Counter(new['problems'])
    return {**new, **{key: known[key] + new[key] for key in counts}, 'problems': dict(problems),
            'slowest_end': max(known['slowest_end'], new['slowest_end'])}


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--kills', type=int, default=16, help='of each kind (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=list(KINDS), metavar='KIND',
                        help=f'default: all, {", ".join(KINDS)}')
    parser.add_argument('--out', type=Path, help='gets a row for each kind, as JSON; other kinds stay, and other '
                        'seeds count with it')
    args = parser.parse_args()
    found = []
    with harness() as runs:
        for kind in args.kinds:
            ends = run(runs, kind, args.kills, args.seed)
            row = summary(kind, runs.length[kind], args.seed, ends)
            found += ends
            print(row, flush=True)
            if args.out:
                known = read_json(args.out)['rows'] if args.out.is_file() else []
                rows = {each['kind']: each for each in known}
                rows[kind] = together(rows.get(kind), row)
                write_json(args.out, dict(
                    command=f'python tests/kills/kills.py --kills {args.kills} --seed SEED --out {args.out}',
                    rows=[rows[each] for each in KINDS if each in rows]))
    if any(end.problems for end in found):
        sys.exit('There are problems, see above.')


if __name__ == '__main__':
    main()
