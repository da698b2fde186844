"""What the documentation names exists: files, links, names of mmreuse; docstrings describe every config key."""
import importlib
import re
from pathlib import Path

import pytest

from docs.reference import PAGES as WRITTEN

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(str(path.relative_to(ROOT)) for pattern in ('*.md', 'docs/en/**/*.md', 'configs/**/*.md', 'tests/*.md')
               for path in ROOT.glob(pattern))
PATH = re.compile(r'(?<![\w/.-])(?:mmreuse|configs|tools|docs|tests|examples|benchmarks|requirements)/[\w./+-]*[\w+]')
LINK = re.compile(r'\]\(([^)#\s]+)')
NAME = re.compile(r'(?<![\w/.])mmreuse(?:\.[A-Za-z_]\w*)+')
#: What a reader puts something of his own for.
PLACEHOLDER = re.compile(r'(^|[^A-Za-z])[A-Z][A-Z_]+([^A-Za-z]|$)')


def resolves(name: str) -> bool:
    """Say whether a dotted name is a module, or an attribute of one."""
    parts = name.split('.')
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module('.'.join(parts[:count]))
        except ModuleNotFoundError as error:
            if not (error.name or '').startswith('mmreuse'):
                raise
            continue
        for part in parts[count:]:
            if not hasattr(found, part) and part not in getattr(found, '__annotations__', {}):
                return False
            found = getattr(found, part, None)
        return True
    return False


@pytest.mark.parametrize('page', PAGES)
def test_what_a_page_names_exists(page):
    text, missing = (ROOT / page).read_text(encoding='utf-8'), []
    for path in {match[0] for match in PATH.finditer(text) if not PLACEHOLDER.search(match[0])}:
        # Of names such as `configs/zipit/resnet20_`, cut short before `{` or `*`, the beginning has to exist.
        if not (ROOT / path).exists() and not list(ROOT.glob(f'{path}*')):
            missing.append(path)
    for link in {match[1] for match in LINK.finditer(text) if '://' not in match[1]}:
        if not (ROOT / page).parent.joinpath(link).exists():
            missing.append(link)
    missing += [name for name in {match[0] for match in NAME.finditer(text)} if not resolves(name)]
    assert not missing, f'{page} names what is not there: {", ".join(sorted(missing))}'


def test_a_name_that_is_not_there_is_found():
    assert resolves('mmreuse.merging.merge') and resolves('mmreuse.graph.TracedModel.verify')
    assert not resolves('mmreuse.merging.marge') and not resolves('mmreuse.no_such_room.merge')


@pytest.mark.parametrize('name', WRITTEN)
def test_docstrings_describe_every_key_of_a_config(name):
    page = WRITTEN[name]()
    assert page.count('\n### ') > 60
    assert not re.findall(r'^\| `\w+` \| .* \|  \|$', page, re.MULTILINE)
    wrong = {each for each in NAME.findall(page) if not resolves(each)}
    assert not wrong, f'docstrings name what is not there: {", ".join(sorted(wrong))}'
