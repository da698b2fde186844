"""Figures of what averaging and pruning do to features."""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmreuse.visualization.panels import panels


def draw_vanishing(curves: Mapping[str, Sequence[float]],
                   bounds: Mapping[str, Sequence[float]] | None = None) -> Figure:
    """Plot what is left of the input-induced features, against depth.

    Args:
        curves: By label, E of each layer of a network; depths may differ.
        bounds: By the same labels, the envelopes, drawn thin.

    Raises:
        ValueError: There is nothing to draw.
    """
    figure, (axes,) = _panels(1, curves)
    for number, (label, values) in enumerate(curves.items()):
        depths = np.arange(1, len(values) + 1) / len(values)
        axes.plot(100 * depths, values, marker='.', color=f'C{number}', label=label)
        if label in (bounds or {}):
            axes.plot(100 * depths, bounds[label], linewidth=1, linestyle=':', color=f'C{number}')
    axes.axhline(1, color='grey', linewidth=1, linestyle='--')
    axes.set_ylim(bottom=0)
    axes.set_xlabel('depth (%)')
    axes.set_ylabel('size of g over that of the ends' + (' (dotted: envelope)' if bounds else ''))
    return _finished(figure)


def draw_layers(panels: Mapping[str, Mapping[str, Sequence[float]]], layers: Sequence[str]) -> Figure:
    """Values of each layer on a logarithmic axis, where zeros are left out; a line for each network.

    Args:
        panels: By title, values by label of the network: sizes of g and of h, mean |W| and |b|, variances.
        layers: Names, in order.

    Raises:
        ValueError: There is nothing to draw.
    """
    figure, every = _panels(len(panels), panels)
    for axes, (title, lines) in zip(every, panels.items(), strict=True):
        for label, values in lines.items():
            axes.plot([value if value > 0 else np.nan for value in values], marker='.', label=label)
        axes.set_yscale('log')
        axes.set_title(title)
        _name_layers(axes, layers)
    return _finished(figure)


def draw_outputs(mean: Mapping[str, Sequence[float]], deviation: Mapping[str, Sequence[float]],
                 zero: Mapping[str, Sequence[float]]) -> Figure:
    """Mean logit of each class with its spread, beside what an input of zeros gives; a panel a network.

    Args:
        mean: By label of the network, one value per class.
        deviation: Likewise.
        zero: Likewise.

    Raises:
        ValueError: There is nothing to draw.
    """
    figure, every = _panels(len(mean), mean)
    for axes, label in zip(every, mean, strict=True):
        at = np.arange(len(mean[label]))
        axes.bar(at - .2, mean[label], .4, yerr=deviation[label], capsize=2, label='f(x), mean and deviation')
        axes.bar(at + .2, zero[label], .4, label='f(0)')
        axes.set_title(label)
        axes.set_xlabel('class')
    every[0].set_ylabel('logit')
    return _finished(figure)


def draw_running_statistics(norms: Sequence[Any], layer: str | None = None) -> Figure:
    """Running statistics of a merged network, as they are and after RESET: of one norm by channel, then of all.

    Args:
        norms: :class:`mmreuse.diagnostics.RunningStatistics` (or alike).
        layer: Whose channels are shown; None for the norm in the middle.

    Raises:
        ValueError: There are no norms, or none of that name.
    """
    figure, (left, middle, right) = _panels(3, norms)
    chosen = {norm.layer: norm for norm in norms}
    if layer is not None and layer not in chosen:
        raise ValueError(f"there is no batch norm '{layer}' among {', '.join(chosen)}")
    norm = chosen[layer] if layer else norms[len(norms) // 2]
    for axes, what, before, after in ((left, 'mean', norm.mean, norm.reset_mean),
                                      (middle, 'variance', norm.variance, norm.reset_variance)):
        axes.plot(before, after, '.')
        limits = [min(float(before.min()), float(after.min())), max(float(before.max()), float(after.max()))]
        axes.plot(limits, limits, color='grey', linewidth=1, linestyle='--')
        axes.set_title(f'running {what} of {norm.layer}')
        axes.set_xlabel('averaged')
        axes.set_ylabel('after RESET')
    right.plot([float(each.variance.mean()) for each in norms], marker='.', label='averaged')
    right.plot([float(each.reset_variance.mean()) for each in norms], marker='.', label='after RESET')
    right.set_yscale('log')
    right.set_title('mean running variance')
    _name_layers(right, list(chosen))
    return _finished(figure)


def _panels(number: int, content: Any) -> tuple[Figure, list[Axes]]:
    figure, grid = panels(content, 1 + 4.6 * number, 4.2, 1, number)
    return figure, list(grid[0])


def _finished(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.grid(alpha=.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
    return figure


def _name_layers(axes: Axes, layers: Sequence[str]) -> None:
    step = max(1, len(layers) // 24)
    axes.set_xticks(range(0, len(layers), step), layers[::step], rotation=90, fontsize=6)
