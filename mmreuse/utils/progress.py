"""A progress bar for what takes more than a few seconds."""
import time
from collections.abc import Iterable, Iterator
from operator import length_hint
from typing import TypeVar

from rich.progress import Progress

Item = TypeVar('Item')

# Work that ends sooner than this shows no bar.
PATIENCE_S = 3.0


def progress(items: Iterable[Item], description: str, show: bool = True) -> Iterator[Item]:
    """Pass ``items`` on, with a bar once that has taken three seconds.

    Args:
        items: What to iterate over; with a length if it has one.
        description: Shown before the bar.
        show: False on all but the main process.

    Yields:
        Item: The items.
    """
    start = time.monotonic()
    total = length_hint(items, -1)  # loaders of streams have a length that fails
    bar, task = None, None
    try:
        for done, item in enumerate(items):
            if bar is None and show and time.monotonic() - start > PATIENCE_S:
                bar = Progress(transient=True)
                task = bar.add_task(description, total=None if total < 0 else total)
                bar.start()
            if bar is not None:
                bar.update(task, completed=done)
            yield item
    finally:
        if bar is not None:
            bar.stop()
