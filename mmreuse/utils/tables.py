"""Tables of rows with named columns: CSV files, and on the terminal."""
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmreuse.errors import ConfigError
from mmreuse.utils.files.io import atomic_write

Rows = Sequence[Mapping[str, Any]]


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
    """Print rows with the same columns, numbers rounded.

    Args:
        rows: Rows.
        leave_out: Columns.
    """
    columns = [name for name in rows[0] if name not in leave_out]
    table = Table(*columns)
    for row in rows:
        table.add_row(*(f'{row[name]:.4g}' if isinstance(row[name], float) else str(row[name]) for name in columns))
    Console().print(table)
