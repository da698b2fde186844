"""A report that is one HTML file: headings, tables, figures, nothing fetched."""
import base64
import html
import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from mmreuse.utils.files.atomic import atomic_write

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .3rem .9rem; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left }
figure { margin: 1.5rem 0 }  img { max-width: 100% }  figcaption { color: #666 }  code { background: #f4f4f4 }
"""


class Report:
    """Collects sections and writes them as one self-contained page.

    Args:
        title: Heading of the page.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[str] = []

    def heading(self, text: str) -> None:
        self._parts.append(f'<h2>{html.escape(text)}</h2>')

    def text(self, text: str) -> None:
        self._parts.append(f'<p>{html.escape(text)}</p>')

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        head = ''.join(f'<th>{html.escape(cell)}</th>' for cell in header)
        body = ''.join(
            '<tr>' + ''.join(f'<td>{html.escape(cell)}</td>' for cell in row) + '</tr>\n' for row in rows)
        self._parts.append(f'<table>\n<tr>{head}</tr>\n{body}</table>')

    def figure(self, figure: Figure, caption: str) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format='png', dpi=110)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        caption = html.escape(caption)
        self._parts.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{encoded}">'
            f'<figcaption>{caption}</figcaption></figure>')

    def write(self, path: str) -> None:
        """Write the page atomically."""
        title = html.escape(self.title)
        with atomic_write(path) as file:
            file.write(
                f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
                f'<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n' + '\n'.join(self._parts)
                + '\n</body></html>\n')
