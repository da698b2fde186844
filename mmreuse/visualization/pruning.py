"""Figures of pruned networks."""
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from mmreuse.visualization.panels import panels


def draw_pruning(rows: Sequence[Mapping[str, Any]], metric: str, level: str, label: str) -> Figure:
    """Accuracy against how much is pruned, a line for each method; a panel before and one after each renormalizer.

    Args:
        rows: ``method`` (``'dense'`` is the horizontal line), ``seed``, ``renormalizer``, the level and the metric
            each. Seeds are averaged.
        metric: Key of the accuracy.
        level: Key of how much is pruned.
        label: Of the axis of the level.

    Raises:
        ValueError: There are no rows.
    """
    stages = list(dict.fromkeys(row['renormalizer'] for row in rows))
    methods = [method for method in dict.fromkeys(row['method'] for row in rows) if method != 'dense']
    points = defaultdict(list)
    for row in rows:
        points[row['renormalizer'], row['method'], row[level]].append(row[metric])
    figure, grid = panels(rows, 1 + 4.2 * len(stages), 4.2, 1, len(stages), sharey=True)
    for axes, stage in zip(grid[0], stages, strict=True):
        for row in rows:
            if row['method'] == 'dense':
                axes.axhline(row[metric], color='grey', linewidth=1, linestyle='--', label='dense')
        for number, method in enumerate(methods):
            line = sorted((value, mean(values)) for (where, which, value), values in points.items()
                          if (where, which) == (stage, method))
            if line:
                axes.plot(*zip(*line, strict=True), marker='.', color=f'C{number}', label=method)
        axes.set_title('pruned' if stage == 'none' else f'after {stage}')
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(metric)
    figure.axes[0].legend(fontsize=7)
    return figure
