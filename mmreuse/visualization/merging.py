"""Figures of merges."""
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

LABELS = {'joint': 'joint', 'task_average': 'task average'}


def draw_size_curve(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy against cost of partial merges, each point labelled with its stop.

    Args:
        points: ``stop``, ``merge/macs``, ``joint`` and ``task_average`` each.

    Raises:
        ValueError: There are no points.
    """
    if not points:
        raise ValueError('there is no merge to draw')
    # A bare Figure, not pyplot: no global state, no display, nothing to close.
    figure = Figure(figsize=(7, 4.5), layout='constrained')
    axes = figure.subplots()
    points = sorted(points, key=lambda point: point['merge/macs'])
    costs = [point['merge/macs'] / 1e6 for point in points]
    for key, label in LABELS.items():
        axes.plot(costs, [point[key] for point in points], marker='o', label=label)
    for cost, point in zip(costs, points, strict=True):
        axes.annotate(point['stop'], (cost, point['joint']), xytext=(3, -9), textcoords='offset points', fontsize=6)
    axes.set_xlabel('multiply-accumulates (M)')
    axes.set_ylabel('accuracy (%)')
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title('Merged up to the named module; the ensemble is on the right')
    return figure
