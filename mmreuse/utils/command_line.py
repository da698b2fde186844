"""Arguments that tools share; nothing here waits for torch to be imported."""
import ast
import re
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from typing import Any

from mmreuse.errors import ConfigError
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()
from mmengine.config import DictAction  # noqa: E402 (what is missing is said first)

_BRACKETS = {'(': ')', '[': ']'}
_MEMORY = re.compile(r'(\d+(?:\.\d+)?)\s*((?:[KMGT]?B)?)', re.IGNORECASE)
_UNITS = {'': 1e9, 'B': 1., 'KB': 1e3, 'MB': 1e6, 'GB': 1e9, 'TB': 1e12}


def memory(text: str) -> float:
    """Return bytes of a text such as ``2GB``, ``500MB`` or ``2`` (gigabytes).

    Raises:
        ArgumentTypeError: It is none above 0.
    """
    found = _MEMORY.fullmatch(text.strip())
    if found is None or not float(found[1]) > 0:
        raise ArgumentTypeError(f"'{text}' is no amount of memory: give gigabytes, or such as 500MB")
    return float(found[1]) * _UNITS[found[2].upper()]


class OptionAction(DictAction):
    """``KEY=VALUE`` pairs of a command line; what cannot be read as such is named."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Sequence[str] | None,
                 option_string: str | None = None) -> None:
        """Add the pairs to the namespace."""
        for pair in values or ():
            key, equals, value = pair.partition('=')
            if not equals or not all(key.split('.')):
                parser.error(f"{option_string} '{pair}': expected KEY=VALUE with dots between the keys, such as "
                             'train_cfg.max_epochs=3.')
            if not _balanced(value):
                parser.error(f"{option_string} '{pair}': brackets are not balanced. A list is written key=\"[a,b]\".")
        super().__call__(parser, namespace, values, option_string)


def split_options(given: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return names, and the values of ``KEY=VALUE`` pairs, which may stand between them; dots make dictionaries.

    Raises:
        ConfigError: A key is a value and a dictionary.
    """
    names, options = [], {}
    for each in given:
        key, equals, value = each.partition('=')
        *outer, last = key.split('.')
        if equals and (outer or [last])[0].isidentifier() and '/' not in key:  # a path may have '=' in it
            place = options
            for part in outer:
                place = place.setdefault(part, {})
                if not isinstance(place, dict):
                    raise ConfigError(f"'{each}': {part} is {place} already. Give one or the other.")
            place[last] = _literal(value)
        else:
            names.append(each)
    return names, options


def _literal(value: str) -> Any:
    """Return numbers, lists and dictionaries as such; names in brackets need no quotes."""
    try:
        return ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return DictAction._parse_iterable(value)


def add_config_arguments(parser: ArgumentParser) -> None:
    """Add what every tool that reads a config takes."""
    parser.set_defaults(launcher='none', local_rank=0)
    parser.add_argument('--work-dir', help='where logs, artefacts and metrics go (default: work_dirs/<config name>)')
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE',
                        help='override the config, e.g. train_cfg.max_epochs=3 key="[a,b]"')
    parser.add_argument('--seed', type=int, help='random seed (default: of the config)')
    parser.add_argument('--memory-limit', type=memory, metavar='GB', help='that the process may '
                        'take in all, such as 2 or 500MB (default: what the machine has)')


def add_arguments(parser: ArgumentParser) -> None:
    """Add what every tool that runs a config takes, on several processes as well."""
    add_config_arguments(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torchrun passes --local-rank, older launchers --local_rank.
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=SUPPRESS)


def _balanced(text: str) -> bool:
    opened = []
    for letter in text:
        if letter in _BRACKETS:
            opened.append(_BRACKETS[letter])
        elif letter in _BRACKETS.values() and (not opened or opened.pop() != letter):
            return False
    return not opened
