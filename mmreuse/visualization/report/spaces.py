"""The feature spaces of a network as a drawing: a row for each, an arc for what leads from one to the next."""
import html
import math
from collections.abc import Mapping

from mmreuse.graph import FeatureSpace

#: Beyond so many rows a drawing tells nothing.
MOST = 60
_ROW, _WIDTH, _LEFT = 24, 358, 96


def draw_spaces(spaces: Mapping[str, FeatureSpace]) -> str | None:
    """Draw spaces from the input to the output.

    A row's bar shows the width of the space on a logarithmic scale; an arc leads from a space to one that a layer
    makes of it. Spaces that several layers write, such as those of residual streams, have a filled dot.

    Args:
        spaces: By name, in the order of execution, as a traced network has them.

    Returns:
        str | None: SVG; None of none, or of more than :data:`MOST`.
    """
    if not 0 < len(spaces) <= MOST:
        return None
    names = list(spaces)
    writers = {tensor: name for name, space in spaces.items() for tensor in space.writers()}
    arcs = dict.fromkeys((name, writers[tensor]) for name, space in spaces.items() for tensor in space.readers()
                         if writers.get(tensor, name) != name)
    largest = math.log2(1 + max(space.size for space in spaces.values()))
    parts = [_arc(names.index(first), names.index(second)) for first, second in arcs]
    parts += [_row(number, space, 150 * math.log2(1 + space.size) / largest)
              for number, space in enumerate(spaces.values())]
    title = f'{len(spaces)} feature spaces, {len(arcs)} arcs'
    return (f'<svg class="spaces" role="img" aria-label="{title}" viewBox="0 0 {_WIDTH} {_ROW * len(names) + 4}" '
            f'font-size="12">{"".join(parts)}</svg>')


def _arc(first: int, second: int) -> str:
    top, bottom = (_ROW * place + _ROW / 2 for place in (first, second))
    reach = _LEFT - min(_LEFT - 4, 10 + 8 * abs(second - first))
    return (f'<path d="M{_LEFT} {top:g} C{reach} {top:g} {reach} {bottom:g} {_LEFT} {bottom:g}" fill="none" '
            'style="stroke: var(--c0)" stroke-width="1.5"/>')


def _row(number: int, space: FeatureSpace, width: float) -> str:
    middle = _ROW * number + _ROW / 2
    count = len(space.writers())
    about = html.escape(f'{space.name}: {space.size} features, written by {count} and read by {len(space.readers())} '
                        'tensors')
    name = space.name if len(space.name) <= 24 else f'{space.name[:9]}…{space.name[-14:]}'
    fill = 'var(--c0)' if count > 1 else 'var(--paper)'
    return (f'<g><title>{about}</title>'
            f'<circle cx="{_LEFT}" cy="{middle:g}" r="4" style="fill: {fill}; stroke: var(--c0)" stroke-width="1.5"/>'
            f'<rect x="{_LEFT + 10}" y="{middle + 7:g}" width="{width:.1f}" height="2" style="fill: var(--c0)"/>'
            f'<text x="{_LEFT + 10}" y="{middle + 4:g}">{html.escape(name)}</text>'
            f'<text x="{_WIDTH - 4}" y="{middle + 4:g}" text-anchor="end">{space.size}</text></g>')
