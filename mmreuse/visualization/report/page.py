"""A report that is one HTML file: what was done, what to conclude, tables, figures; nothing is fetched."""
import html
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import Any

from matplotlib.figure import Figure

from mmreuse.graph import FeatureSpace
from mmreuse.utils.files.atomic import atomic_write
from mmreuse.utils.setup_env import require_openmmlab
from mmreuse.utils.tables import column_texts
from mmreuse.version import __version__
from mmreuse.visualization.report.conclusions import best_rows
from mmreuse.visualization.report.figures import inline_svg
from mmreuse.visualization.report.glossary import Glossary
from mmreuse.visualization.report.spaces import draw_spaces

Row = Mapping[str, Any]
#: Inches up to which two figures have room side by side.
_HALF = 8


class Report:
    """Collects sections and writes them as one self-contained page.

    Args:
        title: Heading of the page.
        lead: A sentence below it.
    """

    def __init__(self, title: str, lead: str = '') -> None:
        self.title, self.lead = title, lead
        self._glossary = Glossary()
        self._sections: list[list[str]] = []
        self._contents: list[str] = []
        self._figures = 0

    def section(self, title: str, done: str = '', conclusion: str = '', more: Sequence[str] = ()) -> None:
        """Begin a section.

        Args:
            title: Its heading.
            done: What was done.
            conclusion: What to conclude in one sentence, which also stands at the top of the page.
            more: Sentences that follow it.
        """
        anchor = f'section-{len(self._contents) + 1}'
        said = f': {html.escape(conclusion)}' if conclusion else ''
        self._contents.append(f'<li><a href="#{anchor}">{html.escape(title)}</a>{said}</li>\n')
        self._sections.append([f'<h2 id="{anchor}">{html.escape(title)}</h2>'])
        if done:
            self.text(done)
        if conclusion:
            self._add(f'<p class="conclusion">{self._glossary.marked(" ".join([conclusion, *more]))}</p>')

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._add(f'<p>{self._glossary.marked(text)}</p>')

    def table(self, rows: Sequence[Row], headings: Mapping[str, str] | None = None, *, best: str | None = None,
              lowest: bool = False, among: Callable[[Row], bool] = bool) -> None:
        """Add a table that sorts by a click on a heading.

        Args:
            rows: Values by column.
            headings: By column, in order; by default all columns under their own names. Empty ones are left out.
            best: Column whose best value marks its row, or rows.
            lowest: The smallest is the best.
            among: Which rows may be best.
        """
        headings = headings or {key: key for key in dict.fromkeys(key for row in rows for key in row)}
        headings = {key: text for key, text in headings.items() if any(row.get(key) not in (None, '') for row in rows)}
        marked = [id(row) for row in best_rows([row for row in rows if among(row)], best, lowest)] if best else []
        head = ''.join(f'<th scope="col"><button>{self._glossary.marked(text)}</button></th>'
                       for text in headings.values())
        columns = [[row.get(key) for row in rows] for key in headings]
        texts = zip(*map(column_texts, columns), strict=True)
        body = ''.join(self._row(values, cells, id(row) in marked)
                       for row, values, cells in zip(rows, zip(*columns, strict=True), texts, strict=True))
        self._add(f'<div class="table" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
                           f'<tbody>{body}</tbody></table></div>')
        if marked:
            self._add('<p class="soft">★ best; a click on a heading sorts.</p>')

    def figures(self, figures: Mapping[str, Figure]) -> None:
        """Add figures of matplotlib, by their captions, side by side where there is room; they are used up."""
        self._add(f'<div class="figures">{"".join(map(self._figure, figures.values(), figures))}</div>')

    def spaces(self, spaces: Mapping[str, FeatureSpace], caption: str) -> None:
        """Add the drawing of a traced network's feature spaces, unless there are too many."""
        if (drawing := draw_spaces(spaces)) is not None:
            self._add(f'<details><summary>Feature spaces</summary><figure>{drawing}'
                               f'<figcaption>{self._glossary.marked(caption)}</figcaption></figure></details>')

    def files(self, files: Mapping[str, str | Path], folder: str | Path) -> None:
        """Add links to files that are there.

        Args:
            files: By what is said of them.
            folder: Where the report will be; links are relative to it.
        """
        found = [f'<a href="{html.escape(os.path.relpath(path, folder))}">{html.escape(text)}</a>'
                 for text, path in files.items() if Path(path).exists()]
        if found:
            self._add(f'<p>Files: {", ".join(found)}</p>')

    def details(self, summary: str, text: str) -> None:
        """Add a text, such as a config, that opens by a click."""
        self._add(f'<details><summary>{html.escape(summary)}</summary>'
                           f'<pre tabindex="0">{html.escape(text)}</pre></details>')

    def write(self, path: str | Path) -> None:
        """Write the page atomically."""
        here = resources.files(__package__)
        page, style, script = ((here / f'page.{kind}').read_text(encoding='utf-8') for kind in ('html', 'css', 'js'))
        sections = '\n'.join('\n'.join(['<section>', *parts, '</section>']) for parts in self._sections)
        contents = f'<nav aria-label="Conclusions"><ol>\n{"".join(self._contents)}</ol></nav>'
        text = Template(page).substitute(
            title=html.escape(self.title), style=style, script=script, footer=html.escape(versions()),
            lead=f'<p>{self._glossary.marked(self.lead)}</p>' if self.lead else '',
            contents=contents if len(self._contents) > 1 else '',
            sections=sections, glossary=self._glossary.listed())
        with atomic_write(Path(path)) as file:
            file.write(text)

    def _figure(self, figure: Figure, caption: str) -> str:
        self._figures += 1
        whole = ' class="whole"' if figure.get_figwidth() > _HALF else ''
        wide, narrow = inline_svg(figure, f'{self.title} {self._figures}')
        self._glossary.meet(re.findall(r'<text[^>]*>([^<]*)', wide))
        drawn = ''.join(f'<div class="{name}" tabindex="0" role="img" aria-label="{html.escape(caption)}">{svg}</div>'
                        for name, svg in (('wide', wide), ('narrow', narrow)))
        return f'<figure{whole}>{drawn}<figcaption>{self._glossary.marked(caption)}</figcaption></figure>\n'

    def _add(self, part: str) -> None:
        if not self._sections:
            self._sections.append([])
        self._sections[-1].append(part)

    def _row(self, values: Sequence[Any], texts: Sequence[str], best: bool) -> str:
        cells = []
        for value, text in zip(values, texts, strict=True):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            marked = html.escape(text) if number else self._glossary.marked(text)
            cells.append(f'<td{f" data-value={value!r}" if number else ""}>{marked}</td>')
        return f'<tr{" class=best" if best else ""}>{"".join(cells)}</tr>\n'


def versions() -> str:
    """Return what a result was made with: mmreuse, the libraries below, Python, the machine."""
    libraries = ', '.join([*require_openmmlab().values(), *(f'{name} {metadata.version(name)}'
                                                           for name in ('torch', 'numpy'))])
    return (f'mmreuse {__version__}; {libraries}; Python {platform.python_version()}; {platform.system()} '
            f'{platform.machine()}')
