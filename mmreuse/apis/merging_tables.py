"""Tables of merges, with the columns of the published ones."""
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmreuse.errors import ConfigError
from mmreuse.utils.methods import MethodLike


def task_letters(count: int) -> list[str]:
    """A, B, C, ... as tables name models and tasks."""
    return list(string.ascii_uppercase[:count]) if count <= 26 else [str(number + 1) for number in range(count)]


def accuracy_columns(accuracy: Mapping[str, float]) -> dict[str, float]:
    """Joint, average and tasks under the names of the published tables."""
    names = {'joint': 'Joint', 'task_average': 'Per Task Avg'}
    return {names.get(key, key.replace('_', ' ').title()): value for key, value in accuracy.items()}


def split_columns(tasks: Sequence[Sequence[int]]) -> dict[str, str]:
    """Class ids of the tasks, as the published folders join them."""
    return {f'Split {letter}': '_'.join(map(str, task))
            for letter, task in zip(task_letters(len(tasks)), tasks, strict=True)}


def parameter_columns(matcher: MethodLike) -> dict[str, Any]:
    """Options of a matcher; alpha and beta of zip are the published A and B."""
    options = dict(matcher) if isinstance(matcher, Mapping) else {}
    names = {'alpha': 'A', 'beta': 'B'}
    return {f'Params {names.get(key, key.replace("_", " ").title())}': value
            for key, value in options.items() if key != 'type'}


def matcher_name(matcher: MethodLike) -> str:
    """As it stands in tables."""
    return matcher['type'] if isinstance(matcher, Mapping) else str(matcher)


def stop_name(stop: str | None) -> str:
    """As it stands in tables: the whole merge and the ensemble have names, too."""
    return {None: 'none', '': 'input'}.get(stop, stop)


def stop_of(name: str) -> str | None:
    """The stop that :func:`stop_name` names."""
    return {'none': None, 'input': ''}.get(name, name)


def append_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append to a table; a new one gets a header.

    Raises:
        ConfigError: The table has other columns.
    """
    path = Path(path)
    header = ','.join(rows[0])
    known = path.read_text().partition('\n')[0] if path.is_file() else None
    if known not in (None, '', header):
        raise ConfigError(f"{path}: has the columns '{known}', these rows '{header}'. Move it away or name another "
                          'work-dir.')
    lines = [','.join('' if value is None else str(value) for value in row.values()) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a', encoding='utf-8') as file:
        file.write('\n'.join([*([] if known else [header]), *lines]) + '\n')


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of rows with the same columns; class ids are left out, numbers rounded."""
    columns = [name for name in rows[0] if not name.startswith('Split ')]
    table = Table(*columns)
    for row in rows:
        table.add_row(*(f'{row[name]:.4g}' if isinstance(row[name], float) else str(row[name]) for name in columns))
    Console().print(table)
