"""What every benchmark shares: a reference beside ours in one process, interleaved."""
import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from mmreuse.utils.files.io import write_json


def measure(reference: Callable[[], Any], ours: Callable[[], Any], repeats: int = 3) -> dict[str, float]:
    """Time two functions alternately, so that a machine that slows down slows both.

    Args:
        reference: The algorithm compared with.
        ours: The algorithm under test.
        repeats: Runs of each.

    Returns:
        dict: Median seconds ``reference_s`` and ``ours_s``, and ``ratio = reference_s / ours_s``.
    """
    reference_times, our_times = [], []
    for _ in range(repeats):
        reference_times.append(_seconds(reference))
        our_times.append(_seconds(ours))
    reference_s, ours_s = statistics.median(reference_times), statistics.median(our_times)
    return dict(reference_s=reference_s, ours_s=ours_s, ratio=reference_s / ours_s)


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
    """Print the results as a table, one case a row, and write them to ``out`` if given."""
    columns = list(dict.fromkeys(column for result in results.values() for column in result))
    table = Table('case', *columns)
    for case, result in results.items():
        table.add_row(case, *(_cell(result.get(column)) for column in columns))
    Console().print(table)
    if out:
        write_json(out, results)


def _cell(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
