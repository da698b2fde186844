"""Figures of pipelines."""
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from mmreuse.visualization.panels import panels


def draw_pipeline(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw accuracy against cost of the networks of a pipeline, in their order.

    Args:
        rows: ``network``, ``job`` (empty for those that were there), ``accuracy`` and ``macs`` each.

    Raises:
        ValueError: There are no rows.
    """
    figure, ((axes,),) = panels(rows, 7, 4.5, what='no network')
    names: dict[tuple[float, float], list[str]] = {}  # of networks at one place, such as one that was only exported
    for number, row in enumerate(rows):
        point = (row['macs'] / 1e6, row['accuracy'])
        axes.plot(*point, marker='o', color=f'C{number}', fillstyle='full' if row['job'] else 'none')
        names.setdefault(point, []).append(row['network'])
        if row.get('equal_cost') is not None:
            axes.plot(point[0], row['equal_cost'], marker='x', color=f'C{number}')
    rightmost = max(macs for macs, _ in names)
    for point, together in names.items():
        inside = point[0] == rightmost and len(names) > 1
        axes.annotate(', '.join(together), point, xytext=(-5 if inside else 5, 4), textcoords='offset points',
                      fontsize=8, ha='right' if inside else 'left')
    axes.set_xlabel('multiply-accumulates (M)')
    axes.set_ylabel('accuracy (%)')
    axes.set_title('Crosses: networks of equal cost, chosen without the method')
    axes.grid(alpha=0.3)
    return figure
