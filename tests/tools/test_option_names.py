"""One name for a thing, over all tools; the rule is in docs/en/reference/command_line.md."""
import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tests/bad_input'))
from bad_command_lines import parser_of, tools  # noqa: E402

from mmreuse.command_line import InputSizeAction, ToolParser  # noqa: E402
from mmreuse.utils.command_line import OptionAction  # noqa: E402

TOOLS = (*tools(), 'analysis_tools/verify_graph.py')
#: By the name of a thing, what else it could be called.
SYNONYMS = {
    '--out': 'out-dir out-file output output-dir save save-dir dest result results',
    '--work-dir': 'workdir run-dir log-dir', '--input-size': 'size image-size img-size resolution shape',
    '--batch-size': 'batch bs', '--batch-sizes': 'batches', '--targets': 'target', '--checkpoints': 'pair ckpts',
    '--checkpoint': 'ckpt', '--model-options': 'options model-args kwargs',
    '--cfg-options': 'cfg-option config-options',
    '--passes': 'repeats repetitions', '--draws': 'sample trials', '--memory-limit': 'memory max-memory',
    '--workers': 'num-workers jobs', '--samples': 'num-samples num-images', '--seed': 'random-seed',
    '--threads': 'num-threads', '--images': 'image-folder data-root', '--model': 'arch architecture',
    '--engines': 'backends', '--classes': 'class-names'}
#: Take several values, and are no plural.
NOT_COUNTED = {'--plain', '--of', '--source', '--param'}


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from options(sub)
        elif action.option_strings and not isinstance(action, argparse._HelpAction):
            yield action


@pytest.fixture(scope='module')
def known() -> list[tuple[str, argparse.Action]]:
    """Every option of every tool."""
    return [(name, action) for name in TOOLS for action in options(parser_of(name))]


def test_no_option_is_a_synonym_of_another(known) -> None:
    wanted = {f'--{other}': name for name, others in SYNONYMS.items() for other in others.split()}
    flags = {(path.name, flag) for path in (ROOT / 'benchmarks').glob('*.py')
             for flag in re.findall(r"add_argument\('(--[a-z-]+)'", path.read_text())}
    assert not [(name, flag, wanted[flag]) for name, flag in sorted(flags) if flag in wanted] and len(flags) > 20
    wrong = [f'{tool}: {flag}, which is {wanted[flag]} elsewhere' for tool, action in known
             for flag in action.option_strings if flag in wanted]
    assert not wrong
    assert len({flag for _, action in known for flag in action.option_strings} & SYNONYMS.keys()) > 12


def test_an_option_has_one_name_in_a_tool(known) -> None:
    assert not [(tool, action.option_strings) for tool, action in known
                if len(action.option_strings) > 1 and action.help != argparse.SUPPRESS]


def test_what_takes_several_values_is_a_plural(known) -> None:
    several = {flag for _, action in known for flag in action.option_strings
               if (action.nargs in ('+', '*') or isinstance(action.nargs, int) and action.nargs > 1)
               and not isinstance(action, OptionAction | InputSizeAction)}
    assert {flag for flag in several if not flag.endswith('s')} <= NOT_COUNTED
    assert '--engines' in several


def test_former_spellings_lead_to_names_that_are_there() -> None:
    found = 0
    for name in TOOLS:
        parser = parser_of(name)
        there = {flag for action in options(parser) for flag in action.option_strings}
        if isinstance(parser, ToolParser):
            found += len(parser.aliases)
            assert set(parser.aliases.values()) <= there and not parser.aliases.keys() & there, name
    assert found > 5
