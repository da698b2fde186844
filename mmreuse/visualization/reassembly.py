"""Figures of deep model reassembly: similarity, partition, Pareto front, learning curves."""
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
from matplotlib.figure import Figure

from mmreuse.reassembly.zoo.structures import Candidate, Partition
from mmreuse.visualization.panels import panels


def draw_similarity(values: np.ndarray, rows: Mapping[str, int], *, title: str = 'Similarity of nodes') -> Figure:
    """Heat map of a whole zoo's similarity matrix.

    Args:
        values: Shape (S, S), rows of one network after another.
        rows: By network, in order: how many rows it has; they sum to S.
        title: Above the figure.

    Returns:
        Figure: One square, lines between networks.
    """
    figure, ((axes,),) = panels(values, 6.5, 5.5)
    image = axes.imshow(values, vmin=0, vmax=1, cmap='magma', interpolation='nearest')
    ends = list(accumulate(rows.values()))
    middles = [end - size / 2 - 0.5 for end, size in zip(ends, rows.values(), strict=True)]
    axes.set_xticks(middles, list(rows), rotation=45, ha='right')
    axes.set_yticks(middles, list(rows))
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color='white', linewidth=0.6)
        axes.axvline(end - 0.5, color='white', linewidth=0.6)
    figure.colorbar(image, label='similarity')
    axes.set_title(title)
    return figure


def draw_partition(partition: Partition) -> Figure:
    """One bar per network, one segment per block, coloured by equivalence set; anchors are hatched."""
    nets = list(partition.blocks)
    figure, ((axes,),) = panels(nets, 8, 0.9 + 0.45 * len(nets))
    colours = [f'C{index % 10}' for index in range(partition.num_blocks)]
    for row, net in enumerate(nets):
        for block in partition.blocks[net]:
            axes.barh(
                row, len(block), left=block.first, color=colours[block.set], edgecolor='white', linewidth=1.5,
                hatch='//' if block in partition.anchors else None)
            axes.text(block.first + len(block) / 2, row, str(block.set), ha='center', va='center', fontsize=8,
                      bbox=dict(facecolor='white', edgecolor='none', pad=1.5))
    axes.set_yticks(range(len(nets)), nets)
    axes.invert_yaxis()
    axes.set_xlabel('node')
    axes.set_title(f'{partition.num_blocks} blocks per network, coloured by equivalence set (anchors hatched)')
    axes.spines[['top', 'right']].set_visible(False)
    return figure


def draw_pareto(candidates: Sequence[Candidate], front: Sequence[Candidate], proxy: str) -> Figure:
    """Score against parameters, FLOPs as colour; the Pareto front is ringed.

    Raises:
        ValueError: ``candidates`` is empty.
    """
    figure, ((axes,),) = panels(candidates, 6.5, 4.5, what='no scored candidate')
    dots = axes.scatter(
        [item.params / 1e6 for item in candidates], [item.scores[proxy] for item in candidates],
        c=[item.flops / 1e6 for item in candidates], cmap='viridis', s=22)
    axes.scatter([item.params / 1e6 for item in front], [item.scores[proxy] for item in front],
                 s=90, facecolors='none', edgecolors='C3', label='Pareto front')
    figure.colorbar(dots, label='MMACs')
    axes.set_xlabel('parameters (M)')
    axes.set_ylabel(proxy)
    axes.legend()
    axes.set_title(f'{len(candidates)} scored assemblies')
    return figure


def draw_learning_curves(curves: Mapping[str, Sequence[tuple[float, float]]], *,
                         xlabel: str = 'epoch', ylabel: str = 'accuracy (%)') -> Figure:
    """One line per run of (step, value) points."""
    figure, ((axes,),) = panels(curves, 6.5, 4.5)
    for name, points in curves.items():
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, marker='.', label=name)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
