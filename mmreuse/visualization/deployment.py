"""Figures of networks on inference engines."""
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from mmreuse.visualization.panels import panels

_MARKERS = 'osD^vP*X'


def draw_deployment(rows: Sequence[Mapping[str, Any]], batches: Sequence[int]) -> Figure:
    """Draw accuracy against latency: a panel for each number of images at once, a colour for each network.

    Args:
        rows: ``network``, ``engine``, ``accuracy``, and for each number of images, such as 16, ``ms_16``, ``ms_16_low``
            and ``ms_16_high``. Rows that lack one of them are left out.
        batches: Numbers of images at once.

    Raises:
        ValueError: Nothing was measured.
    """
    shown = [row for row in rows if 'accuracy' in row and all(f'ms_{batch}' in row for batch in batches)]
    figure, (axes,) = panels(shown, 6.5 * len(batches), 4.8, columns=len(batches), what='no measured accuracy',
                             sharey=True)
    networks, engines = (list(dict.fromkeys(row[key] for row in shown)) for key in ('network', 'engine'))
    for place, batch in zip(axes, batches, strict=True):
        for row in shown:
            middle, low, high = (row[f'ms_{batch}{end}'] for end in ('', '_low', '_high'))
            place.errorbar(middle, row['accuracy'], xerr=[[middle - low], [high - middle]], linewidth=1, capsize=2,
                           color=f'C{networks.index(row["network"]) % 10}',
                           marker=_MARKERS[engines.index(row['engine']) % len(_MARKERS)])
        place.set_xscale('log')
        place.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.xaxis.set_major_formatter('{x:g}')
        place.xaxis.set_minor_formatter(NullFormatter())
        place.set_xlabel(f'ms for {batch} image{"s" * (batch > 1)}, median, 10th to 90th percentile')
        place.grid(alpha=0.3)
    axes[0].set_ylabel('accuracy (%)')
    for number, name in enumerate(networks):
        axes[0].plot([], [], color=f'C{number % 10}', linewidth=4, label=name)
    for number, name in enumerate(engines):
        axes[0].plot([], [], color='grey', linestyle='', marker=_MARKERS[number % len(_MARKERS)], label=name)
    figure.legend(loc='outside lower center', ncols=3, fontsize=8)
    return figure
