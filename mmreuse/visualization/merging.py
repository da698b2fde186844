"""Figures of merges."""
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from mmreuse.visualization.panels import panels

LABELS = {'joint': 'joint', 'task_average': 'task average'}


def draw_size_curve(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw accuracy against cost of partial merges, each point labelled with its stop.

    Args:
        points: ``stop``, ``merge/macs``, ``joint`` and ``task_average`` each. Where they are of several ``matcher``,
            there is one line of the joint accuracy for each.

    Raises:
        ValueError: There are no points.
    """
    figure, ((axes,),) = panels(points, 7, 4.5, what='no merge')
    points = sorted(points, key=lambda point: point['merge/macs'])
    matchers = list(dict.fromkeys(point.get('matcher') for point in points))
    lines = [(None, key, label) for key, label in LABELS.items()] if len(matchers) == 1 else [
        (matcher, 'joint', matcher or 'not merged') for matcher in matchers]
    for matcher, key, label in lines:
        own = [point for point in points if matcher is None or point.get('matcher') == matcher]
        axes.plot([point['merge/macs'] / 1e6 for point in own], [point[key] for point in own], label=label,
                  marker='o', linestyle='' if matcher == '' else '-')
    for point in points:
        axes.annotate(point['stop'], (point['merge/macs'] / 1e6, point['joint']), xytext=(3, -9),
                      textcoords='offset points', fontsize=6)
    axes.set_xlabel('multiply-accumulates (M)')
    axes.set_ylabel('accuracy (%)')
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title('Merged up to the named module; the ensemble is on the right')
    return figure


def draw_repair(rows: Sequence[Mapping[str, Any]], against: str) -> Figure:
    """Draw joint accuracy of merges that are calibrated or distilled, and of their controls.

    Args:
        rows: ``network``, ``matcher``, ``stop``, ``joint`` and what it is drawn against. Rows without that are lines.
        against: ``'images'`` or ``'steps'``.
    """
    figure = Figure(figsize=(7.5, 4.5), layout='constrained')
    axes = figure.subplots()
    # Along steps repairs are lines of their own; along images they are points, as each has its number of images.
    keys = ('matcher', 'stop', 'repair') if against == 'steps' else ('matcher', 'stop')
    differ = [key for key in keys if len({row[key] for row in rows if row['matcher']}) > 1]
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        place = ''.join(f', {row[key]}' for key in differ if row[key])
        if not row['matcher'] or against == 'steps' and row['network'].startswith('head'):
            axes.axhline(row['joint'], linestyle=':', linewidth=0.8, color='gray')
            axes.annotate(row['network'], (1, row['joint']), xycoords=('axes fraction', 'data'), fontsize=6, ha='right')
        else:
            lines.setdefault(row['network'] + place, []).append((row.get(against, 0), row['joint']))
    for name, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker='.', label=name, linewidth=2 if 'merge' in name else 1,
                  linestyle='-' if name.split(',')[0] == name else '--')
    axes.set_xlabel({'images': 'images without labels', 'steps': 'steps'}[against])
    axes.set_ylabel('joint accuracy (%)')
    if against == 'images' and len({x for points in lines.values() for x, _ in points}) > 2:
        axes.set_xscale('symlog', linthresh=25)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=7)
    return figure
