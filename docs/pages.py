"""Run the code of documentation pages, and make notebooks of them.

    python docs/pages.py docs/en/tutorials/*.md    # writes what each page prints into it, and its notebook beside it

A page is Markdown. Its blocks of ``python`` and ``bash`` are run in order, in one process and one folder; a block of
``text`` behind one of them is what that one prints, and stays as it is where it leaves something out by ``...``. A
block of ``python`` that begins with ``# NAME.py`` is written to that file.
"""
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r'^```(python|bash)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?', re.MULTILINE | re.DOTALL)
_FILE = re.compile(r'# (\w+\.py)\n')
_KERNEL = dict(kernelspec=dict(display_name='Python 3', language='python', name='python3'),
               language_info=dict(name='python'))


@dataclass(frozen=True)
class Cell:
    """A piece of a page.

    Attributes:
        kind: ``'markdown'``, ``'python'``, ``'bash'`` or ``'file'``.
        source: Text or code.
        output: What the page says that it prints; None if it says nothing.
        start: Where the source begins in the page.
    """
    kind: str
    source: str
    output: str | None = None
    start: int = 0


def cells_of(text: str) -> Iterator[Cell]:
    """Yield the pieces of a page in order."""
    end = 0
    for block in _BLOCK.finditer(text):
        if before := text[end:block.start()].strip('\n'):
            yield Cell('markdown', before)
        kind = 'file' if block[1] == 'python' and _FILE.match(block[2]) else block[1]
        yield Cell(kind, block[2].rstrip('\n'), block[3], block.start())
        end = block.end()
    if after := text[end:].strip('\n'):
        yield Cell('markdown', after)


def run(cell: Cell, namespace: dict[str, Any]) -> str:
    """Run a piece of code in this process and the current folder.

    Args:
        cell: Of kind python, bash or file.
        namespace: Names that the pieces before have left; gets those of this one.

    Returns:
        str: What it printed.
    """
    if cell.kind == 'file':
        Path(_FILE.match(cell.source)[1]).write_text(cell.source + '\n', encoding='utf-8')
        return ''
    with redirect_stdout(StringIO()) as printed:
        if cell.kind == 'python':
            exec(compile(cell.source, '<page>', 'exec'), namespace)
        else:
            _run_commands(cell.source)
    # Bars of progress, which a terminal wipes out, leave empty lines.
    return ''.join(f'{line.rstrip()}\n' for line in printed.getvalue().splitlines() if line.strip())


def _run_commands(source: str) -> None:
    """Run lines of a shell, those of ``mmreuse`` in this process: starting Python anew takes seconds."""
    from mmreuse.__main__ import main
    arguments = sys.argv
    for line in source.replace('\\\n', ' ').splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ['mmreuse']:
            try:
                main(words[1:])
            finally:
                sys.argv = arguments
        elif words:
            print(subprocess.run(line, shell=True, check=True, text=True, stdout=subprocess.PIPE).stdout)


def notebook_of(text: str) -> str:
    """Return the notebook of a page, with the outputs that the page shows."""
    cells = []
    for number, cell in enumerate(cells_of(text)):
        source = {'bash': '%%bash\n', 'file': f'%%writefile {_file(cell)}\n'}.get(cell.kind, '') + cell.source
        common = dict(id=f'cell-{number}', metadata={}, source=source.splitlines(keepends=True))
        if cell.kind == 'markdown':
            cells.append(dict(cell_type='markdown', **common))
            continue
        shown = [] if cell.output is None else [
            dict(name='stdout', output_type='stream', text=cell.output.splitlines(keepends=True))]
        cells.append(dict(cell_type='code', execution_count=None, outputs=shown, **common))
    return json.dumps(dict(cells=cells, metadata=_KERNEL, nbformat=4, nbformat_minor=5), indent=1) + '\n'


def _file(cell: Cell) -> str:
    found = _FILE.match(cell.source)
    return found[1] if found else ''


def update(text: str) -> str:
    """Run a page in the current folder, and return it with what it prints now."""
    namespace: dict[str, Any] = {'__name__': '__main__'}
    found = [(cell, run(cell, namespace)) for cell in cells_of(text) if cell.kind != 'markdown']
    for cell, printed in reversed(found):
        if cell.output is not None and '...' not in cell.output:
            start = text.index('```text\n', cell.start) + len('```text\n')
            text = text[:start] + printed + text[start + len(cell.output):]
    return text


if __name__ == '__main__':
    for page in map(Path, sys.argv[1:]):
        page = page.resolve()
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            page.write_text(update(page.read_text(encoding='utf-8')), encoding='utf-8')
        page.with_suffix('.ipynb').write_text(notebook_of(page.read_text(encoding='utf-8')), encoding='utf-8')
        print(f'{page}: run')
