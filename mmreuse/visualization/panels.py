"""Empty figures to draw into."""
from collections.abc import Sized
from typing import Any

import numpy as np
from matplotlib.figure import Figure


def panels(content: Sized, width: float, height: float, rows: int = 1, columns: int = 1, what: str = 'nothing',
           **options: Any) -> tuple[Figure, np.ndarray]:
    """Give a figure of some inches, and its panels as an array (rows, columns); options are those of ``subplots``.

    Raises:
        ValueError: There is no content to draw; says ``what`` there is instead.
    """
    if not len(content):
        raise ValueError(f'there is {what} to draw')
    # A bare Figure, not pyplot: no global state, no display, nothing to close.
    figure = Figure(figsize=(width, height), layout='constrained')
    return figure, figure.subplots(rows, columns, squeeze=False, **options)
