"""Figures of pipelines."""
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure


def draw_pipeline(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw accuracy against cost of the networks of a pipeline, in their order.

    Args:
        rows: ``network``, ``job`` (empty for those that were there), ``accuracy`` and ``macs`` each.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError('there is no network to draw')
    # A bare Figure, not pyplot: no global state, no display, nothing to close.
    figure = Figure(figsize=(7, 4.5), layout='constrained')
    axes = figure.subplots()
    for number, row in enumerate(rows):
        point = (row['macs'] / 1e6, row['accuracy'])
        axes.plot(*point, marker='o', color=f'C{number}', fillstyle='full' if row['job'] else 'none')
        axes.annotate(row['network'], point, xytext=(5, 4), textcoords='offset points', fontsize=8)
        if row.get('equal_cost') is not None:
            axes.plot(point[0], row['equal_cost'], marker='x', color=f'C{number}')
    axes.set_xlabel('multiply-accumulates (M)')
    axes.set_ylabel('accuracy (%)')
    axes.set_title('Crosses: networks of equal cost, chosen without the method')
    axes.grid(alpha=0.3)
    return figure
