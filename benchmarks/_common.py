"""What every benchmark shares: a reference beside ours in one process, interleaved."""
import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from mmreuse.utils.files.io import write_json


def measure(reference: Callable[[], Any], ours: Callable[[], Any], repeats: int = 3) -> dict[str, float]:
    """Time two functions alternately, so that a machine that slows down slows both.

    Args:
        reference: The algorithm compared with.
        ours: The algorithm under test.
        repeats: Runs of each.

    Returns:
        dict: Median seconds ``reference_s`` and ``ours_s``, ``ratio = reference_s / ours_s``, and the least and the
            largest ratio of a turn, ``ratio_low`` and ``ratio_high``.
    """
    reference_times, our_times = [], []
    for _ in range(repeats):
        reference_times.append(_seconds(reference))
        our_times.append(_seconds(ours))
    reference_s, ours_s = statistics.median(reference_times), statistics.median(our_times)
    ratios = [one / other for one, other in zip(reference_times, our_times, strict=True)]
    return dict(reference_s=reference_s, ours_s=ours_s, ratio=reference_s / ours_s, ratio_low=min(ratios),
                ratio_high=max(ratios))


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def parse_args(description: str) -> argparse.Namespace:
    """The command line of every benchmark: ``--out FILE.json``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--out', help='write the results to this JSON file as well')
    return parser.parse_args()


def write(out: str | None, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the results, as a table with one case a row where the terminal is wide enough; write them if ``out``."""
    columns = list(dict.fromkeys(column for result in results.values() for column in result))
    table, console = Table('case', *columns), Console()
    for case, result in results.items():
        table.add_row(case, *(_cell(result.get(column)) for column in columns))
    if console.measure(table, options=console.options.update(max_width=10_000)).maximum <= console.width:
        console.print(table)
    else:
        for case, result in results.items():
            console.print(f'[bold]{escape(case)}[/bold]')
            cells = [f'{column}\u00a0{_cell(value)}' for column, value in result.items()]
            console.print(Padding(escape('  '.join(cells)), (0, 0, 0, 2)))
    if out:
        write_json(out, results)


def _cell(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
