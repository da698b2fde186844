"""Tables of rows with named columns: in CSV files, on the terminal, and as results that print themselves."""
import csv
import html
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmreuse.errors import ConfigError
from mmreuse.utils.files.atomic import atomic_write

Rows = Sequence[Mapping[str, Any]]
#: Behind the point at most, where a column has as many in every row.
_DIGITS = 3


def write_rows(path: str | Path, rows: Rows) -> None:
    """Write a CSV file of all columns that any row has."""
    with atomic_write(Path(path)) as file:
        writer = csv.DictWriter(file, dict.fromkeys(key for row in rows for key in row), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def append_rows(path: str | Path, rows: Rows) -> None:
    """Append to a CSV file, or make one.

    Raises:
        ConfigError: The file has other columns.
    """
    path, known = Path(path), []
    if path.is_file():
        with path.open(newline='', encoding='utf-8') as file:
            reader = csv.DictReader(file)
            known = list(reader)
        columns, wanted = reader.fieldnames or [], list(rows[0])
        if columns and columns != wanted:
            raise ConfigError(f"{path}: has the columns '{','.join(columns)}', these rows '{','.join(wanted)}'. Move "
                              'it away or name another work-dir.')
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(path, [*known, *rows])


def print_rows(rows: Rows, leave_out: Sequence[str] = ()) -> None:
    """Print rows, numbers rounded."""
    Console().print(_table(rows, leave_out))


def format_rows(rows: Rows) -> str:
    """Return rows as text, as wide as they need; nothing is cut off."""
    # In Jupyter it would draw the table below the cell, and write bold letters as codes.
    console = Console(file=io.StringIO(), width=10_000, force_jupyter=False, force_terminal=False)
    console.print(_table(rows, box=None, padding=(0, 2, 0, 0)))
    return '\n'.join(line.rstrip() for line in console.file.getvalue().splitlines())


class Tabular(ABC):
    """A result that prints as a table, with sentences below it."""

    @abstractmethod
    def rows(self) -> Rows:
        """Return the rows of the table."""

    def notes(self) -> Sequence[str]:
        """Return what stands below the table, one line each."""
        return ()

    def __str__(self) -> str:
        rows = self.rows()
        return '\n'.join([*([format_rows(rows)] if rows else []), *self.notes()])

    def _repr_html_(self) -> str:
        return f'<pre>{html.escape(str(self))}</pre>'


def _table(rows: Rows, leave_out: Sequence[str] = (), **options: Any) -> Table:
    """Lay out all columns that any row has; numbers stand on the right."""
    table, columns = Table(**options), [key for key in dict.fromkeys(key for row in rows for key in row)
                                        if key not in leave_out]
    for name in columns:
        numeric = all(isinstance(row.get(name, 0), int | float) for row in rows)
        table.add_column(name, justify='right' if numeric else 'left', no_wrap='box' in options)
    for cells in zip(*(column_texts([row.get(name) for row in rows]) for name in columns), strict=True):
        table.add_row(*cells)
    return table


def column_texts(values: Sequence[Any]) -> list[str]:
    """Return a column's values as they stand in tables: numbers of a like size with as many digits behind the point."""
    texts = [cell_text(value) for value in values]
    numbers = [text for value, text in zip(values, texts, strict=True) if isinstance(value, float)]
    digits = max((len(text.partition('.')[2]) for text in numbers), default=0)
    if digits > _DIGITS or any('e' in text or 'n' in text for text in numbers):
        return texts
    return [f'{value:.{digits}f}' if isinstance(value, float) else text
            for value, text in zip(values, texts, strict=True)]


def cell_text(value: Any) -> str:
    """Return a value as it stands in tables."""
    if value is None:
        return ''
    if isinstance(value, int) and not isinstance(value, bool):
        return f'{value:,}'
    return f'{value:.4g}' if isinstance(value, float) else str(value)
