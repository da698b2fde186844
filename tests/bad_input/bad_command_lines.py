"""Command lines of every tool, made of its own parser, with values that fit and values that do not."""
import argparse
import os
import random
import shutil
from functools import cache
from pathlib import Path
from unittest.mock import patch

from bad_data import png_bomb, write_images
from cases import Case
from mutations import misspelt
from trial import ROOT, tool
from workspace import SOURCES, Workspace

from mmreuse.command_line import InputSizeAction
from mmreuse.utils.command_line import OptionAction

#: These train or trace for minutes, or fetch files.
_SLOW = ('quickstart.py', 'misc/prepare_weights.py', 'analysis_tools/verify_graph.py')
_NUMBERS = ('1', '2', '0', '-1', '3', '2.5', 'x', '')
_PAIRS = ('randomness.seed=1', 'train_cfg.max_epochs=1', 'seed=2', 'x=', '=1', 'a.b=[1', 'model.backbone.depth=8',
          'zoo.9.key=x', 'trian_cfg.max_epochs=2', 'test_dataloader.batch_size=0', 'model=None', 'type=permute', 'x')
_TRAINED = [path for path in SOURCES if '/quickstart/' in path and 'convnext' not in path]


class _Parser(Exception):
    """Carries the parser of a tool."""


def bad_command_line(workspace: Workspace, draw: random.Random, folder: Path) -> Case:
    """A tool with arguments drawn for each that its parser knows."""
    name = draw.choice(tools())
    furnish(workspace, folder)
    arguments = draw_arguments(parser_of(name), workspace, draw, folder)
    if draw.random() < 0.25 and arguments:
        _spoil(arguments, draw)

    def call() -> None:
        os.environ['MMREUSE_DATA_ROOT'] = str(folder)  # where converters write by default
        tool(name, *arguments)

    return Case(f'{name} {" ".join(map(repr, arguments))}'.replace(str(folder), '.'), call, folder=folder)


@cache
def tools() -> list[str]:
    """Return the tools that have a command line of their own."""
    every = sorted(str(path.relative_to(ROOT / 'tools')) for path in (ROOT / 'tools').rglob('*.py'))
    return [name for name in every if name not in _SLOW and "== '__main__'" in (ROOT / 'tools' / name).read_text()]


@cache
def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of a tool, which it makes when it starts."""
    found = []

    def stop(self: argparse.ArgumentParser, *_: object) -> None:
        found.append(self)
        raise _Parser

    try:
        with patch.multiple(argparse.ArgumentParser, parse_args=stop, parse_intermixed_args=stop):
            tool(name)
    except _Parser:
        return found[0]
    raise RuntimeError(f'{name} parses no arguments')


def furnish(workspace: Workspace, folder: Path) -> None:
    """Put files of every kind into a folder."""
    for name in ('configs', 'small'):
        (folder / name).symlink_to(workspace.folder / name)
    shutil.copytree(workspace.folder / 'work_dirs', folder / 'work_dirs',
                    ignore=shutil.ignore_patterns('2026*', '*.log'))
    for number, source in enumerate(sorted((workspace.folder / 'runs').glob('*/*/network.safetensors'))[:3]):
        shutil.copy(source, folder / f'network{number}.safetensors')
    shutil.copy(workspace.result(_TRAINED[0]) / 'epoch_1.pth', folder / 'epoch_1.pth')
    (folder / 'empty.pth').touch()
    (folder / 'vectors.csv').write_text('i,a,b\n0,1,0\n1,0,1\n')
    (folder / 'names.txt').write_text('cat\ndog\n')
    (folder / 'image.png').write_bytes(png_bomb())
    (folder / 'broken.json').write_text('{"a": ')
    (folder / 'a folder').mkdir()
    write_images(folder / 'photos', random.Random(0))


def arguments_with(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments of a parser that may be a file: texts that are no choice."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [each for sub in action.choices.values() for each in arguments_with(sub)]
        elif action.type in (None, str, Path) and action.choices is None and action.nargs != 0 \
                and not isinstance(action, OptionAction | InputSizeAction):
            found.append(action)
    return found


def draw_arguments(parser: argparse.ArgumentParser, workspace: Workspace, draw: random.Random,
                   folder: Path) -> list[str]:
    """Return arguments for a parser.

    Args:
        parser: Knows them.
        workspace: Has configs.
        draw: Of which, and of values.
        folder: Has files; see :func:`furnish`.
    """
    found: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            chosen = draw.choice(list(action.choices))
            found += [chosen, *draw_arguments(action.choices[chosen], workspace, draw, folder)]
        elif not isinstance(action, argparse._HelpAction) and (
                action.required or not action.option_strings or draw.random() < 0.25):
            flag = [draw.choice(action.option_strings)] if action.option_strings else []
            found += [*flag, *(_value(action, workspace, draw, folder) for _ in range(_count(action, draw)))]
    return found


def _count(action: argparse.Action, draw: random.Random) -> int:
    if isinstance(action.nargs, int):
        return action.nargs
    return {None: 1, '?': draw.randrange(2), '*': draw.randrange(3), '+': draw.randrange(1, 4)}[action.nargs]


def _value(action: argparse.Action, workspace: Workspace, draw: random.Random, folder: Path) -> str:
    name = f'{action.dest} {action.metavar}'.lower()
    if action.choices is not None:
        return draw.choice([*map(str, action.choices)] * 4 + ['x', ''])
    if action.dest == 'job':
        return draw.choice(('prune_channels', 'renormalize', 'merge', 'x'))
    if isinstance(action, OptionAction):
        return draw.choice(_PAIRS)
    if action.type in (int, float) or isinstance(action, InputSizeAction):
        return draw.choice(_NUMBERS)
    if 'config' in name and draw.random() < 0.85:
        return str(draw.choice([workspace.small(path) for path in _TRAINED + [
            'configs/quickstart/merge_digits.py', 'configs/quickstart/curve_digits.py',
            'configs/quickstart/module_digits.py', 'configs/quickstart/dery_digits.py',
            'configs/mergers/all_digits.py']]))
    if any(word in name for word in ('out', 'dir', 'file')):
        own = [str(folder / each) for each in ('made', 'made.safetensors', 'made.onnx', 'made.json', 'names.txt/x')]
        return draw.choice([*own, '/proc/nowhere', str(folder), ''])
    return draw.choice([str(folder / each) for each in (
        'network0.safetensors', 'network1.safetensors', 'network0.safetensors', 'epoch_1.pth', 'epoch_1.pth',
        'empty.pth', 'vectors.csv', 'names.txt', 'image.png', 'broken.json', 'a folder', 'photos', 'missing.pth',
        'missing.safetensors')] + [
        '', 'x', '3', 'permute', 'resnet', '/dev/null', 'é\udcff', 'result://configs/quickstart/resnet_digits.py',
        'timm:resnet18', 'a=b'])


def _spoil(arguments: list[str], draw: random.Random) -> None:
    place = draw.randrange(len(arguments))
    kind = draw.choice(('gone', 'twice', 'misspelt', 'swapped'))
    if kind == 'gone':
        del arguments[place]
    elif kind == 'twice':
        arguments.insert(place, arguments[place])
    elif kind == 'misspelt' and arguments[place]:
        arguments[place] = misspelt(arguments[place], draw)
    else:
        other = draw.randrange(len(arguments))
        arguments[place], arguments[other] = arguments[other], arguments[place]
