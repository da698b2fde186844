"""Configs, texts and files with one thing wrong."""
import copy
import random
from collections.abc import Iterator
from typing import Any

VALUES = (None, '', 'x', -1, 0, 1, 2.5, float('nan'), float('inf'), True, [], {}, [1, 'x'], dict(type='x'),
          dict(type='Accuracy'), 'no/such/file.pth', '/dev/null', '.', 'é' * 300, [[]], 1e-30, -2.5)
KINDS = ('key', 'type', 'absent', 'value', 'number', 'moved', 'twice')


def misspelt(name: str, draw: random.Random) -> str:
    """The name with one letter too many in its middle."""
    place = draw.randrange(1, len(name)) if len(name) > 1 else 1
    return name[:place] + 'q' + name[place:]


def places(values: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of everything in a tree of dicts and lists."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield (*path, key)
        if isinstance(value, dict | list | tuple) and not (path == () and key.startswith('_')):
            yield from places(value, (*path, key))


def mutate(values: dict, path: tuple, kind: str, draw: random.Random) -> dict:
    """A copy with the key, the type or the value at a path changed."""
    values = as_lists(copy.deepcopy(values))
    level = at(values, path[:-1])
    last = path[-1]
    if kind == 'key':
        level[misspelt(last, draw)] = level.pop(last)
    elif kind == 'type':
        level[last] = misspelt(level[last], draw)
    elif kind == 'absent':
        del level[last]
    elif kind == 'number':
        level[last] = draw.choice((-level[last], level[last] + 1, 3 * level[last], level[last] / 2, str(level[last])))
    elif kind == 'moved':
        level[last] = copy.deepcopy(at(values, draw.choice(list(places(values)))))
    elif kind == 'twice':
        level.insert(last, copy.deepcopy(level[last]))
    else:
        level[last] = copy.deepcopy(draw.choice(VALUES))
    return values


def any_mutation(values: dict, draw: random.Random) -> tuple[dict, tuple, str]:
    """A copy with anything changed, the path of what was changed, and how."""
    every = list(places(values))
    while True:
        path, kind = draw.choice(every), draw.choice(KINDS)
        found = at(values, path)
        fits = dict(key=isinstance(path[-1], str), type=path[-1] == 'type' and isinstance(found, str),
                    number=isinstance(found, int | float) and not isinstance(found, bool),
                    twice=isinstance(path[-1], int))
        if fits.get(kind, True):
            return mutate(values, path, kind, draw), path, kind


def at(values: Any, path: tuple) -> Any:
    """What stands at a path."""
    for key in path:
        values = values[key]
    return values


def as_lists(values: Any) -> Any:
    """With lists in place of tuples, which cannot be changed."""
    if isinstance(values, dict):
        return {key: as_lists(value) for key, value in values.items()}
    return [as_lists(value) for value in values] if isinstance(values, list | tuple) else values


def damaged_text(text: str, draw: random.Random) -> tuple[str, str]:
    """A text with letters, lines or its end missing or wrong, and what was done."""
    lines = text.splitlines(keepends=True)
    place, line = draw.randrange(len(text)), draw.randrange(len(lines))
    kind = draw.choice(('cut', 'letter', 'line gone', 'line twice', 'letter gone', 'bytes'))
    if kind == 'cut':
        return text[:place], kind
    if kind == 'letter':
        return text[:place] + draw.choice('x0([{\'"=,.:#\\ é\0') + text[place + 1:], kind
    if kind == 'letter gone':
        return text[:place] + text[place + 1:], kind
    if kind == 'bytes':
        return text[:place] + '\udcff' + text[place:], kind
    return ''.join([*lines[:line], *([lines[line]] * 2 if kind == 'line twice' else []), *lines[line + 1:]]), kind


def damaged_bytes(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Bytes of a file of which some are missing or wrong, and what was done."""
    kind = draw.choice(('cut', 'flipped', 'zeros', 'empty', 'longer', 'middle gone', 'noise'))
    place = draw.randrange(len(data)) if data else 0
    span = draw.randrange(1, 65)
    if kind == 'cut':
        return data[:place], kind
    if kind == 'flipped' and data:
        return data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1:], kind
    if kind == 'zeros':
        return data[:place] + bytes(min(span, len(data) - place)) + data[place + span:], kind
    if kind == 'longer':
        return data + draw.randbytes(span), kind
    if kind == 'middle gone':
        return data[:place] + data[place + span:], kind
    return (draw.randbytes(len(data)), kind) if kind == 'noise' else (b'', 'empty')
