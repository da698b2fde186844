"""The migration page: every row's command is accepted by its tool and its config; on small data it runs, too."""
import re
import shlex
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import pytest

import mmreuse.command_line
from mmreuse.__main__ import main
from mmreuse.engine import launch
from mmreuse.engine.configs.config_check import check_config

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/en/how_to/migrate.md'
_SECTION = re.compile(r'^### (.*?)\n(.*?)(?=^#{2,3} |\Z)', re.MULTILINE | re.DOTALL)
_BASH = re.compile(r'```bash\n(.*?)```', re.DOTALL)


@dataclass(frozen=True)
class Section:
    """A command of an original program: its name, our commands, and rows of theirs, ours and a remark."""
    name: str
    commands: tuple[tuple[str, ...], ...]
    rows: tuple[tuple[str, str, str], ...]

    @property
    def options(self) -> list[list[str]]:
        """Return the options that rows add to the last command."""
        return [shlex.split(ours.strip('`')) for _, ours, _ in self.rows if ours != 'none']

    @property
    def on_digits(self) -> bool:
        """Say whether all of it runs without data of one's own."""
        return all('digits' in ' '.join(command) or command[0] == 'mmreuse' for command in self.commands)


def sections() -> list[Section]:
    """Return what the page holds, in order."""
    found = []
    for name, body in _SECTION.findall(PAGE.read_text(encoding='utf-8')):
        block = _BASH.search(body)
        lines = block[1].strip().splitlines() if block else ()
        rows = [tuple(cell.strip() for cell in line.strip('|').split(' | ')) for line in body.splitlines()
                if line.startswith('|') and not line.startswith(('|---', '| theirs'))]
        found.append(Section(name, tuple(tuple(shlex.split(line)) for line in lines),
                             tuple((row[0], row[1], row[2] if len(row) > 2 else '') for row in rows)))
    return found


def start(words: tuple[str, ...] | list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a command in this process."""
    monkeypatch.setattr(sys, 'argv', ['mmreuse'])
    if words[0] == 'mmreuse':
        main(words[1:])
        return
    tool = ROOT / words[1]
    monkeypatch.setattr(sys, 'argv', [str(tool), *words[2:]])
    exec(compile(tool.read_text(encoding='utf-8'), str(tool), 'exec'), {'__name__': '__main__', '__file__': str(tool)})


SECTIONS = sections()


def test_the_page_has_tables_for_all_five() -> None:
    headings = re.findall(r'^## (.*)$', PAGE.read_text(encoding='utf-8'), re.MULTILINE)
    assert [heading.split(',')[0] for heading in headings] == [
        'DeRy', 'SeaM', 'ZipIt!', 'Vanishing feature', 'WoodFisher']
    rows = [row for section in SECTIONS for row in section.rows]
    assert len(rows) > 150
    for theirs, ours, why in rows:
        assert ours == 'none' and why or ours.startswith('`') and ours.endswith('`'), theirs


@pytest.mark.parametrize('section', [each for each in SECTIONS if each.commands], ids=lambda section: section.name)
def test_every_row_is_accepted(section: Section, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Namespace] = []
    monkeypatch.setattr(mmreuse.command_line, 'run_tool', lambda run, args: taken.append(args))
    given = [*section.commands, *([*section.commands[-1], *options] for options in section.options)]
    for words in given:
        start(words, monkeypatch)
    assert len(taken) == len(given)
    monkeypatch.chdir(ROOT)
    for args in taken:
        if getattr(args, 'config', None) is not None:
            check_config(launch.prepare(Namespace(**{'work_dir': None, 'seed': None, 'cfg_options': None,
                                                     'launcher': 'none', 'local_rank': 0, **vars(args)})))


@pytest.mark.slow
def test_what_is_on_the_digits_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for section in SECTIONS:
        if section.commands and section.on_digits:
            for words in section.commands[:-1]:
                start(words, monkeypatch)
            start([*section.commands[-1], *(word for options in section.options for word in options)], monkeypatch)
