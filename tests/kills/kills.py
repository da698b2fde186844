"""End runs of every kind by SIGKILL, SIGTERM and SIGINT at random moments, and look at what is left.

    python tests/kills/kills.py --kills 200 --seed 0 --out docs/en/kills.json

After each end every file has to be whole, no process may be left, and SIGINT and SIGTERM give their status and one line
that says how to go on. The same command, for trainings with --resume, has to go on then, and leave the files that a run
left alone leaves, with the same content but for logs and times. Half of the runs are ended once more on the way.
"""
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from artefacts import contents, damaged, difference
from kinds import KINDS, RUNS, make_sources, prepare
from processes import adopt_orphans, command, fork, left_over, wait_for

import mmreuse.apis  # noqa: F401 (what runs would import, forks have then)

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
        adopt_orphans()
        torch.set_num_threads(1)  # threads do not outlive a fork
        self.folder, self.log = folder, folder / 'said'
        prepare(folder)
        if self._run(make_sources):
            raise RuntimeError(self.log.read_text())
        self.alone: dict[str, dict[str, str]] = {}
        self.length: dict[str, float] = {}

    def leave_alone(self, kind: str) -> None:
        """Do a run without an end by signal, for its length and what it leaves."""
        started = time.monotonic()
        self._fresh()
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
        if 'Traceback' in self._said():
            ends[-1].problems.append(f'traceback: {self._said()[-1500:]}')
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
        problems = [f'traceback: {said[-1500:]}'] if 'Traceback' in said else []
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


@contextmanager
def harness() -> Iterator[Harness]:
    """Give a harness in a temporary folder, whose name has a space and a letter that is not ASCII."""
    with tempfile.TemporaryDirectory(prefix='kills ü ') as folder:
        yield Harness(Path(folder) / 'here')


def run(kills: int, seed: int, kinds: Sequence[str]) -> tuple[list[End], dict[str, float]]:
    """End so many runs, spread evenly over kinds and signals.

    Returns:
        tuple: The ends, and seconds that a run of each kind takes.
    """
    draws = random.Random(seed)
    ends: list[End] = []
    with harness() as runs:
        for kind in kinds:
            runs.leave_alone(kind)
            print(f'{kind}: {runs.length[kind]:.1f} s, {len(runs.alone[kind])} files', flush=True)
        while len(ends) < kills:
            for kind in kinds:
                if len(ends) >= kills:
                    break
                number = 1 + draws.randrange(2)
                moments = [(SIGNALS[(len(ends) + each) % 3], draws.random()) for each in range(number)]
                for end in runs.end_and_go_on(kind, moments):
                    ends.append(end)
                    print(f'{len(ends):4} {end.kind}: {end.signal} at {end.at} s, status {end.status} '
                          f'{end.seconds} s later', *end.problems, sep='\n       ', flush=True)
    return ends, runs.length


def summary(ends: Sequence[End], lengths: dict[str, float]) -> list[dict[str, object]]:
    """Count ends and problems by kind."""
    rows = []
    for kind, length in lengths.items():
        own = [end for end in ends if end.kind == kind]
        counts = Counter(end.signal for end in own)
        problems = Counter(problem.split(':')[0] for end in own for problem in set(end.problems))
        rows.append(dict(
            kind=kind, seconds=round(length, 1), **{number.name: counts[number.name] for number in SIGNALS},
            finished_before=sum(end.status == 0 for end in own),
            slowest_end=max((end.seconds for end in own), default=0.), problems=dict(problems)))
    return rows


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--kills', type=int, default=200)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=list(KINDS), metavar='KIND')
    parser.add_argument('--out', type=Path, help='gets the table as JSON')
    args = parser.parse_args()
    started = time.monotonic()
    ends, lengths = run(args.kills, args.seed, args.kinds)
    rows = summary(ends, lengths)
    for row in rows:
        print(row)
    if args.out:
        result = dict(command=f'python tests/kills/kills.py --kills {args.kills} --seed {args.seed}', kills=len(ends),
                      seconds=round(time.monotonic() - started), rows=rows)
        args.out.write_text(json.dumps(result, indent=2) + '\n')
    if any(end.problems for end in ends):
        sys.exit('There are problems, see above.')


if __name__ == '__main__':
    main()
