"""Names in error messages, and names chosen by expressions."""
import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from mmreuse.errors import ConfigError

_LONGEST = 120  # letters of a value in a message


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the known names most like ``name``, or with the first twenty of all."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    if close:
        return 'Nearest: ' + ', '.join(f"'{candidate}'" for candidate in close) + '.'
    return 'Known: ' + ', '.join(f"'{candidate}'" for candidate in known[:20]) + (', ...' if known[20:] else '.')


def shown(value: Any) -> str:
    """Return a value as Python would write it, with its middle left out where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST // 2]}...{text[-_LONGEST // 4:]}'


def refuse_unknown(owner: str, given: Iterable[str], known: Collection[str], what: str = 'option') -> None:
    """Refuse the first of some keys that is not known.

    Args:
        owner: Whose they are, for the error.
        given: The keys.
        known: Those that there are.
        what: What a key is called.

    Raises:
        ConfigError: Names it and the nearest.
    """
    for key in given:
        if key not in known:
            raise ConfigError(f"{owner} has no {what} '{key}'. " + (nearest(key, known) if known else 'It has none.'))


def refuse_other(what: str, value: Any, known: Collection[Any]) -> None:
    """Refuse a value that is none of those that an option can have.

    Args:
        what: The option, after its owner where that does not go without saying: ``'Digits: split'``.
        value: The value.
        known: Those that there are.

    Raises:
        ConfigError: Names it and the nearest.
    """
    if value not in known:
        owner, _, option = what.rpartition(': ')
        raise ConfigError(f"{owner and owner + ': '}there is no {option} {shown(value)}. "
                          f'{nearest(str(value), map(str, known))}')


def misspells(name: str, known: Iterable[str]) -> bool:
    """Return whether a name is none of those known but differs from one of them by about a letter."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
    return bool(close) and close[0] != name


def fitting(expressions: Sequence[str], known: Collection[str], kind: str) -> set[str]:
    """Return the names that fit one of the regular expressions as a whole.

    Args:
        expressions: Each has to fit at least one name.
        known: The names.
        kind: What they name, for the error.

    Raises:
        ConfigError: An expression fits no name.
    """
    chosen: set[str] = set()
    for expression in expressions:
        found = {name for name in known if re.fullmatch(expression, name)}
        if not found:
            raise ConfigError(f"'{expression}' fits the name of no {kind}. {nearest(expression, known)}")
        chosen |= found
    return chosen
