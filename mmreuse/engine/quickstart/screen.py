"""What the quick start says on the screen: little; all else goes into a file."""
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mmreuse.utils.tables import Rows, format_rows

#: A job that took less than this share of what it was expected to take was done before, and tells nothing of the pace.
_SKIPPED = 0.2
_WIDTH = 100


class Screen:
    """Says a few lines while everything that is printed elsewhere goes into a log.

    Args:
        log: File for what libraries, workers and loggers print; is appended to.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._out: IO[str] | None = None

    def say(self, text: str) -> None:
        """Print a paragraph, wrapped to the width of the screen."""
        width = min(shutil.get_terminal_size((_WIDTH, 24)).columns, _WIDTH)
        self._print('\n'.join(textwrap.wrap(text, width, subsequent_indent='  ')))

    def table(self, rows: Rows) -> None:
        """Print a table without lines."""
        self._print(textwrap.indent(format_rows(rows), '    '))

    def step(self, text: str) -> None:
        """Say what is being done, in a line that the next one takes the place of; on terminals only."""
        out = self._out or sys.stdout
        if out.isatty():
            print(f'\r\033[K    {text} ...', end='', file=out, flush=True)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Send whatever is written to standard output and error into the log, by other processes too."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        with self.log.open('a', encoding='utf-8') as log, os.fdopen(os.dup(1), 'w', encoding='utf-8') as self._out:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            try:
                yield
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                for number, own in enumerate(kept, start=1):
                    os.dup2(own, number)
                    os.close(own)
                if self._out.isatty():
                    print('\r\033[K', end='', file=self._out, flush=True)
        self._out = None

    def _print(self, text: str) -> None:
        print(text, file=self._out or sys.stdout, flush=True)


class TimeLeft:
    """How long jobs will take yet, at the pace of those that are done.

    Args:
        seconds: By job, what each took where it was measured.
    """

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._seconds = dict(seconds)
        self._expected = self._taken = 0.

    def done(self, job: str, seconds: float) -> None:
        """Take in how long a job took."""
        expected = self._seconds.pop(job)
        if seconds > _SKIPPED * expected:
            self._expected += expected
            self._taken += seconds

    @property
    def seconds(self) -> float:
        """Return the expected seconds of what is left."""
        return sum(self._seconds.values()) * (self._taken / self._expected if self._expected else 1)

    def __str__(self) -> str:
        minutes = self.seconds / 60
        return 'less than a minute left' if minutes < 1 else f'about {minutes:.0f} min left'
