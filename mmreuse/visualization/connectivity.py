"""Figures of networks between end models."""
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmreuse.visualization.panels import panels

METRICS = {'accuracy/top1': 'accuracy (%)', 'loss': 'cross-entropy'}


def draw_connectivity(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy and loss from one network to another: a column for each matcher, a line for each renormalizer.

    Args:
        rows: ``pair``, ``matcher``, ``renormalizer``, ``alpha``, ``accuracy/top1`` and ``loss`` each (None where the
            loss is not finite). Thick lines are means over pairs, thin ones the pairs.

    Raises:
        ValueError: There are no rows.
    """
    matchers = list(dict.fromkeys(row['matcher'] for row in rows))
    renormalizers = list(dict.fromkeys(row['renormalizer'] for row in rows))
    figure, grid = panels(rows, 1.5 + 3.6 * len(matchers), 6.4, 2, len(matchers), sharex=True, sharey='row')
    for line, (metric, label) in zip(grid, METRICS.items(), strict=True):
        for axes, matcher in zip(line, matchers, strict=True):
            for number, renormalizer in enumerate(renormalizers):
                mine = [row for row in rows if (row['matcher'], row['renormalizer']) == (matcher, renormalizer)]
                _draw_line(axes, mine, metric, f'C{number}', 'as it is' if renormalizer == 'none' else renormalizer)
            axes.grid(alpha=0.3)
        line[0].set_ylabel(label)
    if all(row['loss'] is None or row['loss'] > 0 for row in rows):
        grid[1, 0].set_yscale('log')
    for top, bottom, matcher in zip(*grid, matchers, strict=True):
        top.set_title(matcher)
        bottom.set_xlabel('weight of the second network')
    grid[0, 0].legend(fontsize=7)
    return figure


def _draw_line(axes: Axes, rows: Sequence[Mapping[str, Any]], metric: str, color: str, label: str) -> None:
    pairs, points = defaultdict(list), defaultdict(list)
    for row in sorted(rows, key=lambda row: row['alpha']):
        if row[metric] is not None:
            pairs[row['pair']].append((row['alpha'], row[metric]))
            points[row['alpha']].append(row[metric])
    if len(pairs) > 1:
        for line in pairs.values():
            axes.plot(*zip(*line, strict=True), color=color, linewidth=0.6, alpha=0.5)
    if points:
        axes.plot(list(points), list(map(mean, points.values())), color=color, marker='.', label=label)
