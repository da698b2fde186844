"""The report of a table over settings."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from mmengine.config import Config

from mmreuse.visualization import Report, name_best

#: What ranks rows, the first of these that they have.
_RANKS = ('joint', 'accuracy/top1', 'accuracy')


def report_sweep(folder: Path, cfg: Config, rows: Sequence[Mapping[str, Any]], columns: Sequence[str],
                 figure: Figure) -> None:
    """Write ``report.html`` into the folder of a sweep.

    Args:
        folder: Where its results lie.
        cfg: What was run.
        rows: Its table.
        columns: Which of its columns tell the rows apart.
        figure: Of the rows; it is used up.
    """
    rank = next((key for key in _RANKS if any(row.get(key) is not None for row in rows)), None)
    told = [dict(row, name=_name(row, rows, columns)) for row in rows]
    report = Report(folder.name)
    report.section(f'{len(rows)} measurements', f'{cfg.filename or "A config"}, over {", ".join(columns)}.',
                   name_best(told, 'name', rank) if rank else '')
    report.figures({f'{folder.name}, {len(rows)} measurements': figure})
    report.table(rows, best=rank)
    report.files({name: folder / name for name in ('results.json', 'results.csv', 'figure.png', 'metrics.json')},
                 folder)
    report.details('Config', cfg.pretty_text)
    report.write(folder / 'report.html')


def _name(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return the values that tell a row from others."""
    differ = [key for key in columns if len({str(each.get(key)) for each in rows}) > 1]
    return ', '.join(f'{key} {row[key]:g}' if isinstance(row.get(key), float) else f'{key} {row.get(key)}'
                     for key in differ) or 'the only one'
