"""Figures of matplotlib as SVG that takes its colours from the page, once for wide screens and once for narrow ones."""
import io
import re
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text

#: Inches of a figure on a narrow screen: 355 of its 390 pixels.
NARROW = 3.7
_PANEL_HEIGHT = 3.
#: How far figures shrink, and points of their smallest text: 8.5 pixels then.
_SMALLEST, _SMALLEST_TEXT = 0.8, 8
#: matplotlib's colours by what the page calls them.
_COLOURS = {
    '#000000': 'currentColor', '#ffffff': 'var(--paper)', '#cccccc': 'var(--line)',
    **{colour: f'var(--c{number})' for number, colour in enumerate((
        '#1f77b4', '#ff7f0e', '#2ca02c', '#d62728', '#9467bd', '#8c564b', '#e377c2', '#7f7f7f', '#bcbd22', '#17becf'))},
    '#808080': 'var(--c7)'}
_COLOUR = re.compile(r'(?<=[:\s"])#[0-9a-f]{6}\b')


def inline_svg(figure: Figure, salt: str) -> tuple[str, str]:
    """Return a figure for wide screens and, its panels one below the other, for narrow ones.

    Args:
        figure: Is left in the narrow form.
        salt: Tells its marks from those of other figures on the page.
    """
    for text in figure.findobj(Text):
        text.set_fontsize(max(text.get_fontsize(), _SMALLEST_TEXT))
    wide = _svg(figure, f'{salt} wide')
    _stack(figure)
    return wide, _svg(figure, f'{salt} narrow')


def _svg(figure: Figure, salt: str) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': salt}):
        figure.savefig(buffer, format='svg', transparent=True, metadata={'Date': None, 'Creator': None})
    text = buffer.getvalue()
    text = re.sub(r'<metadata>.*?</metadata>|<style.*?</style>', '', text[text.index('<svg'):], flags=re.DOTALL)
    text = re.sub(r' id="(figure|axes|text|patch|line2d|legend|matplotlib|xtick|ytick)[^"]*"', '', text)
    # Text stays readable: what has no room scrolls.
    text = text.replace('<svg ', f'<svg style="min-width: {_SMALLEST * 96 * figure.get_figwidth():.0f}px" ', 1)
    return _COLOUR.sub(lambda found: _COLOURS.get(found[0], found[0]), text).strip()


def _label_all(axes: Sequence[Axes]) -> None:
    """Give each panel of a grid the title of its column and the labels of its row and column."""
    places = {(each.get_subplotspec().rowspan.start, each.get_subplotspec().colspan.start): each for each in axes}
    last = max(row for row, _ in places)
    for (row, column), each in places.items():
        each.set_title(each.get_title() or places.get((0, column), each).get_title())
        each.set_xlabel(each.get_xlabel() or places.get((last, column), each).get_xlabel())
        each.set_ylabel(each.get_ylabel() or places.get((row, 0), each).get_ylabel())


def _stack(figure: Figure) -> None:
    """Put panels below each other, each as wide as a narrow screen."""
    axes = [each for each in figure.axes if each.get_subplotspec() is not None]
    height = min(float(figure.get_figheight()), 1.1 * NARROW)
    if len(axes) > 1:
        _label_all(axes)
        grid = GridSpec(len(axes), 1, figure=figure)
        for place, each in enumerate(axes):
            each.set_subplotspec(grid[place])
            each.tick_params(labelleft=True, labelbottom=True)
        height = _PANEL_HEIGHT * len(axes)
    for each in axes:
        each.title.set_wrap(True)
    figure.set_size_inches(NARROW, height)
