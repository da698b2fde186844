"""Figures of merges that preserve the models' own first layers."""
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from mmreuse.visualization.panels import panels


def draw_preserve_first(rows: Sequence[Mapping[str, Any]], metric: str = 'accuracy/top1') -> Figure:
    """Accuracy against the number of preserved points, and against the cost, for each matcher and renormalizer.

    Networks and their ensemble are horizontal lines. Pairs are averaged, a point at a time.

    Args:
        rows: ``point``, ``index``, ``macs``, ``matcher``, ``renormalizer`` and the metric each; of the matcher
            ``'none'`` are the networks themselves and their ensemble.
        metric: Key of the accuracy.

    Raises:
        ValueError: There are no rows.
    """
    figure, grid = panels(rows, 11, 4.4, 1, 2, sharey=True)
    ends = [row for row in rows if row['matcher'] == 'none']
    whole = min(row['macs'] for row in rows)
    points: dict[tuple, list[float]] = defaultdict(list)
    for row in rows:
        if row not in ends:
            key = row['matcher'], row['renormalizer'], row['index'], row['macs'] / whole
            points[key].append(row[metric])
    curves: dict[tuple, list[tuple]] = defaultdict(list)
    for (matcher, renormalizer, *place), values in sorted(points.items(), key=lambda item: item[0][2:]):
        curves[matcher, renormalizer].append((*place, mean(values)))
    for axes, column in zip(grid[0], (0, 1), strict=True):
        matchers = list(dict.fromkeys(matcher for matcher, _ in curves))
        renormalizers = list(dict.fromkeys(name for _, name in curves))
        for (matcher, name), line in curves.items():
            axes.plot([point[column] for point in line], [point[2] for point in line], marker='.',
                      color=f'C{matchers.index(matcher)}', label=matcher if name == 'none' else f'{matcher}, {name}',
                      linestyle=('-', '--', ':', '-.', (0, (5, 1, 1, 1, 1, 1)))[renormalizers.index(name) % 5])
        for label in ('net', 'ensemble'):
            found = [row[metric] for row in ends if row['point'].startswith(label)]
            if found:
                axes.axhline(mean(found), color='grey', linestyle=':' if label == 'net' else '--', linewidth=1,
                             label=label if label == 'ensemble' else 'mean of the networks')
        axes.grid(alpha=0.3)
    figure.axes[0].set_xlabel('preserved points')
    figure.axes[0].set_ylabel(metric)
    figure.axes[1].set_xlabel('multiply-accumulates, relative to one network')
    figure.axes[1].legend(fontsize=6)
    return figure
