"""Figures of modules."""
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from mmreuse.visualization.panels import panels


def draw_modules(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy of modules and of their baselines, a line for each method over the targets.

    Args:
        rows: ``target``, ``method``, ``accuracy`` in percent and ``ratio`` each.

    Raises:
        ValueError: There are no rows.
    """
    targets = list(dict.fromkeys(row['target'] for row in rows))
    figure, ((axes,),) = panels(rows, 2 + 0.8 * len(targets), 4.2)
    for method in dict.fromkeys(row['method'] for row in rows):
        own = {row['target']: row for row in rows if row['method'] == method}
        share = sum(row['ratio'] for row in own.values()) / len(own)
        axes.plot([targets.index(target) for target in own], [row['accuracy'] for row in own.values()],
                  marker='o', linestyle='-' if method == 'module' else ':', label=f'{method} ({100 * share:.0f} %)')
    axes.set_xticks(range(len(targets)), targets, rotation=45)
    axes.set_ylabel('accuracy in %')
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, title='(weights kept)')
    return figure
