"""What every benchmark shares: a reference beside ours in one process, interleaved."""
import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
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
    times = take_turns(dict(reference=reference, ours=ours), repeats, time.perf_counter)
    return compare_times(times['reference'], times['ours'])


def take_turns(functions: Mapping[str, Callable[[], Any]], repeats: int = 3,
               clock: Callable[[], float] = time.process_time) -> dict[str, list[float]]:
    """Return the seconds of each function in every turn, one after the other within a turn.

    Args:
        functions: By name, what is timed.
        repeats: Number of turns.
        clock: By default the time of the processor, which other work on the machine hardly changes.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = clock()
            function()
            times[name].append(clock() - start)
    return times


def compare_times(reference: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """Return medians, their ratio, and the range of the ratios of single turns; see :func:`measure`."""
    reference_s, ours_s = statistics.median(reference), statistics.median(ours)
    ratios = [one / other for one, other in zip(reference, ours, strict=True)]
    return dict(reference_s=reference_s, ours_s=ours_s, ratio=reference_s / ours_s, ratio_low=min(ratios),
                ratio_high=max(ratios))


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
