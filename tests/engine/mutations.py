"""Configs with one thing wrong."""
import copy
import random
from collections.abc import Iterator
from typing import Any

VALUES = (None, 'x', -1, 0, 2.5, float('nan'), True, [], {}, [1, 'x'], dict(type='x'))


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
    level = values
    for key in path[:-1]:
        level = level[key]
    last = path[-1]
    if kind == 'key':
        level[misspelt(last, draw)] = level.pop(last)
    elif kind == 'type':
        level[last] = misspelt(level[last], draw)
    elif kind == 'absent':
        del level[last]
    else:
        level[last] = copy.deepcopy(draw.choice(VALUES))
    return values


def as_lists(values: Any) -> Any:
    """With lists in place of tuples, which cannot be changed."""
    if isinstance(values, dict):
        return {key: as_lists(value) for key, value in values.items()}
    return [as_lists(value) for value in values] if isinstance(values, list | tuple) else values
