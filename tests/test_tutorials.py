"""Tutorials, in Jupyter, and how-tos run as they stand and print what they show; tutorials show what they conclude."""
import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from docs.pages import cells_of, notebook_of, run

DOCS = Path(__file__).resolve().parents[1] / 'docs/en'
PAGES = sorted((DOCS / 'tutorials').glob('*.md'))
HOW_TOS = [DOCS / 'how_to' / f'{name}.md' for name in ('extend', 'other_tools', 'own_model', 'own_data')]
#: By page: what it concludes, in the names that it has used.
CONCLUSIONS = {
    'merge_two_networks': "scores['plain average'] + 15 < scores['channels matched'] and "
                          "scores['channels matched'] + 15 < scores['channels matched, layers refitted']",
    'small_fast_module': 'report.accuracy() > 0.85 and mask_report.ratio < 0.11 and '
                         'count_macs(module, images[:1]) < 0.31 * count_macs(network, images[:1])',
    'network_for_my_budget': "scores['the same from scratch'] + 20 < scores['reassembled'] and "
                             "scores['the same from scratch'] + 20 < scores['effnet, pruned'] and "
                             'count_macs(assembly, images[:1]) < 5e5',
    'prune_and_recover': "scores['as it is'] + 10 < scores['batch norms reset'] < scores['layers refitted'] - 20 and "
                         "result.networks[1]['agreement'] > result.networks[0]['agreement'] + 20",
}
_NUMBER = re.compile(r'-?\d[\d,.]*(e[-+]\d+)?')


def pattern_of(shown: str) -> re.Pattern:
    """Return what a printed text has to match: any numbers and spaces, and anything for ``...``."""
    pieces = [re.escape(' '.join(_NUMBER.sub('#', piece).split())) for piece in shown.split('...')]
    return re.compile('.*'.join(pieces), re.DOTALL)


def plain(printed: str) -> str:
    """Return a printed text with ``#`` for numbers and single spaces."""
    return ' '.join(_NUMBER.sub('#', printed).split())


def check_printed(shown: str, printed: str) -> None:
    assert pattern_of(shown).fullmatch(plain(printed)), f'shown:\n{shown}\nprinted:\n{printed}'


@pytest.mark.parametrize('page', HOW_TOS, ids=lambda page: page.stem)
def test_a_how_to_runs_and_prints_what_it_shows(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {'__name__': '__main__'}
    for cell in cells_of(page.read_text(encoding='utf-8')):
        if cell.kind == 'markdown':
            continue
        printed = run(cell, names)
        if cell.output is not None:
            check_printed(cell.output, printed)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_a_notebook_runs_in_jupyter_and_prints_what_it_shows(page: Path, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']]))
    notebook = nbformat.read(page.with_suffix('.ipynb'), as_version=4)
    code = [(cell, printed_of(cell)) for cell in notebook.cells if cell.cell_type == 'code']
    notebook.cells.append(nbformat.v4.new_code_cell(f'assert {CONCLUSIONS[page.stem]}'))
    NotebookClient(notebook, timeout=600, resources=dict(metadata=dict(path=tmp_path))).execute()
    for cell, shown in code:
        if shown:
            check_printed(shown, printed_of(cell))


def printed_of(cell: nbformat.NotebookNode) -> str:
    """Return what a cell of a notebook has printed, without the codes of bold letters that commands write there."""
    return re.sub(r'\x1b\[[\d;]*m', '', ''.join(
        output.text for output in cell.outputs if output.get('name') == 'stdout'))


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_a_notebook_is_its_page(page: Path) -> None:
    notebook = page.with_suffix('.ipynb').read_text(encoding='utf-8')
    assert notebook == notebook_of(page.read_text(encoding='utf-8')), 'run: python docs/pages.py docs/en/tutorials/*.md'
    assert all(cell['source'] for cell in json.loads(notebook)['cells'])


@pytest.mark.parametrize(('shown', 'printed', 'same'), [
    ('a   1.5 %\n', 'a 97.25 %', True), ('a 1.5 %\n', 'b 1.5 %', False),
    ('...\nlast 3\n', 'much\nbefore\nlast 4', True),
    ('one 1\ntwo 2\n', 'two 2\none 1', False), ('a 1\n', 'a 1\nb 2', False)])
def test_what_is_shown_is_compared_by_words_and_order(shown: str, printed: str, same: bool) -> None:
    assert bool(pattern_of(shown).fullmatch(plain(printed))) is same
